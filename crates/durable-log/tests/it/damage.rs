//! Goal: whatever happens to the bytes of a log, opening it either gives back at least what was
//! promised, as a prefix of what was appended, or is an error that names the file; it never panics
//! and never makes up records. Method: small logs, every cut, every flipped bit, missing and
//! exchanged files.

use std::path::PathBuf;

use durable_log::{Offset, OpenError, ReadError, Reads, Recovery};
use proptest::prelude::*;

use crate::support::{Place, all, show};

/// A copy of a log's files, to put them back after each attempt.
struct Image(Vec<(PathBuf, Vec<u8>)>);

impl Image {
    fn of(place: &Place) -> Self {
        Self(
            place
                .segments()
                .into_iter()
                .map(|path| (path.clone(), place.read_file(&path)))
                .collect(),
        )
    }

    fn restore(&self, place: &Place) {
        for path in place.segments() {
            place.host.disk.unlink(&path).unwrap();
        }
        self.0.iter().for_each(|(path, bytes)| place.write_file(path, bytes));
    }
}

/// Opens a damaged log: an error, or a prefix of `records` that holds the first `promised` ones.
#[track_caller]
fn check(place: &Place, records: &[&[u8]], promised: usize) -> Option<Recovery> {
    let (log, recovery) = match place.try_open() {
        Ok(opened) => opened,
        Err(OpenError::Damaged { path, why, .. }) => {
            assert!(path.starts_with(&place.dir) && !why.is_empty());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let found = all(&log);
    assert!(found.len() >= promised, "{} of {promised} promised records", found.len());
    assert_eq!(found, records[..found.len()]);
    assert_eq!(log.append(&[b"next"]).unwrap().first.get(), found.len() as u64);
    drop(log);
    // A second opening finds what the first one found, and nothing to repair.
    let (log, again) = place.reopen();
    assert_eq!(all(&log), found);
    assert!(again.torn.is_none());
    Some(recovery)
}

const RECORDS: [&[u8]; 3] = [b"the first", b"a second record", b"and a third"];

/// Three records: the third frame says that the first record was durable.
fn three() -> Place {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[RECORDS[0]]).unwrap();
    log.sync().unwrap();
    log.append(&[RECORDS[1]]).unwrap();
    log.append(&[RECORDS[2]]).unwrap();
    log.write_out().unwrap();
    drop(log);
    place
}

/// Where the good frames of the only segment end.
fn end_of_frames(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8)
}

