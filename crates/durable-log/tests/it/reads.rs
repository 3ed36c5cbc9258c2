//! Goal: whichever way records are read, they are those that were appended: by offset, in order, in
//! batches and by time; mapped and copied; durable or not; while the log changes; whatever became of the
//! index files. Method: random operations compared with a vector, index files that are missing,
//! damaged or lie, and readers that race a writer. Damage is told, with its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use durable_log::{Batch, Epoch, Log, Offset, Options, ReadError, Reads};
use host::sim::Machine;
use host::{Host, WallTime};
use proptest::prelude::*;

use crate::allocations::allocated_by;
use crate::support::Place;

const START_MS: i64 = 1_767_225_600_000;

#[derive(Clone, Debug)]
enum Op {
    /// Records with these lengths, as one unit, at this time.
    Append(Vec<usize>, i64),
    /// So many records of one length, one by one.
    Run(usize, u16),
    WriteOut,
    Sync,
    Roll,
    /// Below this part of what there is, of 8.
    Trim(u64),
    Reopen,
    /// Reads around this place and time.
    Read(prop::sample::Index, i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![4 => 0..300_usize, 1 => 3000..90_000_usize];
    let op = prop_oneof![
        4 => (prop::collection::vec(len, 1..5), -50..50_i64).prop_map(|(lens, ms)| Op::Append(lens, ms)),
        3 => (0..600_usize, 1..400_u16).prop_map(|(len, count)| Op::Run(len, count)),
        1 => Just(Op::WriteOut),
        3 => Just(Op::Sync),
        1 => Just(Op::Roll),
        1 => (0..9_u64).prop_map(Op::Trim),
        1 => Just(Op::Reopen),
        8 => (any::<prop::sample::Index>(), -60..60_i64).prop_map(|(which, ms)| Op::Read(which, ms)),
    ];
    prop::collection::vec(op, 1..40)
}

/// What every log holds: a record and its time.
#[derive(Debug, Default)]
struct Model {
    records: Vec<(Vec<u8>, i64)>,
    start: usize,
}

fn record(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| (number * 31 + n).to_le_bytes()[0]).collect()
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).unwrap()
}

impl Model {
    fn append(&mut self, log: &Log, lens: &[usize], ms: i64) {
        let records: Vec<_> =
            lens.iter().enumerate().map(|(n, len)| record(self.records.len() + n, *len)).collect();
        let slices: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        log.append(&slices).unwrap();
        self.records.extend(records.into_iter().map(|record| (record, ms)));
    }

    fn apply(&mut self, machine: &Machine, place: &Place, log: Log, op: &Op) -> Log {
        match op {
            Op::Append(lens, ms) => {
                machine.set_wall(WallTime::from_nanos((START_MS + ms) * 1_000_000));
                self.append(&log, lens, START_MS + ms);
            }
            Op::Run(len, count) => {
                let ms = place.host.clock.wall().millis();
                (0..*count).for_each(|_| self.append(&log, &[*len], ms));
            }
            Op::WriteOut => drop(log.write_out().unwrap()),
            Op::Sync => drop(log.sync().unwrap()),
            Op::Roll => log.roll().unwrap(),
            Op::Trim(eighths) => {
                let there = (self.records.len() - self.start) as u64;
                let before = self.start as u64 + there * eighths / 8;
                self.start = index(log.trim(Offset::new(before)).unwrap());
            }
            Op::Reopen => {
                log.close().unwrap();
                return place.open();
            }
            Op::Read(which, ms) => self.check(&log, *which, START_MS + ms),
        }
        log
    }

    fn check(&self, log: &Log, which: prop::sample::Index, ms: i64) {
        let from = self.start + which.index(self.records.len() - self.start + 1);
        self.check_point(log, from);
        self.check_iterator(log, from);
        self.check_batch(log, from);
        let rest = self.records.iter().enumerate().skip(self.start);
        let expected = rest.into_iter().find(|(_, (_, time))| *time >= ms).map(|(at, _)| at);
        assert_eq!(log.offset_at(ms).unwrap().map(index), expected);
        if self.start > 0 {
            let before = Offset::new(self.start as u64 - 1);
            assert!(matches!(log.read(before), Err(ReadError::Trimmed { .. })));
            assert!(matches!(log.iter(before), Err(ReadError::Trimmed { .. })));
        }
    }

