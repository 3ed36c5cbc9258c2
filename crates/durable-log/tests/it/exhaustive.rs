//! Goal: what the log promises holds after every power cut of every small workload, whatever the disk then
//! has of the unsynced bytes and names, and when the power goes again while the log opens. Method: all
//! sequences of operations up to a length, with at most four appends; the power goes at each operation of
//! the disk; every legal outcome is made, and each different one is checked against eight invariants
//! (`exhaustive::invariants`).
//!
//! What is left out because it is the same as something that is checked:
//!
//! - a sequence in which an operation did nothing, neither to the disk nor to what was said;
//! - a power cut that the beginning of the sequence had already;
//! - an outcome that leaves the same names and bytes after the same promises as an earlier one.
//!
//! Which sequences ([`Bound`]): all up to a length, in which any operation may come any number of times; and,
//! with `DURABLE_LOG_CRASHES=all` as `cargo xtask test` sets it, all with up to four appends and at most one
//! sync, one roll, one trim (retention) and one reopening (in order, or after the process died), in every
//! order, which makes up to eight operations. A number instead of `all` is the length alone.
//!
//! Where a power cut has more outcomes than [`OUTCOMES_MAX`], that many are drawn by seed; the line
//! `covered:` that each test prints says how often.

mod invariants;
mod outcomes;

use std::collections::HashSet;
use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};

use host::sim::Machine;

use self::outcomes::{Drawn, each_outcome};
use crate::support::{Place, small};
use crate::workload::{Found, Op, Said, run_seeing};

const APPENDS_MAX: usize = 4;
/// What workloads do besides appending.
const OTHERS: [Op; 7] = [Op::WriteOut, Op::Sync, Op::Roll, Op::Trim, Op::Cut, Op::Close, Op::Kill];
/// Power cuts with more outcomes than this are sampled.
pub(crate) const OUTCOMES_MAX: usize = 400;
/// The power goes again during the recovery from workloads up to this length; of longer ones in one of so
/// many states.
const RECOVERIES_ALL: usize = 3;
const RECOVERIES_ONE_OF: u64 = 4;

/// What a run looks at.
#[derive(Clone, Copy, Debug)]
struct Plan {
    segment_bytes: u64,
    /// What all workloads begin with.
    begin: &'static [Op],
    /// Records and their length for each append after that.
    appends: [(usize, usize); APPENDS_MAX],
    /// Whether the disk can reserve room.
    reserves: bool,
    everyday: Bound,
    all: Bound,
}

/// Which sequences of operations are looked at; the beginning of each is one too.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Any operations, up to so many.
    any: usize,
    /// Operations besides appends that come at most once each, also in longer sequences.
    once: &'static [&'static [Op]],
}

/// Sync, roll, trim and one of two ways to reopen.
const EACH_ONCE: &[&[Op]] = &[&[Op::Sync], &[Op::Roll], &[Op::Trim], &[Op::Close, Op::Kill]];

impl Bound {
    const fn any(length: usize) -> Self {
        Self { any: length, once: &[] }
    }

    const fn or_each_once(self) -> Self {
        Self { once: EACH_ONCE, ..self }
    }

    fn includes(&self, ops: &[Op]) -> bool {
        let others = ops.iter().filter(|op| !matches!(op, Op::Append(..))).count();
        let one_of = |kind: &&[Op]| ops.iter().filter(|op| kind.contains(op)).count();
        let at_most_once = self.once.iter().all(|kind| one_of(kind) <= 1)
            && self.once.iter().map(one_of).sum::<usize>() == others;
        ops.len() <= self.any || (!self.once.is_empty() && at_most_once)
    }
}

impl Plan {
    fn bound(&self) -> Bound {
        match env::var("DURABLE_LOG_CRASHES").as_deref() {
            Ok("all") => self.all,
            Ok(length) => Bound::any(length.parse().expect("`all` or a number of operations")),
            Err(_) => self.everyday,
        }
    }

    fn place(&self, machine: &Machine) -> Place {
        let mut place = Place::on(machine);
        place.options = durable_log::Options { segment_bytes: self.segment_bytes, ..small() };
        place
    }

    fn machine(&self) -> Machine {
        let machine = Machine::new(1);
        if !self.reserves {
            machine.refuse_allocation();
        }
        machine
    }
}

