//! Workloads on a simulated machine, and what the log said while they ran: what the crash tests share.
//!
//! Every record is different from every other, also from one that was lost and whose offset was given
//! again, so that nothing that is found can be taken for something else.

use std::collections::BTreeSet;
use std::hash::Hash;

use durable_log::{Epoch, Log, Offset};
use host::WallTime;
use host::sim::Machine;

use crate::support::{Place, from};

const START_MS: i64 = 1_767_225_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// So many records of that length, as one unit.
    Append(usize, usize),
    WriteOut,
    Sync,
    Roll,
    /// Everything that is durable.
    Trim,
    /// The last record, also when it is a part of an append.
    Cut,
    Close,
    /// The process dies.
    Kill,
}

/// What was done, and what was said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    /// What the log holds, and what was trimmed from it.
    pub(crate) records: Vec<Vec<u8>>,
    /// Survives a power cut.
    pub(crate) durable: usize,
    /// Survives the process.
    pub(crate) written: usize,
    /// The log begins here or later.
    pub(crate) trimmed: usize,
    /// The log may begin here, if the trim that was begun got through.
    pub(crate) trim_begun: usize,
    /// The log may end exactly here, if the cut that was begun got through.
    pub(crate) cut_begun: Option<usize>,
    /// Records ever made.
    serial: u64,
    /// Under which epochs each offset was given away, to be never given under one of them again.
    given: BTreeSet<(Epoch, usize)>,
}

/// What an opened log holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) records: Vec<Vec<u8>>,
}

impl Found {
    #[track_caller]
    pub(crate) fn in_log(log: &Log) -> Self {
        let start = log.positions().start;
        Self { start: index(start), records: from(log, start) }
    }

    /// The offset after the last record.
    pub(crate) fn end(&self) -> usize {
        self.start + self.records.len()
    }
}

impl Said {
    /// What is promised across a power cut, and what must be known to see whether it is kept: states of which
    /// these are the same need no second look.
    pub(crate) fn promises(&self) -> impl Hash {
        let kept = &self.records[self.trimmed.min(self.records.len())..];
        // The log ends here or later, so what was given before is not given again in any case.
        let end = self.cut_begun.unwrap_or(usize::MAX).min(self.durable);
        let given: Vec<_> = self.given.iter().filter(|(_, offset)| *offset >= end).collect();
        (kept, self.durable, self.trimmed, self.trim_begun, self.cut_begun, given)
    }

    /// Does one operation; `None` when the power went.
    fn step(&mut self, machine: &Machine, place: &mut Place, log: Log, op: Op) -> Option<Log> {
        let handle = log.clone();
        let next = self.try_step(machine, place, log, op);
        if next.is_none() {
            // The operation may have got so far before it failed.
            self.hear(&handle);
        }
        next
    }

    fn try_step(&mut self, machine: &Machine, place: &mut Place, log: Log, op: Op) -> Option<Log> {
        match op {
            Op::Append(count, len) => {
                // Times that go on and back.
                let ms = START_MS + i64::try_from(self.serial * 7 % 5).expect("small");
                machine.set_wall(WallTime::from_nanos(ms * 1_000_000));
                self.append(&log, count, len)?;
            }
            Op::WriteOut => self.written = index(log.write_out().ok()?),
            Op::Sync => self.durable = index(log.sync().ok()?),
            Op::Roll => {
                log.roll().ok()?;
                self.durable = self.records.len();
            }
            Op::Trim => {
                self.trim_begun = self.durable;
                self.trimmed = index(log.trim(Offset::new(self.durable as u64)).ok()?);
                self.trim_begun = self.trimmed;
            }
            Op::Cut => return self.cut(log),
            Op::Close => {
                log.close().ok()?;
                self.durable = self.records.len();
                return self.restart(machine, place, true);
            }
            Op::Kill => {
                drop(log);
                return self.restart(machine, place, false);
            }
        }
        self.hear(&log);
        Some(log)
    }

    fn append(&mut self, log: &Log, count: usize, len: usize) -> Option<()> {
        let first = self.records.len();
        let records: Vec<Vec<u8>> = (0..count).map(|_| self.record(len)).collect();
        let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        let appended = log.append(&slices).ok()?;
        assert_eq!(appended.first.get(), first as u64);
        for offset in first..first + count {
            let new = self.given.insert((log.epoch(), offset));
            assert!(new, "offset {offset} twice in epoch {:?}", log.epoch());
        }
        self.records.extend(records);
        Some(())
    }