    fn check_point(&self, log: &Log, from: usize) {
        for at in from..self.records.len().min(from + 20) {
            let found = log.read(Offset::new(at as u64)).unwrap();
            let (bytes, ms) = &self.records[at];
            assert_eq!((&found[..], found.timestamp_ms()), (&bytes[..], *ms), "record {at}");
            assert_eq!((index(found.offset()), &found.to_bytes()[..]), (at, &bytes[..]));
            let len = u32::try_from(bytes.len()).unwrap();
            let slice = log.slice(found.at(), len).unwrap();
            assert_eq!(&slice.read().unwrap()[..], &bytes[..]);
        }
        let end = Offset::new(self.records.len() as u64);
        assert!(matches!(log.read(end), Err(ReadError::Beyond { .. })));
    }

    fn check_iterator(&self, log: &Log, from: usize) {
        let mut records = log.iter(Offset::new(from as u64)).unwrap();
        for (at, (bytes, ms)) in self.records.iter().enumerate().skip(from) {
            let found = records.next().unwrap().unwrap();
            assert_eq!((index(found.offset), found.timestamp_ms), (at, *ms));
            assert!(found.bytes == &bytes[..], "record {at}");
        }
        assert_eq!(records.next().unwrap(), None);
        assert_eq!(records.next().unwrap(), None);
    }

    fn check_batch(&self, log: &Log, from: usize) {
        const MOST: usize = 5000;
        let mut batch = Batch::new();
        let next = log.read_batch(Offset::new(from as u64), MOST, &mut batch).unwrap();
        assert_eq!(index(next), from + batch.len());
        for (record, (bytes, _)) in batch.iter().zip(&self.records[from..]) {
            assert!(record.bytes == &bytes[..]);
        }
        assert_eq!(batch.is_empty(), from == self.records.len());
        assert!(batch.bytes() <= MOST || batch.len() == 1);
        let is_full = self
            .records
            .get(index(next))
            .is_none_or(|(bytes, _)| batch.bytes() + bytes.len() > MOST);
        assert!(is_full, "a batch holds what it may");
    }
}

fn options(reads: Reads) -> Options {
    Options { segment_bytes: 128 << 10, reads, ..Options::default() }
}

fn check(machine: &Machine, place: &Place, ops: &[Op]) {
    let mut model = Model::default();
    let mut log = place.open();
    for op in ops {
        log = model.apply(machine, place, log, op);
    }
    model.check_iterator(&log, model.start);
}

/// Real files, and a clock that can be set.
fn real(machine: &Machine, reads: Reads) -> Place {
    let mut place = Place::with(options(reads));
    place.host = Host { clock: machine.host().clock, ..Host::real() };
    place
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn reads_of_mapped_files_are_those_of_a_vector(ops in ops()) {
        let machine = Machine::new(1);
        check(&machine, &real(&machine, Reads::Mapped), &ops);
    }

    #[test]
    fn reads_of_copied_files_are_those_of_a_vector(ops in ops()) {
        let machine = Machine::new(1);
        check(&machine, &real(&machine, Reads::Copied), &ops);
    }

    #[test]
    fn reads_of_simulated_files_are_those_of_a_vector(ops in ops()) {
        let machine = Machine::new(1);
        let mut place = Place::on(&machine);
        place.options = options(Reads::Mapped);
        check(&machine, &place, &ops);
    }
}

/// A closed log of some segments with index files.
fn indexed(place: &Place) -> Vec<PathBuf> {
    let log = place.open();
    for n in 0..2000_usize {
        log.append(&[&record(n, n % 300)]).unwrap();
    }
    log.close().unwrap();
    place.segments().into_iter().map(|path| path.with_extension("idx")).collect()
}

/// Reads all records by offset, from the last to the first.
fn check_all(place: &Place) {
    let log = place.open();
    for n in (0..2000_usize).rev() {
        assert_eq!(log.read(Offset::new(n as u64)).unwrap()[..], record(n, n % 300)[..], "{n}");
    }
}

