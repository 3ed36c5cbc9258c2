//! Goal: under any sequence of operations the log behaves like a vector of records with three
//! marks on it. Method: random operations on both, compared after each, under a clock that the test
//! sets; what was read or is waited for is kept and looked at again after each operation.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use durable_log::{
    Arrival, ArrivalError, Batch, Location, Log, Offset, Reached, Reads, RecordRef, Retention,
    Slice, inspect,
};
use host::Host;
use host::sim::Machine;
use proptest::prelude::*;

use crate::support::{Place, all};

#[derive(Clone, Debug)]
enum Op {
    /// Records with these lengths, as one unit.
    Append(Vec<usize>),
    AppendParts(Vec<usize>),
    WriteOut,
    Sync,
    Roll,
    /// Below this part of what there is, of 8.
    Trim(u64),
    /// The end off, from this record on.
    Cut(prop::sample::Index),
    /// What is older than so many milliseconds, beyond so many bytes, or below this part, of 8.
    Retain(Option<u64>, Option<u64>, Option<u64>),
    /// So many milliseconds pass.
    Pass(u64),
    Read(prop::sample::Index),
    /// From here on, so many bytes.
    Batch(prop::sample::Index, usize),
    /// The first record of this record's time, or of so many milliseconds after it.
    Time(prop::sample::Index, i64),
    /// Reads a record and keeps it in every form.
    Keep(prop::sample::Index),
    /// Waits for a record that is there, or for one of those that come next.
    Wait(prop::sample::Index, Reached),
    Scan,
    Close,
    /// The process dies: what was not written out may be gone.
    Drop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![4 => 0..300_usize, 1 => 3000..9000_usize];
    let op = prop_oneof![
        8 => prop::collection::vec(len.clone(), 1..4).prop_map(Op::Append),
        2 => prop::collection::vec(len, 1..4).prop_map(Op::AppendParts),
        3 => Just(Op::WriteOut),
        3 => Just(Op::Sync),
        1 => Just(Op::Roll),
        1 => (0..9_u64).prop_map(Op::Trim),
        1 => any::<prop::sample::Index>().prop_map(Op::Cut),
        1 => retention().prop_map(|(age, bytes, from)| Op::Retain(age, bytes, from)),
        3 => (0..40_u64).prop_map(Op::Pass),
        3 => any::<prop::sample::Index>().prop_map(Op::Read),
        1 => (any::<prop::sample::Index>(), 0..9000_usize)
            .prop_map(|(which, bytes)| Op::Batch(which, bytes)),
        1 => (any::<prop::sample::Index>(), -1..2_i64).prop_map(|(which, ms)| Op::Time(which, ms)),
        2 => any::<prop::sample::Index>().prop_map(Op::Keep),
        2 => (any::<prop::sample::Index>(), reached()).prop_map(|(which, far)| Op::Wait(which, far)),
        1 => Just(Op::Scan),
        1 => Just(Op::Close),
        2 => Just(Op::Drop),
    ];
    prop::collection::vec(op, 1..60)
}

fn retention() -> impl Strategy<Value = (Option<u64>, Option<u64>, Option<u64>)> {
    let some = prop::option::of;
    (some(0..200_u64), some(0..60_000_u64), some(0..9_u64))
}

fn reached() -> impl Strategy<Value = Reached> {
    prop_oneof![Just(Reached::Appended), Just(Reached::Written), Just(Reached::Durable)]
}

/// A record in each form that somebody may keep.
struct Kept {
    bytes: Vec<u8>,
    borrowed: RecordRef,
    owned: Bytes,
    slice: Slice,
}

/// Somebody who waits for a record.
struct Waiting {
    offset: u64,
    reached: Reached,
    arrival: Arrival,
}

struct Model {
    machine: Machine,
    /// Every record ever, trimmed ones too.
    records: Vec<(Vec<u8>, Location)>,
    /// When they were appended.
    times: Vec<i64>,
    kept: Vec<Kept>,
    waiting: Vec<Waiting>,
    start: usize,
    written: usize,
}

