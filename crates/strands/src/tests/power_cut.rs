//! Goal: after a power cut at any operation, what comes back is exactly the state after some prefix of the
//! commits, and no shorter one than was acknowledged as durable; also when the cut comes again and again.
//!
//! Method: random steps on the simulated disk, which loses, tears and reorders what was not synced. The
//! meta store's own crash is simulated as the worst that it promises: all that was not synced is gone.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, Mutex};

use block_store::{BlockStore, Directory};
use bytes::Bytes;
use host::sim::Machine;
use meta_store::{Applied, Batch, KeyRange, Memory, MetaError, MetaStore, Visit};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Model, Step, any_step, options};
use crate::{Commit, CommitError, Options, Position, Strands, Table};

/// A meta store that remembers what was synced, and forgets the rest with the power.
#[derive(Debug, Default)]
pub(super) struct Synced {
    live: Memory,
    durable: Mutex<(Rows, Applied)>,
}

/// One row, the number of the state that a commit leads to, so that a survivor can be told.
const COUNT: Table = Table(41);

type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

impl Synced {
    pub(super) fn after_power_cut(&self) -> Arc<Self> {
        let (rows, applied) = self.durable.lock().unwrap().clone();
        let survivor = Self::default();
        let mut batch = Batch::new();
        for ((table, key), value) in rows {
            batch.put(meta_store::Table(table), key, value);
        }
        survivor.live.commit(&batch, applied).unwrap();
        survivor.sync().unwrap();
        Arc::new(survivor)
    }
}

impl MetaStore for Synced {
    fn get(&self, table: meta_store::Table, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.live.get(table, key)
    }

    fn scan(
        &self,
        table: meta_store::Table,
        range: KeyRange<'_>,
        order: meta_store::Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), MetaError> {
        self.live.scan(table, range, order, visit)
    }

    fn commit(&self, batch: &Batch, applied: Applied) -> Result<(), MetaError> {
        self.live.commit(batch, applied)
    }

    fn applied(&self) -> Applied {
        self.live.applied()
    }

    fn snapshot(&self) -> Result<Box<dyn meta_store::Snapshot>, MetaError> {
        self.live.snapshot()
    }

    fn sync(&self) -> Result<Applied, MetaError> {
        let applied = self.live.applied();
        let mut rows = Rows::new();
        for table in 0..=u8::MAX {
            let all = (Bound::Unbounded, Bound::Unbounded);
            self.live.scan(
                meta_store::Table(table),
                all,
                meta_store::Order::Ascending,
                &mut |key, value| {
                    rows.insert((table, key.to_vec()), value.to_vec());
                    ControlFlow::Continue(())
                },
            )?;
        }
        *self.durable.lock().unwrap() = (rows, applied);
        Ok(applied)
    }
}

pub(super) fn open(machine: &Machine, meta: &Arc<Synced>) -> Result<Strands, String> {
    open_with(machine, meta, options())
}

pub(super) fn open_with(
    machine: &Machine,
    meta: &Arc<Synced>,
    options: Options,
) -> Result<Strands, String> {
    open_over(machine, meta, directory(machine)?, options)
}

/// The directory store on the machine's disk.
pub(super) fn directory(machine: &Machine) -> Result<Arc<dyn BlockStore>, String> {
    let opened = Directory::open(&machine.host(), Path::new("/blocks"));
    Ok(Arc::new(opened.map_err(|error| error.to_string())?))
}

pub(super) fn open_over(
    machine: &Machine,
    meta: &Arc<Synced>,
    blocks: Arc<dyn BlockStore>,
    options: Options,
) -> Result<Strands, String> {
    let host = machine.host();
    let meta = Arc::clone(meta) as Arc<dyn MetaStore>;
    Strands::open(host, Path::new("/journal"), meta, blocks, options)
        .map_err(|error| error.to_string())
}

/// What happened to the data until the power went.
pub(super) struct Life {
    /// Number of the first state below, counted over all lives.
    first: u64,
    /// The state after each commit, by the commit's exclusive end.
    history: Vec<(Position, Model)>,
    /// Up to where commits were acknowledged as durable.
    pub(super) acknowledged: Position,
}

impl Life {
    /// Nothing happened.
    pub(super) fn none() -> Self {
        let history = vec![(Position::START, Model::default())];
        Self { first: 0, history, acknowledged: Position::START }
    }

    /// Goes on with what happened `next`.
    pub(super) fn extend(&mut self, next: Self) {
        self.history.extend(next.history.into_iter().skip(1));
        self.acknowledged = next.acknowledged;
    }

