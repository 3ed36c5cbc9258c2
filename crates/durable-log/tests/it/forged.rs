//! Goal: a check of the recovery that no checksum stands in for is there. Method: bytes with good
//! checksums that no version writes, one lie at a time.

use std::path::{Path, PathBuf};

use durable_log::{Batch, Offset, OpenError, ReadError, Reads, TruncateError};
use host::sim::{Lost, Machine};

use crate::support::{Place, all, show};

/// Header of a segment, and of a frame.
const SEGMENT_BYTES: usize = 128;
const FRAME_BYTES: usize = 40;

/// Two sealed segments and the active one; what is in the first two was promised.
struct Forgery {
    place: Place,
    files: Vec<PathBuf>,
}

impl Forgery {
    fn new() -> Self {
        let place = Place::simulated();
        let log = place.open();
        for n in 0..5_u8 {
            log.append(&[&[n + 1; 100]]).unwrap();
            if n % 2 == 1 {
                log.roll().unwrap();
            }
        }
        log.sync().unwrap();
        drop(log);
        let files = place.segments();
        assert_eq!(files.len(), 3);
        Self { place, files }
    }

    /// Changes a file and makes its checksums good again.
    fn forge(&self, file: usize, lie: impl FnOnce(&mut Vec<u8>)) -> &Path {
        let path = &self.files[file];
        let mut bytes = self.place.read_file(path);
        lie(&mut bytes);
        seal(&mut bytes);
        self.place.write_file(path, &bytes);
        path
    }