fn remove(place: &Place, path: &Path) {
    place.host.disk.unlink(path).unwrap();
}

#[test]
fn an_index_that_is_missing_is_made_again_as_it_was() {
    for reads in [Reads::Mapped, Reads::Copied] {
        let place = Place::with(options(reads));
        let paths = indexed(&place);
        let before: Vec<_> = paths.iter().map(|path| place.read_file(path)).collect();
        assert!(before.len() > 2 && before[0].len() > 40 + 16 * 20);
        paths.iter().for_each(|path| remove(&place, path));
        check_all(&place);
        let after: Vec<_> = paths.iter().map(|path| place.read_file(path)).collect();
        assert!(before == after);
    }
}

#[test]
fn an_index_that_is_damaged_or_foreign_is_made_again() {
    let place = Place::with(options(Reads::Mapped));
    let paths = indexed(&place);
    let good = place.read_file(&paths[0]);
    let mut wrong: Vec<Vec<u8>> = (0..good.len())
        .step_by(5)
        .map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    wrong.extend([0, 7, 39, 40, 48, good.len() - 16].map(|len| good[..len].to_vec()));
    wrong.push([&good[..], &[0; 16]].concat());
    wrong.push(place.read_file(&paths[1]));
    for bytes in wrong {
        place.write_file(&paths[0], &bytes);
        let log = place.open();
        assert_eq!(log.read(Offset::new(7)).unwrap()[..], record(7, 7)[..]);
        assert!(place.read_file(&paths[0]) == good);
        log.close().unwrap();
    }
}

#[test]
fn an_index_that_lies_under_a_good_checksum_misleads_nobody() {
    for reads in [Reads::Mapped, Reads::Copied] {
        let place = Place::with(options(reads));
        let paths = indexed(&place);
        let good = place.read_file(&paths[0]);
        // An offset that is not that frame's; a place where no frame begins.
        for (at, more) in [(40 + 16 * 9, 1), (40 + 16 * 9 + 4, 1)] {
            let mut bytes = good.clone();
            let word = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) + more;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            place.write_file(&paths[0], &bytes);
            check_all(&place);
            place.write_file(&paths[0], &bytes);
            let log = place.open();
            for n in 0..400_usize {
                let mut records = log.iter(Offset::new(n as u64)).unwrap();
                let found = records.next().unwrap().unwrap();
                assert_eq!(found.bytes, record(n, n % 300));
            }
        }
    }
}

#[test]
fn an_index_without_a_segment_is_removed() {
    let place = Place::with(options(Reads::Mapped));
    let paths = indexed(&place);
    let orphan = place.dir.join("00000000000000000900.idx");
    place.write_file(&orphan, &place.read_file(&paths[0]));
    let log = place.open();
    let is_there = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        place.host.disk.list(&place.dir).unwrap().iter().any(|entry| entry.name == name)
    };
    assert!(!is_there(&orphan) && is_there(&paths[0]));
    log.trim(Offset::new(1000)).unwrap();
    assert!(!is_there(&paths[0]), "an index goes with its segment");
}

#[test]
fn damage_is_told_with_its_place_and_what_lies_before_it_is_read() {
    for reads in [Reads::Mapped, Reads::Copied] {
        let place = Place::with(options(reads));
        indexed(&place);
        let path = place.segments().remove(0);
        let mut bytes = place.read_file(&path);
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        place.write_file(&path, &bytes);
        // An orderly close spares the check.
        let log = place.open();
        let mut good = 0;
        let error = loop {
            match log.read(Offset::new(good)) {
                Ok(found) => assert_eq!(found[..], record(index(found.offset()), found.len())[..]),
                Err(error) => break error,
            }
            good += 1;
        };
        let is_told = |error: &ReadError| match error {
            ReadError::Damaged { path: named, at: told, .. } => {
                *named == path && *told <= at as u64 && at as u64 - told < 400
            }
            _ => false,
        };
        assert!(is_told(&error), "{error}");
        let mut records = log.iter(Offset::ZERO).unwrap();
        for n in 0..good {
            assert_eq!(records.next().unwrap().unwrap().offset.get(), n);
        }
        assert!(is_told(&records.next().unwrap_err()));
        assert!(is_told(&records.next().unwrap_err()), "it is not passed over");
        assert_eq!(log.read(Offset::new(1999)).unwrap()[..], record(1999, 1999 % 300)[..]);
    }
}