/// What was looked at.
#[derive(Debug, Default)]
struct Covered {
    workloads: u64,
    without_effect: u64,
    power_cuts: u64,
    outcomes: u64,
    sampled_cuts: u64,
    sampled_outcomes: u64,
    states: u64,
    recovery_cuts: u64,
    recovery_outcomes: u64,
    recovery_sampled_cuts: u64,
    recovery_states: u64,
}

/// Looks at all workloads of a plan.
#[derive(Debug)]
struct Explorer {
    plan: Plan,
    bound: Bound,
    covered: Covered,
    /// States of the disk, each with what was said, that were checked.
    seen: HashSet<u64>,
    /// As `seen`, of disks whose recovery lost power.
    seen_in_recovery: HashSet<u64>,
}

/// Tells what was being looked at when a check fails.
struct Looking<'a>(&'a [Op], &'a str, u64);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("workload {:?}, power cut at operation {} of {}", self.0, self.2, self.1);
        }
    }
}

/// What the last operation of a workload did.
struct End {
    /// Operations of the disk, before and after the last operation of the workload.
    operations: (u64, u64),
    did_something: bool,
}

fn check_all(plan: Plan) {
    let bound = plan.bound();
    let mut explorer = Explorer {
        plan,
        bound,
        covered: Covered::default(),
        seen: HashSet::new(),
        seen_in_recovery: HashSet::new(),
    };
    explorer.explore(&mut plan.begin.to_vec());
    let Covered {
        workloads,
        without_effect,
        power_cuts,
        outcomes,
        sampled_cuts,
        sampled_outcomes,
        states,
        recovery_cuts,
        recovery_outcomes,
        recovery_sampled_cuts,
        recovery_states,
    } = explorer.covered;
    println!(
        "covered: segments of {} bytes{}: {workloads} workloads of up to {} operations{} ({without_effect} without \
         effect left out); {power_cuts} power cuts, {} of them with all of their {outcomes} outcomes, {sampled_cuts} \
         with {sampled_outcomes} drawn by seed; {states} different states checked; {recovery_cuts} power cuts during \
         recoveries, {recovery_sampled_cuts} of them sampled, {recovery_outcomes} outcomes, {recovery_states} different",
        plan.segment_bytes,
        if plan.begin.is_empty() { String::new() } else { format!(" after {:?}", plan.begin) },
        bound.any,
        if bound.once.is_empty() { "" } else { ", or of four appends and four other operations," },
        power_cuts - sampled_cuts,
    );
}

impl Explorer {
    /// Looks at the power cuts in the last operation of `ops`, then at all workloads that begin so.
    fn explore(&mut self, ops: &mut Vec<Op>) {
        let end = self.run_to_end(ops);
        if !end.did_something {
            self.covered.without_effect += 1;
            return;
        }
        self.covered.workloads += 1;
        for operation in end.operations.0 + 1..=end.operations.1 + 1 {
            self.cut_power(ops, operation);
        }
        let begin = self.plan.begin.len();
        let appends = ops[begin..].iter().filter(|op| matches!(op, Op::Append(..))).count();
        let append = self.plan.appends.get(appends).map(|(count, len)| Op::Append(*count, *len));
        for op in append.into_iter().chain(OTHERS) {
            ops.push(op);
            if self.bound.includes(&ops[begin..]) {
                self.explore(ops);
            }
            ops.pop();
        }
    }

    fn run_to_end(&self, ops: &[Op]) -> End {
        let machine = self.plan.machine();
        let mut steps = Vec::new();
        run_seeing(self.plan.place(&machine), &machine, ops, &mut |said| {
            steps.push((machine.counts().operations, said.clone()));
        });
        let last = steps.len() - 1;
        let first = ops.len() == self.plan.begin.len();
        let before = if first { (0, Said::default()) } else { steps[last - 1].clone() };
        let did_something = first || steps[last] != before;
        End { operations: (before.0, steps[last].0), did_something }
    }

    /// Cuts the power at one operation of the disk and looks at everything that may be left.
    fn cut_power(&mut self, ops: &[Op], operation: u64) {
        let _looking = Looking(ops, "the workload", operation);
        let machine = self.plan.machine();
        machine.crash_at(operation);
        let said = run_seeing(self.plan.place(&machine), &machine, ops, &mut |_| {});
        self.covered.power_cuts += 1;
        let promised = hash_of(&said.promises());
        let drawn = each_outcome(&machine, operation, &mut |crashed| {
            if self.seen.insert(hash_of(&(crashed.fingerprint(), promised))) {
                self.covered.states += 1;
                self.check_state(ops, crashed, &said);
            }
        });
        match drawn {
            Drawn::All(outcomes) => self.covered.outcomes += outcomes,
            Drawn::Sample(outcomes) => {
                self.covered.sampled_cuts += 1;
                self.covered.sampled_outcomes += outcomes;
            }
        }
    }