    #[track_caller]
    fn check_refused(&self, path: &Path) {
        match self.place.try_open() {
            Err(OpenError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }

    /// What nobody was promised is cut, and the first `records` records stay.
    #[track_caller]
    fn check_cut(&self, records: u8) {
        let (log, recovery) = self.place.reopen();
        assert!(recovery.torn.is_some());
        let want: Vec<Vec<u8>> = (0..records).map(|n| vec![n + 1; 100]).collect();
        assert_eq!(all(&log), want);
    }
}

/// Computes all checksums of a segment anew. Frames are found by their lengths.
fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..SEGMENT_BYTES]);
    put(bytes, 12, &crc.to_le_bytes());
    let (salt, base) = (u64_at(bytes, 40), u64_at(bytes, 32));
    let mut at = SEGMENT_BYTES;
    while bytes.get(at..at + 4) == Some(b"frm1") {
        let mut len = [0; 4];
        len.copy_from_slice(&bytes[at + 8..at + 12]);
        let end = at + FRAME_BYTES + u32::from_le_bytes(len) as usize;
        if let Some(payload) = bytes.get(at + FRAME_BYTES..end) {
            let crc = crc32c::crc32c(payload);
            put(bytes, at + 12, &crc.to_le_bytes());
        }
        let location = base + (at - SEGMENT_BYTES) as u64;
        let mut covered = [salt.to_le_bytes(), location.to_le_bytes()].concat();
        covered.extend_from_slice(&bytes[at + 8..at + FRAME_BYTES]);
        put(bytes, at + 4, &crc32c::crc32c(&covered).to_le_bytes());
        at = end.next_multiple_of(8);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

#[test]
fn sealing_what_is_whole_changes_nothing() {
    let forgery = Forgery::new();
    for (n, path) in forgery.files.iter().enumerate() {
        let before = forgery.place.read_file(path);
        forgery.forge(n, |_| {});
        assert_eq!(forgery.place.read_file(path), before);
    }
}

#[test]
fn numbers_that_no_log_reaches_are_refused() {
    for at in [16, 24, 32, 56, 72] {
        let forgery = Forgery::new();
        let path = forgery.forge(2, |bytes| put(bytes, at, &u64::MAX.to_le_bytes()));
        forgery.check_refused(path);
    }
    let forgery = Forgery::new();
    let odd = |bytes: &mut Vec<u8>| bytes[32] |= 1;
    let path = forgery.forge(0, odd);
    forgery.check_refused(path);
}

#[test]
fn a_segment_that_begins_before_the_one_that_it_follows_is_refused() {
    for at in [24, 32] {
        let forgery = Forgery::new();
        // The first one begins beyond the second one.
        forgery.forge(0, |bytes| put(bytes, at, &80_000_u64.to_le_bytes()));
        forgery.check_refused(&forgery.files[1]);
    }
}

#[test]
fn an_epoch_and_a_time_that_go_back_are_refused() {
    for (at, value) in [(56, 9_u64), (64, i64::MAX.cast_unsigned())] {
        let forgery = Forgery::new();
        forgery.forge(0, |bytes| put(bytes, at, &value.to_le_bytes()));
        forgery.check_refused(&forgery.files[1]);
    }
}

#[test]
fn a_segment_that_does_not_begin_with_the_next_record_is_refused() {
    let forgery = Forgery::new();
    // The frames of the second and the base of the third would go together with records 2 to 3; say 3 to 4.
    for (file, base) in [(1, 3_u64), (2, 5)] {
        forgery.forge(file, |bytes| put(bytes, 24, &base.to_le_bytes()));
    }
    forgery.check_refused(&forgery.files[0]);
}

#[test]
fn records_that_are_not_the_next_ones_are_no_records() {
    let forgery = Forgery::new();
    forgery.forge(2, |bytes| {
        put(bytes, SEGMENT_BYTES + 24, &7_u64.to_le_bytes());
        // It claims no more than is there, or it would be damage.
        put(bytes, SEGMENT_BYTES + 20, &7_u32.to_le_bytes());
    });
    forgery.check_cut(4);
}

#[test]
fn records_whose_lengths_do_not_add_up_are_no_records() {
    for len in [99_u32, 101, u32::MAX] {
        let forgery = Forgery::new();
        forgery.forge(2, |bytes| put(bytes, SEGMENT_BYTES + FRAME_BYTES, &len.to_le_bytes()));
        forgery.check_cut(4);
    }
}

#[test]
fn a_frame_that_goes_on_behind_the_end_of_its_segment_is_refused() {
    let forgery = Forgery::new();
    let path = forgery.forge(0, |bytes| {
        let last = SEGMENT_BYTES + 144;
        bytes.resize(bytes.len() + 8, 0);
        put(bytes, last + 8, &112_u32.to_le_bytes());
        put(bytes, last + FRAME_BYTES, &108_u32.to_le_bytes());
    });
    forgery.check_refused(path);
}

#[test]
fn a_mark_of_the_beginning_that_its_segment_does_not_fit_is_refused() {
    let place = Place::simulated();
    let log = place.open();
    for n in 0..4_u8 {
        log.append(&[&[n; 100]]).unwrap();
        log.roll().unwrap();
    }
    log.trim(Offset::new(3)).unwrap();
    drop(log);
    let path = place.dir.join("start");
    let mut mark = place.read_file(&path);
    assert_eq!(u64_at(&mark, 24), 3);
    put(&mut mark, 24, &2_u64.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&mark[..12]), &mark[16..]);
    put(&mut mark, 12, &crc.to_le_bytes());
    place.write_file(&path, &mark);
    match place.try_open() {
        Err(OpenError::Damaged { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sealed_segment_that_is_cut_is_noticed_after_an_orderly_close_too() {
    let forgery = Forgery::new();
    forgery.place.open().close().unwrap();
    let path = &forgery.files[0];
    let bytes = forgery.place.read_file(path);
    forgery.place.write_file(path, &bytes[..bytes.len() - 8]);
    forgery.check_refused(path);
}

/// A log of two records in one segment that was closed in order, under a mark with a lie.
fn forge_mark(place: &Place, lie: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let log = place.open();
    for n in 0..2_u8 {
        log.append(&[&[n; 100]]).unwrap();
    }
    log.close().unwrap();
    let path = place.dir.join("clean");
    let mut mark = place.read_file(&path);
    assert_eq!((u64_at(&mark, 32), u64_at(&mark, 40)), (2, 288));
    lie(&mut mark);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&mark[..12]), &mark[16..]);
    put(&mut mark, 12, &crc.to_le_bytes());
    place.write_file(&path, &mark);
    place.segments().remove(0)
}

#[test]
fn a_mark_of_a_close_that_no_frames_fit_is_refused() {
    // The end's offset, and its location: more records than bytes, between no frames, in the first header.
    for (offset, at) in [(63, 288_u64), (1_u64, 0), (2, 287), (0, 8), (0, 32)] {
        let place = Place::simulated();
        let segment = forge_mark(&place, |mark| {
            put(mark, 32, &offset.to_le_bytes());
            put(mark, 40, &at.to_le_bytes());
        });
        match place.try_open() {
            Err(OpenError::Damaged { path, at: byte, .. }) => {
                assert_eq!((path, byte), (segment, at + SEGMENT_BYTES as u64));
            }
            other => panic!("{offset}, {at}: {other:?}"),
        }
    }
}

#[test]
fn a_segment_with_more_records_than_its_bytes_can_hold_is_refused() {
    let forgery = Forgery::new();
    for file in [1, 2] {
        forgery.forge(file, |bytes| put(bytes, 24, &500_u64.to_le_bytes()));
    }
    forgery.check_refused(&forgery.files[1]);
}

#[test]
fn records_that_a_mark_counts_and_that_are_not_there_are_damage_however_they_are_read() {
    for reads in [Reads::Copied, Reads::Mapped] {
        let places = [Place::simulated(), Place::new()];
        for mut place in places {
            place.options.reads = reads;
            let segment = forge_mark(&place, |mark| put(mark, 32, &3_u64.to_le_bytes()));
            let log = place.open();
            log.append(&[b"after"]).unwrap();
            let check = |found: Result<(), ReadError>| match found {
                Err(ReadError::Damaged { path, at, .. }) => {
                    assert_eq!((&path, at), (&segment, 288 + SEGMENT_BYTES as u64));
                }
                other => panic!("{other:?}"),
            };
            for n in 0..2 {
                assert_eq!(log.read(Offset::new(n)).unwrap()[..], [n.to_le_bytes()[0]; 100]);
            }
            check(log.read(Offset::new(2)).map(drop));
            let mut shown = 0;
            check(show(&log, Offset::ZERO, |_| shown += 1));
            assert_eq!(shown, 2);
            check(show(&log, Offset::new(2), |_| shown += 1));
            assert_eq!(shown, 2);
            let mut batch = Batch::new();
            check(log.read_batch(Offset::ZERO, 1000, &mut batch).map(drop));
            assert_eq!(batch.len(), 2);
            let cut = log.truncate_after(Offset::new(2));
            assert!(matches!(cut, Err(TruncateError::Damaged { .. })), "{cut:?}");
            assert_eq!(log.read(Offset::new(3)).unwrap()[..], *b"after");
        }
    }
}

#[test]
fn a_log_whose_name_another_process_did_not_sync_gets_a_durable_one() {
    let machine = Machine::new(1);
    // Operation 1 makes the directory, operation 2 would sync the name of it.
    machine.ignore_at(2);
    let log = Place::on(&machine).open();
    log.append(&[b"x"]).unwrap();
    log.sync().unwrap();
    machine.crash(&mut Lost);
    assert_eq!(all(&Place::on(&machine).open()), [b"x"]);
}