#[test]
fn an_iterator_goes_on_with_what_is_appended_later() {
    let place = Place::with(options(Reads::Mapped));
    let log = place.open();
    let mut records = log.iter(Offset::ZERO).unwrap();
    for n in 0..3000_usize {
        assert_eq!(records.next().unwrap(), None);
        log.append(&[&record(n, 100)]).unwrap();
        if n % 7 == 0 {
            log.sync().unwrap();
        }
        let found = records.next().unwrap().unwrap();
        assert_eq!((found.offset.get(), found.bytes), (n as u64, &record(n, 100)[..]));
        assert_eq!(found.epoch, Epoch::FIRST);
    }
}

#[test]
fn a_borrowed_read_allocates_nothing() {
    let place = Place::with(Options::default());
    let log = place.open();
    let append = || {
        for n in 0..5000_usize {
            log.append(&[&record(n, 256)]).unwrap();
        }
    };
    append();
    log.roll().unwrap();
    append();
    log.sync().unwrap();
    append();
    let read = || {
        for n in (0..15_000_u64).step_by(7) {
            let len = log.read(Offset::new(n)).unwrap().len();
            assert_eq!(len, 256);
        }
    };
    read();
    assert_eq!(allocated_by(read), ((), 0));
}

/// A record that says its number.
fn numbered(number: u64) -> [u8; 200] {
    let mut bytes = [0; 200];
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
    bytes
}

/// Appends, syncs, rolls and trims; what is below the mark may be gone.
fn write(log: &Log, records: u64) {
    for n in 0..records {
        assert_eq!(log.append(&[&numbered(n)]).unwrap().first.get(), n);
        match n % 997 {
            100 | 500 => drop(log.sync().unwrap()),
            700 => drop(log.write_out().unwrap()),
            900 => drop(log.trim(Offset::new(n.saturating_sub(2000))).unwrap()),
            _ => {}
        }
    }
}

/// Reads near the end and keeps some records for a while.
fn read_beside(log: &Log, done: &AtomicU64) -> u64 {
    let (mut state, mut reads, mut kept) = (1_u64, 0, Vec::new());
    while done.load(Ordering::Acquire) == 0 {
        let end = log.positions().appended.get();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let wanted = end.saturating_sub((state >> 33) % 3000);
        match log.read(Offset::new(wanted)) {
            Ok(found) => {
                assert_eq!(found[..], numbered(wanted));
                kept.push((wanted, found));
                reads += 1;
            }
            Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if kept.len() == 20 {
            kept.drain(..).for_each(|(wanted, found)| assert_eq!(found[..], numbered(wanted)));
        }
    }
    reads
}

fn iterate_beside(log: &Log, records: u64) {
    let mut next = 0;
    'again: while next < records {
        let mut found = match log.iter(Offset::new(next)) {
            Ok(found) => found,
            Err(ReadError::Trimmed { start }) => {
                next = start.get();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        while next < records {
            match found.next() {
                Ok(Some(record)) => {
                    assert_eq!((record.offset.get(), record.bytes), (next, &numbered(next)[..]));
                    next += 1;
                }
                Ok(None) => std::thread::yield_now(),
                Err(ReadError::Trimmed { start }) => {
                    next = start.get();
                    continue 'again;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn readers_see_every_record_as_it_is_while_the_log_changes_beneath_them() {
    const RECORDS: u64 = 60_000;
    for reads in [Reads::Mapped, Reads::Copied] {
        let place = Place::with(options(reads));
        let log = place.open();
        let done = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (log, done) = (log.clone(), Arc::clone(&done));
                host::spawn("reader", move || read_beside(&log, &done)).unwrap()
            })
            .collect();
        let iterator = {
            let log = log.clone();
            host::spawn("iterator", move || iterate_beside(&log, RECORDS)).unwrap()
        };
        write(&log, RECORDS);
        iterator.join().unwrap();
        done.store(1, Ordering::Release);
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).all(|reads| reads > 0));
        assert!(log.stats().segments > 1);
    }
}
