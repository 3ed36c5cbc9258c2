//! Goal: the power may go at any operation, and whatever of the unsynced bytes and names the disk
//! then has, the log opens with a prefix of what was appended that holds everything promised; and
//! the power may go again while it opens. Method: the simulated machine, every operation of fixed
//! workloads and random ones, several outcomes for each.

use durable_log::{Log, Offset};
use host::sim::{Kept, Lost, Machine, Seeded};
use proptest::prelude::*;

use crate::support::{Place, from};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// So many records of that length, as one unit.
    Append(usize, usize),
    WriteOut,
    Sync,
    Roll,
    /// Everything that is durable.
    Trim,
    Close,
    /// The process dies.
    Kill,
}

/// What was done, and what was said about it.
#[derive(Clone, Debug, Default)]
struct Said {
    records: Vec<Vec<u8>>,
    /// What survives a power cut.
    durable: usize,
    /// What survives the process.
    written: usize,
    trimmed: usize,
    /// The log may begin here, if the trim that was begun got through.
    trim_begun: usize,
}

impl Said {
    /// Does one operation; `None` when the power went.
    fn step(&mut self, machine: &Machine, place: &mut Place, log: Log, op: Op) -> Option<Log> {
        match op {
            Append(count, len) => {
                let first = self.records.len();
                let records: Vec<Vec<u8>> =
                    (first..first + count).map(|n| vec![n.to_le_bytes()[0] | 1; len]).collect();
                let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
                let appended = log.append(&slices).ok()?;
                assert_eq!(appended.first.get(), first as u64);
                self.records.extend(records);
            }
            WriteOut => self.written = index(log.write_out().ok()?),
            Sync => {
                self.durable = index(log.sync().ok()?);
                self.written = self.durable;
            }
            Roll => {
                log.roll().ok()?;
                self.durable = self.records.len();
                self.written = self.durable;
            }
            Trim => {
                self.trim_begun = self.durable;
                self.trimmed = index(log.trim(Offset::new(self.durable as u64)).ok()?);
            }
            Close => {
                log.close().ok()?;
                self.durable = self.records.len();
                return self.restart(machine, place, true);
            }
            Kill => {
                drop(log);
                return self.restart(machine, place, false);
            }
        }
        let positions = log.positions();
        self.durable = self.durable.max(index(positions.durable));
        self.written = self.written.max(index(positions.written));
        Some(log)
    }

    fn restart(&mut self, machine: &Machine, place: &mut Place, clean: bool) -> Option<Log> {
        machine.kill();
        *place = Place::on(machine);
        let (log, recovery) =
            place.try_open().inspect_err(|error| assert!(machine.is_off(), "{error}")).ok()?;
        assert_eq!(recovery.clean, clean);
        let found = self.check(&log);
        assert!(found >= self.written);
        Some(log)
    }

    /// Compares an opened log with what was said; from now on what it holds is promised.
    #[track_caller]
    fn check(&mut self, log: &Log) -> usize {
        let start = index(log.positions().start);
        assert!(start >= self.trimmed && start <= self.trim_begun.max(self.trimmed));
        let records = from(log, log.positions().start);
        let end = start + records.len();
        assert!(end >= self.durable, "{end} records, {} promised", self.durable);
        assert_eq!(records, self.records[start..end]);
        assert_eq!(index(log.positions().durable), end);
        self.records.truncate(end);
        self.durable = end;
        self.written = end;
        self.trimmed = start;
        self.trim_begun = start;
        end
    }
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).unwrap()
}

/// Runs until the power goes or everything is done.
fn run(machine: &Machine, ops: &[Op]) -> Said {
    let mut said = Said::default();
    let mut place = Place::on(machine);
    let mut log = match place.try_open() {
        Ok((log, _)) => log,
        Err(error) => {
            assert!(machine.is_off(), "{error}");
            return said;
        }
    };
    for op in ops {
        match said.step(machine, &mut place, log, *op) {
            Some(next) => log = next,
            None => {
                assert!(machine.is_off());
                break;
            }
        }
    }
    said
}