    fn check_state(&mut self, ops: &[Op], crashed: &Machine, said: &Said) {
        let found = invariants::check(&self.plan.place(crashed), crashed, said);
        let recoveries =
            ops.len() <= RECOVERIES_ALL || crashed.fingerprint().is_multiple_of(RECOVERIES_ONE_OF);
        if recoveries {
            self.cut_power_in_recovery(ops, crashed, &found);
        }
    }

    /// Cuts the power at each operation of an opening that would find `found`.
    fn cut_power_in_recovery(&mut self, ops: &[Op], crashed: &Machine, found: &Found) {
        let machine = crashed.fork();
        machine.record();
        drop(self.plan.place(&machine).open());
        let known = hash_of(found);
        for (operation, moment) in (1..).zip(machine.recorded()) {
            let _looking = Looking(ops, "the recovery", operation);
            self.covered.recovery_cuts += 1;
            let drawn = each_outcome(&moment, operation, &mut |again| {
                if self.seen_in_recovery.insert(hash_of(&(again.fingerprint(), known))) {
                    self.covered.recovery_states += 1;
                    let place = self.plan.place(again);
                    let second = Found::in_log(&place.open());
                    invariants::recovery_of_a_recovery_is_the_same(found, &second);
                }
            });
            let (Drawn::All(outcomes) | Drawn::Sample(outcomes)) = drawn;
            self.covered.recovery_outcomes += outcomes;
            self.covered.recovery_sampled_cuts += u64::from(matches!(drawn, Drawn::Sample(_)));
        }
    }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Units, frames and segments do not begin at the same places, and a frame spans several units.
const APPENDS: [(usize, usize); APPENDS_MAX] = [(1, 300), (2, 250), (1, 9), (1, 1200)];

const NOTHING_BEFORE: Plan = Plan {
    segment_bytes: 4096,
    begin: &[],
    appends: APPENDS,
    reserves: true,
    everyday: Bound::any(4),
    all: Bound::any(5).or_each_once(),
};

#[test]
fn every_power_cut_of_small_workloads_in_large_segments() {
    check_all(NOTHING_BEFORE);
}

#[test]
fn every_power_cut_of_small_workloads_in_segments_that_fill_up() {
    check_all(Plan { segment_bytes: 700, ..NOTHING_BEFORE });
}

#[test]
fn every_power_cut_of_small_workloads_where_no_room_can_be_reserved() {
    check_all(Plan { segment_bytes: 1500, reserves: false, ..NOTHING_BEFORE });
}

/// An append fills a segment so far that its file is kept when it is trimmed.
const FILL: (usize, usize) = (1, 500);
const FILLED: Op = Op::Append(FILL.0, FILL.1);
const AFTER_TRIM: Plan = Plan {
    segment_bytes: 700,
    begin: &[FILLED, FILLED, Op::Sync, Op::Trim],
    appends: [FILL, (1, 100), (2, 150), FILL],
    everyday: Bound::any(3),
    all: Bound::any(5),
    ..NOTHING_BEFORE
};

#[test]
fn every_power_cut_of_small_workloads_in_the_file_of_a_trimmed_segment() {
    check_all(AFTER_TRIM);
}

#[test]
fn every_power_cut_of_small_workloads_in_the_files_of_many_trimmed_segments() {
    const BEGIN: &[Op] = &[FILLED, FILLED, FILLED, Op::Sync, Op::Trim];
    check_all(Plan { begin: BEGIN, ..AFTER_TRIM });
}

/// Three of these fill a segment that gets an index file, with three entries.
const THIRD: Op = Op::Append(1, 24_000);

#[test]
fn every_power_cut_of_small_workloads_with_an_index_file() {
    const BEGIN: &[Op] = &[THIRD, Op::Sync, THIRD, Op::Sync, THIRD, Op::Roll];
    check_all(Plan {
        segment_bytes: 80_000,
        begin: BEGIN,
        appends: [(1, 100), (2, 150), FILL, FILL],
        everyday: Bound::any(1),
        all: Bound::any(3),
        ..NOTHING_BEFORE
    });
}
