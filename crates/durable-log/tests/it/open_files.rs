//! Goal: however many segments a log has, few of their files are open at once, and whatever is trimmed
//! or used again meanwhile, a reader gets the bytes that it asked for or hears that they are gone; and what
//! was reserved and never written is not read. Method: a disk that counts the files that are open and the
//! bytes that are read, and can refuse to open more; readers that race with trims.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use durable_log::{Log, Offset, Options, ReadError, Reads, Slice, TrimError};
use host::sim::Machine;
use testbed::Dice;

use crate::support::{Place, all, small};
use crate::watched::{Operation, Watch, watched};

/// "Too many open files".
const EMFILE: i32 = 24;

/// Counts the files that are open under names of segments, and opens none when told so.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicUsize,
    read_bytes: AtomicUsize,
    refuses: AtomicBool,
}

impl Counts {
    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most files that were open since the last call.
    fn most(&self) -> usize {
        self.most.swap(self.open(), Ordering::SeqCst)
    }
}

impl Watch for Counts {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let refused = operation == Operation::Open && self.refuses.load(Ordering::SeqCst);
        if refused && is_segment(path) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    }

    fn read(&self, path: &Path, bytes: usize) {
        if is_segment(path) {
            self.read_bytes.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    fn opened(&self, path: &Path) {
        if is_segment(path) {
            self.opened.fetch_add(1, Ordering::SeqCst);
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(open, Ordering::SeqCst);
        }
    }

    fn closed(&self, path: &Path) {
        if is_segment(path) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

/// Counts what `place` opens from now on.
fn counted(place: &mut Place) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    place.host = watched(&place.host, Arc::clone(&counts));
    counts
}

fn record(n: u64) -> Vec<u8> {
    let mut record = vec![n.to_le_bytes()[0]; 700];
    record[..8].copy_from_slice(&n.to_le_bytes());
    record
}

/// Appends two records to each of so many segments.
fn fill(log: &Log, segments: u64) {
    for _ in 0..segments {
        for _ in 0..2 {
            let next = log.positions().appended.get();
            log.append(&[&record(next)]).unwrap();
        }
        log.roll().unwrap();
    }
    log.sync().unwrap();
}

fn is_right(offset: Offset, bytes: &[u8]) -> bool {
    bytes == record(offset.get())
}

fn few(reads: Reads, open_files_max: usize) -> Options {
    // Two records fill a segment, so its file is worth keeping.
    Options { reads, open_files_max, segment_bytes: 2048, ..small() }
}

fn simulated(options: Options) -> Place {
    let mut place = Place::simulated();
    place.options = options;
    place
}

#[test]
fn a_log_of_300_segments_is_read_with_8_open_files() {
    for reads in [Reads::Copied, Reads::Mapped] {
        let options = few(reads, 8);
        let mut place = match reads {
            Reads::Mapped => Place::with(options),
            Reads::Copied => simulated(options),
        };
        let segments = if reads == Reads::Mapped { 40 } else { 300 };
        let log = place.open();
        fill(&log, segments);
        // Once as a crash of the process leaves it, once closed in order.
        drop(log);
        let counts = counted(&mut place);
        for _ in 0..2 {
            let log = place.open();
            // All were looked at; helpers check three at once, and the last one is held.
            assert!(counts.most() <= 5, "{reads:?}");
            assert_eq!(counts.open(), 0);
            let records = 2 * segments;
            let mut dice = Dice::new(7);
            for n in (0..2 * records).map(|n| if n < records { n } else { dice.below(records) }) {
                let found = log.read(Offset::new(n)).unwrap();
                assert!(is_right(Offset::new(n), &found));
            }
            assert_eq!(all(&log).len() as u64, records);
            assert_eq!(counts.most(), 8, "{reads:?}");
            let slice = log.slice(log.read(Offset::ZERO).unwrap().at(), 700).unwrap();
            assert!(is_right(Offset::ZERO, &slice.read().unwrap()));
            log.close().unwrap();
            drop(slice);
            assert_eq!(counts.open(), 0, "nothing stays open");
            counts.most();
        }
    }
}

#[test]
fn an_opening_after_a_crash_reads_what_was_written_and_not_the_room_behind_it() {
    const ROOM: usize = 64 << 20;
    let mut place = simulated(Options { segment_bytes: ROOM as u64, ..Options::default() });
    let log = place.open();
    log.append(&[&record(0)]).unwrap();
    log.write_out().unwrap();
    drop(log);
    assert_eq!(place.read_file(&place.segments()[0]).len(), ROOM);
    let counts = counted(&mut place);
    assert_eq!(all(&place.open()), [record(0)]);
    // One step of the search for the end, and some more of the page behind it.
    let read_bytes = counts.read_bytes.load(Ordering::SeqCst);
    assert!(read_bytes < 300 << 10, "{read_bytes} bytes were read");
}

#[test]
fn files_of_segments_that_this_log_ended_are_closed_too() {
    let mut place = simulated(few(Reads::Copied, 4));
    let counts = counted(&mut place);
    let log = place.open();
    fill(&log, 50);
    // They were made under another name, which is not counted.
    assert_eq!(all(&log).len(), 100);
    assert_eq!(counts.most(), 4);
    assert!(counts.opened.load(Ordering::SeqCst) >= 46, "those were closed");
}

#[test]
fn without_open_files_a_read_fails_and_the_log_goes_on() {
    let mut place = simulated(few(Reads::Copied, 2));
    let counts = counted(&mut place);
    fill(&place.open(), 6);
    let log = place.open();
    let at = log.read(Offset::new(4)).unwrap().at();
    assert!(log.read(Offset::ZERO).is_ok() && log.read(Offset::new(2)).is_ok());
    counts.refuses.store(true, Ordering::SeqCst);
    let refused = |error: ReadError| matches!(error, ReadError::Io { source, .. } if source.raw_os_error() == Some(EMFILE));
    assert!(refused(log.read(Offset::new(4)).unwrap_err()));
    assert!(refused(log.slice(at, 700).unwrap_err()));
    assert!(refused(
        log.iter(Offset::new(4)).and_then(|mut records| records.next().map(drop)).unwrap_err()
    ));
    // The rest of the log works.
    let next = log.positions().appended;
    log.append(&[&record(next.get())]).unwrap();
    log.sync().unwrap();
    assert!(!log.has_failed());
    counts.refuses.store(false, Ordering::SeqCst);
    assert!(is_right(Offset::new(4), &log.read(Offset::new(4)).unwrap()));
    assert!(is_right(next, &log.read(next).unwrap()));
}

#[test]
fn a_file_that_is_not_the_segments_own_is_not_read() {
    let place = simulated(few(Reads::Copied, 2));
    fill(&place.open(), 4);
    let log = place.open();
    let segments = place.segments();
    let (first, second): (&PathBuf, &PathBuf) = (&segments[0], &segments[1]);
    let at = log.read(Offset::new(2)).unwrap().at();
    assert!(log.read(Offset::new(4)).is_ok() && log.read(Offset::new(6)).is_ok());
    place.host.disk.rename(first, second).unwrap();
    let error = log.slice(at, 700).unwrap_err();
    assert!(matches!(error, ReadError::Io { .. }), "{error}");
    assert!(log.read(Offset::new(2)).is_err());
}

#[test]
fn a_segment_whose_name_went_before_a_trim_failed_is_still_read() {
    let machine = Machine::new(1);
    let mut place = Place::on(&machine);
    place.options = few(Reads::Copied, 1);
    fill(&place.open(), 3);
    let log = place.open();
    // The next two operations take the name away and sync the directory.
    machine.fail_at(machine.counts().operations + 2);
    let failed = log.trim(Offset::new(2)).unwrap_err();
    assert!(matches!(failed, TrimError::Io { .. }), "{failed}");
    assert_eq!(place.segments().len(), 3, "the name has gone");
    assert_eq!(log.positions().start, Offset::ZERO);
    for n in [2, 4, 0, 2, 0] {
        assert!(is_right(Offset::new(n), &log.read(Offset::new(n)).unwrap()));
    }
}

/// Reads at random until the log has grown enough, and once at least; what it reads is right or was trimmed.
fn read_at_random(log: &Log, seed: u64, until: u64) -> usize {
    let mut dice = Dice::new(seed);
    let (mut right, mut slices) = (0, Vec::<(Offset, Slice)>::new());
    while right == 0 || log.positions().durable.get() < until {
        let (start, end) = (log.positions().start.get(), log.positions().durable.get());
        let offset = Offset::new(start + dice.below((end - start).max(1)));
        match log.read(offset).and_then(|found| {
            assert!(is_right(offset, &found), "{offset}");
            log.slice(found.at(), 700)
        }) {
            Ok(slice) => slices.push((offset, slice)),
            Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => continue,
            Err(error) => panic!("{offset}: {error}"),
        }
        right += 1;
        let mut records = match log.iter(offset) {
            Ok(records) => records,
            Err(ReadError::Trimmed { .. }) => continue,
            Err(error) => panic!("{offset}: {error}"),
        };
        for _ in 0..5 {
            match records.next() {
                Ok(Some(record)) => assert!(is_right(record.offset, record.bytes)),
                Ok(None) | Err(ReadError::Trimmed { .. }) => break,
                Err(error) => panic!("{offset}: {error}"),
            }
        }
        // Most of them are trimmed by now.
        if slices.len() > 20 {
            for (offset, slice) in slices.drain(..15) {
                assert!(is_right(offset, &slice.read().unwrap()), "{offset}");
            }
        }
    }
    right
}

#[test]
fn readers_that_race_with_trims_get_the_right_bytes_or_none() {
    for (reads, until) in [(Reads::Copied, 1200), (Reads::Mapped, 400)] {
        let mut place = match reads {
            Reads::Mapped => Place::with(few(reads, 2)),
            Reads::Copied => simulated(few(reads, 2)),
        };
        let counts = counted(&mut place);
        let log = place.open();
        fill(&log, 8);
        let right: usize = std::thread::scope(|scope| {
            let log = &log;
            let readers: Vec<_> =
                (0..3).map(|seed| scope.spawn(move || read_at_random(log, seed, until))).collect();
            let mut dice = Dice::new(99);
            while log.positions().durable.get() < until {
                fill(log, 1 + dice.below(4));
                let end = log.positions().durable.get();
                log.trim(Offset::new(end - 8 - dice.below(8).min(end - 8))).unwrap();
            }
            readers.into_iter().map(|reader| reader.join().unwrap()).sum()
        });
        println!("{reads:?}: {right} right, {} files used again", log.stats().recycled);
        drop(log);
        assert_eq!(counts.open(), 0);
    }
}