fn crash(machine: &Machine, seed: u64) {
    match seed {
        0 => machine.crash(&mut Lost),
        1 => machine.crash(&mut Kept),
        seed => machine.crash(&mut Seeded::new(seed)),
    }
}

/// Opens after a crash and checks; then crashes so that all that was not synced is lost, and sees
/// that the next opening finds the same.
fn recover(machine: &Machine, said: &mut Said) {
    for round in 0..2 {
        let place = Place::on(machine);
        let (log, recovery) = place.reopen();
        assert!(round == 0 || recovery.torn.is_none());
        let found = said.check(&log);
        if round == 1 {
            let next = log.append(&[b"next"]).unwrap();
            assert_eq!(index(next.first), found);
            log.sync().unwrap();
        }
        machine.crash(&mut Lost);
    }
}

/// Cuts the power at each operation of a workload, and then at each operation of the recovery.
fn check_every_crash(ops: &[Op], seeds: u64, seeds_of_recovery: u64) {
    let machine = Machine::new(1);
    run(&machine, ops);
    for operation in 1..=machine.counts().operations + 1 {
        let machine = Machine::new(1);
        machine.crash_at(operation);
        let said = run(&machine, ops);
        for seed in 0..seeds {
            let crashed = machine.fork();
            crash(&crashed, seed);
            recover(&crashed.fork(), &mut said.clone());
            if seed < seeds_of_recovery {
                check_crashed_recovery(&crashed, &said);
            }
        }
    }
}

fn check_crashed_recovery(machine: &Machine, said: &Said) {
    for operation in 1.. {
        let again = machine.fork();
        again.crash_at(again.counts().operations + operation);
        let opened = Place::on(&again).try_open();
        if !again.is_off() {
            return;
        }
        assert!(opened.is_err(), "an opening that lost its power did not open");
        for seed in [0, 1, operation + 2] {
            let again = again.fork();
            crash(&again, seed);
            recover(&again, &mut said.clone());
        }
    }
}

use Op::{Append, Close, Kill, Roll, Sync, Trim, WriteOut};

#[test]
fn power_cuts_around_syncs() {
    check_every_crash(
        &[Append(1, 10), Sync, Append(2, 700), WriteOut, Append(1, 10), Sync, Append(1, 600)],
        12,
        3,
    );
}

#[test]
fn power_cuts_around_rolls_and_trims() {
    check_every_crash(
        &[
            Append(1, 10),
            Roll,
            Append(1, 100),
            WriteOut,
            Roll,
            Trim,
            Append(1, 10),
            Sync,
            Roll,
            Trim,
        ],
        6,
        2,
    );
}

#[test]
fn power_cuts_while_segments_fill_up() {
    check_every_crash(
        &[Append(3, 1000), Append(2, 1500), WriteOut, Append(1, 5000), Append(1, 9), Sync],
        8,
        2,
    );
}

#[test]
fn power_cuts_around_closes_and_kills() {
    check_every_crash(
        &[Append(1, 10), Close, Append(1, 900), WriteOut, Kill, Append(1, 10), Close, Close],
        6,
        2,
    );
}

#[test]
fn power_cuts_with_much_unsynced() {
    check_every_crash(
        &[
            Append(1, 500),
            Append(1, 500),
            WriteOut,
            Append(1, 500),
            WriteOut,
            Append(1, 2000),
            WriteOut,
        ],
        20,
        4,
    );
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (1..3_usize, prop_oneof![0..50_usize, 400..1500_usize]).prop_map(|(count, len)| Append(count, len)),
        3 => Just(WriteOut),
        3 => Just(Sync),
        1 => Just(Roll),
        1 => Just(Trim),
        1 => Just(Close),
        1 => Just(Kill),
    ];
    prop::collection::vec(op, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_anywhere_loses_nothing_promised(ops in ops(), at in any::<prop::sample::Index>(), seed: u64) {
        let machine = Machine::new(seed);
        run(&machine, &ops);
        let operations = usize::try_from(machine.counts().operations).unwrap();
        let machine = Machine::new(seed);
        machine.crash_at(at.index(operations) as u64 + 1);
        let mut said = run(&machine, &ops);
        crash(&machine, seed);
        recover(&machine, &mut said);
    }
}