    fn cut(&mut self, log: Log) -> Option<Log> {
        let end = self.records.len().saturating_sub(1).max(self.trimmed);
        self.cut_begun = Some(end);
        let log = log.truncate_after(Offset::new(end as u64)).ok()?;
        assert_eq!(index(log.positions().appended), end);
        self.check_epoch(&log);
        self.cut_begun = None;
        self.records.truncate(end);
        self.durable = self.durable.min(end);
        self.written = self.written.min(end);
        self.hear(&log);
        Some(log)
    }

    /// A record that was never made before.
    fn record(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        let word = self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        // No zeros: they could be taken for bytes that were never written.
        word.iter().map(|byte| byte | 1).cycle().take(len).collect()
    }

    /// What the log says of itself is a promise too.
    fn hear(&mut self, log: &Log) {
        let positions = log.positions();
        self.durable = self.durable.max(index(positions.durable));
        self.written = self.written.max(index(positions.written)).max(self.durable);
        self.trimmed = self.trimmed.max(index(positions.start));
    }

    fn restart(&mut self, machine: &Machine, place: &mut Place, clean: bool) -> Option<Log> {
        machine.kill();
        *place = place.again(machine);
        let (log, recovery) =
            place.try_open().inspect_err(|error| assert!(machine.is_off(), "{error}")).ok()?;
        assert_eq!(recovery.clean, clean);
        let found = self.accept(&log);
        assert!(found.end() >= self.written, "a process that ended loses nothing that was written");
        self.written = found.end();
        Some(log)
    }

    /// Sees that no offset that the log will give was given under its epoch.
    #[track_caller]
    pub(crate) fn check_epoch(&self, log: &Log) {
        let (epoch, end) = (log.epoch(), index(log.positions().appended));
        let twice = self.given.iter().find(|(then, offset)| *then >= epoch && *offset >= end);
        assert_eq!(twice, None, "the log goes on at offset {end} in epoch {epoch:?}");
    }

    /// Compares an opened log with what was said; from now on what it holds is promised.
    #[track_caller]
    pub(crate) fn accept(&mut self, log: &Log) -> Found {
        let found = Found::in_log(log);
        self.check(&found);
        self.check_epoch(log);
        assert_eq!(index(log.positions().durable), found.end());
        self.records.truncate(found.end());
        self.durable = found.end();
        self.trimmed = found.start;
        self.trim_begun = found.start;
        self.cut_begun = None;
        found
    }

    /// How many records were promised, given what is found: a cut that got through takes its promises along.
    pub(crate) fn durable_of(&self, found: &Found) -> usize {
        let cut = self.cut_begun.is_some_and(|end| found.end() == end);
        if cut { self.durable.min(found.end()) } else { self.durable }
    }

    /// What must hold of what is found, whatever happened.
    #[track_caller]
    pub(crate) fn check(&self, found: &Found) {
        assert!(found.start >= self.trimmed && found.start <= self.trim_begun.max(self.trimmed));
        let (end, durable) = (found.end(), self.durable_of(found));
        assert!(end >= durable, "{end} records, {durable} promised");
        assert_eq!(Some(&found.records[..]), self.records.get(found.start..end));
    }
}

pub(crate) fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).unwrap()
}

/// Runs until the power goes or everything is done.
pub(crate) fn run(place: Place, machine: &Machine, ops: &[Op]) -> Said {
    run_seeing(place, machine, ops, &mut |_| {})
}

/// As [`run`], and shows what was said after the opening and after each operation.
pub(crate) fn run_seeing(
    mut place: Place,
    machine: &Machine,
    ops: &[Op],
    see: &mut dyn FnMut(&Said),
) -> Said {
    let mut said = Said::default();
    let mut log = match place.try_open() {
        Ok((log, _)) => log,
        Err(error) => {
            assert!(machine.is_off(), "{error}");
            return said;
        }
    };
    see(&said);
    for op in ops {
        match said.step(machine, &mut place, log, *op) {
            Some(next) => log = next,
            None => {
                assert!(machine.is_off());
                break;
            }
        }
        see(&said);
    }
    said
}