    /// Forgets the states before the last one, which was acknowledged.
    pub(super) fn forget_the_past(&mut self) {
        let (first, model) = self.last();
        *self = Self { first, history: vec![(self.acknowledged, model)], ..*self };
    }

    /// Goes on with the state that survived a power cut, and says which that is.
    #[track_caller]
    pub(super) fn survive(&mut self, strands: &Strands) -> Model {
        let (first, model) = self.survivor(strands);
        let acknowledged = strands.positions().durable;
        *self = Self { first, history: vec![(acknowledged, model.clone())], acknowledged };
        model
    }

    /// The state that is there, which holds all that was acknowledged, and its number.
    #[track_caller]
    fn survivor(&self, strands: &Strands) -> (u64, Model) {
        let count = count(strands);
        let index = usize::try_from(count - self.first).unwrap();
        let (_, model) = &self.history[index];
        if let Some((next, _)) = self.history.get(index + 1) {
            let acknowledged = self.acknowledged;
            assert!(*next > acknowledged, "commit {next} is gone, acknowledged was {acknowledged}");
        }
        (count, model.clone())
    }

    /// All states and their numbers.
    pub(super) fn states(&self) -> impl Iterator<Item = (u64, Model)> {
        (self.first..).zip(self.history.iter().map(|(_, model)| model.clone()))
    }

    /// The number of the last state, and that state.
    pub(super) fn last(&self) -> (u64, Model) {
        let last = self.history.len() - 1;
        (self.first + last as u64, self.history[last].1.clone())
    }
}

/// Takes steps until they end or one fails, which must then be `excused`.
pub(super) fn live(
    strands: &Strands,
    (first, model): (u64, Model),
    steps: &[Step],
    excused: &dyn Fn(&CommitError) -> bool,
) -> Life {
    live_checked(strands, (first, model), steps, excused, &|_, _| {})
}

/// [`live`], with a look at the state after each step. A round of packing or a checkpoint that fails does not end
/// it.
pub(super) fn live_checked(
    strands: &Strands,
    (first, mut model): (u64, Model),
    steps: &[Step],
    excused: &dyn Fn(&CommitError) -> bool,
    check: &dyn Fn(&Strands, &Model),
) -> Life {
    let begin = strands.positions().appended;
    let mut life = Life { first, history: vec![(begin, model.clone())], acknowledged: begin };
    for step in steps {
        let done = take(strands, &mut model, step, &mut life);
        if let Err(error) = done {
            assert!(excused(&error), "{error}");
            if !matches!(step, Step::Pack | Step::Checkpoint) {
                break;
            }
        }
        check(strands, &model);
    }
    life
}

/// Takes one step from the state `model`.
pub(super) fn take(
    strands: &Strands,
    model: &mut Model,
    step: &Step,
    life: &mut Life,
) -> Result<(), CommitError> {
    match step {
        Step::Pack => strands.pack_now(),
        Step::Checkpoint => {
            let taken = strands.shared.checkpoint_index();
            taken.map_err(|error| CommitError::Failed(error.to_string()))
        }
        Step::Sync | Step::Reopen { .. } => {
            let ticket = strands.commit(Commit::new())?;
            let position = ticket.position();
            ticket.wait_durable()?;
            life.acknowledged = position;
            Ok(())
        }
        _ => change(strands, model, step, life),
    }
}

fn change(
    strands: &Strands,
    model: &mut Model,
    step: &Step,
    life: &mut Life,
) -> Result<(), CommitError> {
    let mut next = model.clone();
    let minted = strands.mint()?;
    let Some(mut commit) = next.staged_commit(step, strands, || minted)? else { return Ok(()) };
    commit.put(
        COUNT,
        Bytes::new(),
        (life.first + life.history.len() as u64).to_le_bytes().to_vec(),
    );
    let before = strands.positions().appended;
    let done = strands.commit(commit);
    let after = strands.positions().appended;
    // A commit that was not acknowledged may survive all the same.
    if after > before {
        *model = next;
        life.history.push((after, model.clone()));
    }
    done.map(drop)
}

/// Number of the state that is there.
pub(super) fn count(strands: &Strands) -> u64 {
    let count = strands.row(COUNT, b"").unwrap();
    count.map_or(0, |count| u64::from_le_bytes(count[..].try_into().unwrap()))
}

/// Also without the meta store there is the same.
#[track_caller]
pub(super) fn check_without_meta(machine: &Machine, life: &Life) {
    let machine = machine.fork();
    machine.kill();
    check_survivors(&open(&machine, &Arc::default()).unwrap(), life);
}