impl Model {
    fn new(machine: &Machine) -> Self {
        Self {
            machine: machine.clone(),
            records: Vec::new(),
            times: Vec::new(),
            kept: Vec::new(),
            waiting: Vec::new(),
            start: 0,
            written: 0,
        }
    }

    fn push(&mut self, record: Vec<u8>, at: Location) {
        self.records.push((record, at));
        self.times.push(self.machine.host().clock.wall().millis());
    }

    fn record(&self, len: usize) -> Vec<u8> {
        (0..len).map(|n| (self.records.len() * 31 + n).to_le_bytes()[0]).collect()
    }

    fn apply(&mut self, place: &Place, log: Log, op: &Op) -> Log {
        match op {
            Op::Append(lens) => {
                let records: Vec<Vec<u8>> = lens.iter().map(|len| self.record(*len)).collect();
                let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
                let appended = log.append(&slices).unwrap();
                assert_eq!(appended.first.get(), self.records.len() as u64);
                let mut at = appended.at;
                for record in records {
                    let next = at.plus(record.len() as u64 + 4);
                    self.push(record, at);
                    at = next;
                }
                assert_eq!(appended.next.get(), self.records.len() as u64);
            }
            Op::AppendParts(lens) => {
                let record = self.record(lens.iter().sum());
                let mut rest = &record[..];
                let mut parts = Vec::new();
                for len in lens {
                    let (part, after) = rest.split_at(*len);
                    parts.push(part);
                    rest = after;
                }
                let at = log.append_parts(&parts).unwrap().at;
                self.push(record, at);
            }
            Op::WriteOut => self.written = index(log.write_out().unwrap()),
            Op::Sync => self.written = index(log.sync().unwrap()),
            Op::Roll => {
                log.roll().unwrap();
                self.written = self.records.len();
            }
            Op::Trim(eighths) => {
                let before =
                    self.start as u64 + (self.records.len() - self.start) as u64 * eighths / 8;
                let start = log.trim(Offset::new(before)).unwrap();
                assert!(index(start) >= self.start && start.get() <= before.max(self.start as u64));
                self.start = index(start);
            }
            Op::Retain(age, bytes, from) => self.retain(place, &log, *age, *bytes, *from),
            Op::Pass(ms) => self.machine.advance(Duration::from_millis(*ms)),
            Op::Read(which) => self.read(&log, *which),
            Op::Batch(which, bytes) => self.read_batch(&log, *which, *bytes),
            Op::Time(which, after) => self.find_time(&log, *which, *after),
            Op::Keep(which) => self.keep(&log, *which),
            Op::Wait(which, reached) => self.wait(&log, *which, *reached),
            Op::Scan => self.check_all(&log),
            Op::Cut(which) => return self.cut(&log, *which),
            Op::Close => {
                log.close().unwrap();
                self.written = self.records.len();
                return self.reopen(place, true);
            }
            Op::Drop => {
                drop(log);
                return self.reopen(place, false);
            }
        }
        log
    }

    fn read(&self, log: &Log, which: prop::sample::Index) {
        if self.start == self.records.len() {
            return;
        }
        let (record, at) = &self.records[self.start + which.index(self.records.len() - self.start)];
        let slice = log.slice(*at, u32::try_from(record.len()).unwrap()).unwrap();
        assert_eq!(&slice.read().unwrap()[..], &record[..]);
        let offset = self.records.iter().position(|(_, other)| other == at).unwrap();
        let found = log.read(Offset::new(offset as u64)).unwrap();
        assert_eq!((&found[..], found.at()), (&record[..], *at));
        assert_eq!((index(found.offset()), found.epoch() <= log.epoch()), (offset, true));
        assert_eq!(&found.to_bytes()[..], &record[..]);
    }