#[test]
fn a_log_cut_at_any_byte_gives_a_prefix_or_an_error() {
    let place = three();
    let image = Image::of(&place);
    let (path, bytes) = &image.0[0];
    for cut in 0..end_of_frames(bytes) {
        image.restore(&place);
        place.write_file(path, &bytes[..cut]);
        // A cut that also takes the frames that spoke of the first record takes the promise along.
        check(&place, &RECORDS, 0);
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_leaves_at_least_what_was_promised() {
    let place = three();
    let image = Image::of(&place);
    let (path, bytes) = &image.0[0];
    let mut refused = 0;
    for bit in 0..end_of_frames(bytes) * 8 {
        image.restore(&place);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        place.write_file(path, &flipped);
        refused += u32::from(check(&place, &RECORDS, 1).is_none());
    }
    // All of the header, all of the first frame.
    assert_eq!(refused, (128 + 56) * 8);
}

#[test]
fn damage_below_a_promise_is_an_error_that_names_the_place() {
    let place = three();
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    bytes[128 + 44] ^= 1;
    place.write_file(&path, &bytes);
    for _ in 0..2 {
        match place.try_open() {
            Err(OpenError::Damaged { path: named, at: 128, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(place.read_file(&path), bytes, "a refused log is not changed");
}

#[test]
fn after_an_orderly_close_damage_is_found_by_the_read_and_not_by_the_opening() {
    for reads in [Reads::Mapped, Reads::Copied] {
        let mut place = Place::new();
        place.options.reads = reads;
        let log = place.open();
        log.append(&[RECORDS[0]]).unwrap();
        log.append(&[RECORDS[1]]).unwrap();
        log.close().unwrap();
        let path = place.segments().remove(0);
        let mut bytes = place.read_file(&path);
        bytes[128 + 56 + 44] ^= 1;
        place.write_file(&path, &bytes);
        let (log, recovery) = place.reopen();
        assert!(recovery.clean && recovery.torn.is_none());
        assert_eq!(&*log.read(Offset::ZERO).unwrap(), RECORDS[0]);
        for _ in 0..2 {
            match log.read(Offset::new(1)) {
                Err(ReadError::Damaged { path: named, at: 184, .. }) => assert_eq!(named, path),
                other => panic!("{other:?}"),
            }
            let shown = show(&log, Offset::new(1), |record| panic!("{record:?}"));
            assert!(matches!(shown, Err(ReadError::Damaged { at: 184, .. })), "{shown:?}");
        }
        drop(log);
        // No mark any more: the opening looks.
        assert!(matches!(place.try_open(), Err(OpenError::Damaged { at: 184, .. })));
    }
}

#[test]
fn damage_above_every_promise_is_cut_and_kept_aside_with_what_follows() {
    let place = three();
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    let second = 128 + 56;
    bytes[second + 44] ^= 1;
    place.write_file(&path, &bytes);
    let recovery = check(&place, &RECORDS, 1).unwrap();
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.at, torn.path), (second as u64, path));
    let kept = place.read_file(&torn.kept_as.unwrap());
    assert_eq!(kept, bytes[second..second + kept.len()]);
    assert_eq!(kept.len() as u64, torn.bytes);
}

#[test]
fn a_mark_of_an_idle_log_makes_its_last_record_a_promise() {
    let options = durable_log::Options {
        sync_interval: Some(std::time::Duration::from_millis(1)),
        ..crate::support::small()
    };
    let place = Place::with(options);
    let log = place.open();
    log.append(&[RECORDS[0]]).unwrap();
    let committer = log.clone();
    let thread = host::spawn("committer", move || committer.run_committer()).unwrap();
    while log.stats().bytes == 56 || log.stats().unsynced_bytes > 0 {
        std::thread::yield_now();
    }
    log.stop_committer();
    thread.join().unwrap();
    drop(log);
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    bytes[128 + 44] ^= 1;
    place.write_file(&path, &bytes);
    assert!(check(&place, &RECORDS, 1).is_none());
}

/// A log with several segments and a promise in each.
fn many_segments() -> (Place, Vec<Vec<u8>>) {
    let place = Place::simulated();
    let log = place.open();
    let records: Vec<Vec<u8>> = (0..10).map(|n| vec![n; 1000]).collect();
    for record in &records {
        log.append(&[record]).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    (place, records)
}

#[test]
fn a_missing_segment_in_the_middle_is_an_error() {
    let (place, _) = many_segments();
    let segments = place.segments();
    assert!(segments.len() > 3);
    place.host.disk.unlink(&segments[1]).unwrap();
    match place.try_open() {
        Err(OpenError::Damaged { path, .. }) => assert_eq!(path, segments[1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn exchanged_segments_are_an_error() {
    let (place, _) = many_segments();
    let segments = place.segments();
    let (one, two) = (place.read_file(&segments[1]), place.read_file(&segments[2]));
    place.write_file(&segments[1], &two);
    place.write_file(&segments[2], &one);
    match place.try_open() {
        Err(OpenError::Damaged { path, at: 16, .. }) => assert_eq!(path, segments[1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sealed_segment_that_is_cut_is_an_error() {
    let (place, _) = many_segments();
    let path = place.segments().remove(1);
    let bytes = place.read_file(&path);
    place.write_file(&path, &bytes[..bytes.len() - 8]);
    assert!(
        matches!(place.try_open(), Err(OpenError::Damaged { path: named, .. }) if named == path)
    );
}

#[test]
fn a_damaged_mark_of_a_close_only_costs_work() {
    let place = three();
    place.open().close().unwrap();
    let marker = place.dir.join("clean");
    let mut bytes = place.read_file(&marker);
    bytes[40] ^= 1;
    place.write_file(&marker, &bytes);
    assert!(!check(&place, &RECORDS, 3).unwrap().clean);
}

#[test]
fn a_log_shorter_than_its_mark_of_a_close_is_an_error() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&RECORDS).unwrap();
    log.close().unwrap();
    let path = place.segments().remove(0);
    let bytes = place.read_file(&path);
    place.write_file(&path, &bytes[..bytes.len() - 8]);
    assert!(check(&place, &RECORDS, 3).is_none());
}

#[test]
fn an_old_mark_of_a_close_that_came_back_says_nothing() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[RECORDS[0]]).unwrap();
    log.close().unwrap();
    let marker = place.read_file(&place.dir.join("clean"));
    let log = place.open();
    log.append(&[RECORDS[1]]).unwrap();
    log.sync().unwrap();
    drop(log);
    place.write_file(&place.dir.join("clean"), &marker);
    assert!(!check(&place, &RECORDS, 2).unwrap().clean);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any bytes in the place of a segment's frames: no panic, no made-up records.
    #[test]
    fn noise_after_the_header_is_no_record(noise in prop::collection::vec(any::<u8>(), 0..5000)) {
        let place = Place::simulated();
        drop(place.open());
        let path = place.segments().remove(0);
        let mut bytes = place.read_file(&path)[..128].to_vec();
        bytes.extend_from_slice(&noise);
        place.write_file(&path, &bytes);
        let recovery = check(&place, &[], 0).unwrap();
        prop_assert_eq!(recovery.torn.is_some(), noise.iter().any(|byte| *byte != 0));
    }

    /// Any overwritten range of a log of several segments.
    #[test]
    fn an_overwritten_range_never_yields_other_records(
        at in any::<prop::sample::Index>(), file in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..2000),
    ) {
        let (place, records) = many_segments();
        let records: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        let segments = place.segments();
        let path = &segments[file.index(segments.len())];
        let mut bytes = place.read_file(path);
        let at = at.index(bytes.len());
        let end = (at + noise.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        place.write_file(path, &bytes);
        let last = path == segments.last().unwrap();
        // Only the records of the last segment were not vouched for by a later one.
        let promised = if last { 0 } else { 9 };
        check(&place, &records, promised);
    }
}

#[test]
fn offsets_are_not_used_again_after_a_cut_of_durable_segments_only() {
    let place = three();
    let log = place.open();
    assert_eq!(log.positions().durable, Offset::new(3));
}