#[track_caller]
pub(super) fn check_survivors(strands: &Strands, life: &Life) -> (u64, Model) {
    let (count, model) = life.survivor(strands);
    model.check(strands);
    (count, model)
}

pub(super) fn steps(seed: u64) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    prop::collection::vec(any_step(), 10..40).new_tree(&mut runner).unwrap().current()
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_with_everything_acknowledged() {
    for seed in 0..120 {
        let machine = Machine::new(seed);
        let mut meta = Arc::new(Synced::default());
        let mut state = (0, Model::default());
        for cut in 0..4 {
            println!("seed {seed}, power cut {cut}");
            let strands = open(&machine, &meta).unwrap();
            let until = machine.counts().operations + 1 + (seed * 7 + cut * 31) % 90;
            machine.crash_at(until);
            let life = live(&strands, state, &steps(seed * 10 + cut), &|_| machine.is_off());
            drop(strands);
            machine.crash_seeded(seed + cut);
            meta = meta.after_power_cut();
            check_without_meta(&machine, &life);
            let strands = open(&machine, &meta).unwrap();
            state = check_survivors(&strands, &life);
            drop(strands);
        }
    }
}

#[test]
fn a_power_cut_during_the_start_changes_nothing() {
    for seed in 0..40 {
        println!("seed {seed}");
        let machine = Machine::new(seed);
        let mut meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let life = live(&strands, (0, Model::default()), &steps(seed), &|_| false);
        let acknowledged = strands.positions().durable;
        drop(strands);
        let life = Life { acknowledged, ..life };
        machine.crash_seeded(seed);
        meta = meta.after_power_cut();
        machine.crash_at(machine.counts().operations + 1 + seed % 20);
        drop(open(&machine, &meta));
        machine.crash_seeded(seed + 1);
        meta = meta.after_power_cut();
        let strands = open(&machine, &meta).unwrap();
        check_survivors(&strands, &life);
    }
}

/// A burst of large writes with few syncs, beside small ones.
fn burst(seed: u64) -> Vec<Step> {
    let place = |at: u64, fill| Step::Place { pick: 0, offset: at * 9000, len: 20_000, fill };
    let mut steps = Vec::new();
    for at in 0..4 {
        steps.extend([place(at, 2), Step::Put { key: 1, value: at.to_le_bytes()[0] }]);
        if (seed + at).is_multiple_of(3) {
            steps.push(Step::Sync);
        }
        steps.extend([place(at + 1, 4), place(at, 1)]);
    }
    steps
}

#[test]
fn a_power_cut_at_any_operation_of_an_unsynced_burst_leaves_a_prefix() {
    let mut cut_for_a_block = 0;
    for operation in (1..110).step_by(2) {
        for seed in 0..2 {
            println!("operation {operation}, seed {seed}");
            let machine = Machine::new(seed);
            let meta = Arc::new(Synced::default());
            let strands = open(&machine, &meta).unwrap();
            machine.crash_at(machine.counts().operations + operation);
            let life = live(&strands, (0, Model::default()), &burst(seed), &|_| machine.is_off());
            drop(strands);
            machine.crash_seeded(seed + operation);
            let meta = meta.after_power_cut();
            check_without_meta(&machine, &life);
            // The start itself is cut short, and comes to the same end.
            machine.crash_at(machine.counts().operations + 1 + operation % 12);
            drop(open(&machine, &meta));
            machine.crash_seeded(operation);
            let strands = open(&machine, &meta.after_power_cut()).unwrap();
            cut_for_a_block += u32::from(strands.recovery().lost_block.is_some());
            check_survivors(&strands, &life);
        }
    }
    assert!(cut_for_a_block > 0, "no power cut took a block whose commit was there");
}

#[test]
fn a_killed_process_loses_nothing_of_an_unsynced_burst() {
    for seed in 0..6 {
        let machine = Machine::new(seed);
        let meta = Arc::new(Synced::default());
        let strands = open(&machine, &meta).unwrap();
        let life = live(&strands, (0, Model::default()), &burst(seed), &|_| false);
        drop(strands);
        machine.kill();
        let strands = open(&machine, &meta.after_power_cut()).unwrap();
        assert!(strands.recovery().torn.is_none());
        assert_eq!(check_survivors(&strands, &life), life.last());
        drop(strands);
        // What the start found whole it has made durable.
        machine.crash_seeded(seed);
        let strands = open(&machine, &meta.after_power_cut()).unwrap();
        assert_eq!(check_survivors(&strands, &life), life.last());
    }
}