    fn retain(
        &mut self,
        place: &Place,
        log: &Log,
        age: Option<u64>,
        bytes: Option<u64>,
        from: Option<u64>,
    ) {
        let from = from
            .map(|from| self.start as u64 + (self.records.len() - self.start) as u64 * from / 8);
        let limits = Retention {
            max_age: age.map(Duration::from_millis),
            max_bytes: bytes,
            from: from.map(Offset::new),
        };
        let segments = log.segments();
        let end = segments.last().unwrap().end.get();
        let now = self.machine.host().clock.wall().millis();
        let mut start = segments[0].first;
        for pair in segments.windows(2) {
            let looked = &mut |_| std::ops::ControlFlow::Break(());
            let next = inspect(&place.host, &pair[1].path, looked, &mut |_| unreachable!());
            let sealed_ms = next.unwrap().created_ms;
            let goes = from.is_some_and(|from| pair[1].first.get() <= from)
                || bytes.is_some_and(|most| end - pair[0].begin.get() > most)
                || age.is_some_and(|most| u64::try_from(now - sealed_ms).unwrap() >= most);
            if !goes {
                break;
            }
            start = pair[1].first;
        }
        assert_eq!(log.retain(&limits).unwrap(), start, "{limits:?}");
        self.start = index(start);
    }

    fn read_batch(&self, log: &Log, which: prop::sample::Index, bytes_max: usize) {
        let from = self.start + which.index(self.records.len() - self.start + 1);
        let mut batch = Batch::new();
        let next = log.read_batch(Offset::new(from as u64), bytes_max, &mut batch).unwrap();
        let found: Vec<_> =
            batch.iter().map(|record| (record.bytes, record.at, record.timestamp_ms)).collect();
        let mut expected = Vec::new();
        let mut bytes = 0;
        for ((record, at), ms) in self.records[from..].iter().zip(&self.times[from..]) {
            bytes += record.len();
            if bytes > bytes_max && !expected.is_empty() {
                break;
            }
            expected.push((&record[..], *at, *ms));
        }
        assert_eq!(index(next), from + expected.len());
        assert_eq!(found, expected);
    }

    fn find_time(&self, log: &Log, which: prop::sample::Index, after: i64) {
        if self.start == self.records.len() {
            assert_eq!(log.offset_at(i64::MIN).unwrap(), None);
            return;
        }
        let time = self.times[self.start + which.index(self.records.len() - self.start)] + after;
        let first = (self.start..self.times.len()).find(|offset| self.times[*offset] >= time);
        assert_eq!(log.offset_at(time).unwrap().map(index), first);
    }

    fn keep(&mut self, log: &Log, which: prop::sample::Index) {
        if self.start == self.records.len() {
            return;
        }
        let offset = self.start + which.index(self.records.len() - self.start);
        let (bytes, at) = self.records[offset].clone();
        let slice = log.slice(at, u32::try_from(bytes.len()).unwrap()).unwrap();
        let borrowed = log.read(Offset::new(offset as u64)).unwrap();
        let owned = borrowed.to_bytes();
        self.kept.push(Kept { bytes, borrowed, owned, slice });
    }

    fn wait(&mut self, log: &Log, which: prop::sample::Index, reached: Reached) {
        let offset = which.index(self.records.len() + 20) as u64;
        let mut arrival = log.wait_for(Offset::new(offset), reached);
        let found = arrival.wait_at_most(Duration::ZERO);
        check_arrival(log, offset, reached, found);
        self.waiting.push(Waiting { offset, reached, arrival });
    }

    /// What was read before is as it was, and who waits is told as soon as there is something to tell.
    fn check_kept(&mut self, log: &Log) {
        for Kept { bytes, borrowed, owned, slice } in &self.kept {
            assert!(borrowed[..] == bytes[..] && owned == bytes);
            assert!(slice.read().unwrap() == bytes);
        }
        let mut context = Context::from_waker(Waker::noop());
        self.waiting.retain_mut(|Waiting { offset, reached, arrival }| {
            let found = match Pin::new(arrival).poll(&mut context) {
                Poll::Ready(found) => found,
                Poll::Pending => Err(ArrivalError::TimedOut),
            };
            check_arrival(log, *offset, *reached, found)
        });
    }

    fn cut(&mut self, log: &Log, which: prop::sample::Index) -> Log {
        let end = self.start + which.index(self.records.len() - self.start + 1);
        let before = log.epoch();
        let log = log.truncate_after(Offset::new(end as u64)).unwrap();
        assert_eq!(log.epoch() > before, end < self.records.len());
        self.truncate(end);
        self.written = self.written.min(end);
        self.check_all(&log);
        log
    }

    fn truncate(&mut self, end: usize) {
        self.records.truncate(end);
        self.times.truncate(end);
        // They wait for the log that has ended.
        self.waiting.clear();
    }

    fn check_all(&self, log: &Log) {
        let expected: Vec<&[u8]> =
            self.records[self.start..].iter().map(|(record, _)| &record[..]).collect();
        assert_eq!(all(log), expected);
    }

    fn reopen(&mut self, place: &Place, clean: bool) -> Log {
        // Who waits keeps the log open; what a process that has ended kept is its own affair.
        self.waiting.clear();
        self.kept.clear();
        let (log, recovery) = place.reopen();
        assert_eq!(recovery.clean, clean);
        let appended = index(log.positions().appended);
        assert!(appended >= self.written && appended <= self.records.len());
        self.truncate(appended);
        self.written = appended;
        self.check_all(&log);
        log
    }

    fn check(&self, log: &Log) {
        let positions = log.positions();
        assert_eq!(index(positions.start), self.start);
        assert_eq!(index(positions.appended), self.records.len());
        assert!(index(positions.written) >= self.written);
        assert!(positions.durable <= positions.written && positions.written <= positions.appended);
        assert!(log.stats().segments == place_count(log));
    }
}

/// Whether somebody who waits has to wait on.
fn check_arrival(
    log: &Log,
    offset: u64,
    reached: Reached,
    found: Result<Offset, ArrivalError>,
) -> bool {
    let positions = log.positions();
    let position = match reached {
        Reached::Appended => positions.appended,
        Reached::Written => positions.written,
        Reached::Durable => positions.durable,
    };
    match found {
        Ok(found) => assert!(found == position && position.get() > offset),
        Err(ArrivalError::TimedOut) => assert!(position.get() <= offset),
        Err(error) => panic!("{error}"),
    }
    found.is_err()
}

fn place_count(log: &Log) -> u64 {
    log.segments().len() as u64
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).unwrap()
}

/// Real files under a clock that can be set, or simulated ones.
fn check(is_real: bool, reads: Reads, ops: &[Op]) {
    let machine = Machine::new(1);
    let mut place = if is_real { Place::new() } else { Place::on(&machine) };
    if is_real {
        place.host = Host { clock: machine.host().clock, ..Host::real() };
    }
    place.options.reads = reads;
    let mut model = Model::new(&machine);
    let mut log = place.open();
    for op in ops {
        log = model.apply(&place, log, op);
        model.check(&log);
        model.check_kept(&log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector_on_real_files_that_are_mapped(ops in ops()) {
        check(true, Reads::Mapped, &ops);
    }

    #[test]
    fn the_log_behaves_like_a_vector_on_real_files_that_are_copied(ops in ops()) {
        check(true, Reads::Copied, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_vector_on_simulated_files_that_cannot_be_mapped(ops in ops()) {
        check(false, Reads::Mapped, &ops);
    }

    #[test]
    fn the_log_behaves_like_a_vector_on_simulated_files_that_are_copied(ops in ops()) {
        check(false, Reads::Copied, &ops);
    }
}
