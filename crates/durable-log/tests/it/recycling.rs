//! Goal: the file of a trimmed segment serves a later one, and nothing of its former life ever comes
//! back: not after a power cut, not to a reader that still holds it. Method: the simulated machine,
//! segments of a few frames, files looked at byte by byte; real files where they have to be mapped.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use durable_log::{InspectedSegment, Log, Offset, OpenError, Options, SegmentEnd, inspect};
use host::sim::{Kept, Lost, Machine, Reached};

use crate::gate::{Gate, gated};
use crate::support::{Place, all};
use crate::watched::Operation;

/// Three of them fill a segment.
fn record(n: u8) -> Vec<u8> {
    vec![n; 1000]
}

fn append(log: &Log, numbers: std::ops::Range<u8>) {
    for n in numbers {
        log.append(&[&record(n)]).unwrap();
        log.sync().unwrap();
    }
}

/// A log that used files again: its last segment has a former life, and holds two records.
fn recycled(place: &Place) -> Log {
    let log = place.open();
    append(&log, 0..9);
    log.trim(Offset::new(6)).unwrap();
    append(&log, 9..17);
    assert!(log.stats().recycled > 0);
    log
}

fn look(place: &Place, path: &Path) -> InspectedSegment {
    let go_on = ControlFlow::Continue(());
    inspect(&place.host, path, &mut |_| go_on, &mut |_| go_on).unwrap()
}

fn last(place: &Place) -> (PathBuf, InspectedSegment) {
    let path = place.segments().pop().unwrap();
    let seen = look(place, &path);
    (path, seen)
}

/// Where in a file frames begin, whosever they are.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (128..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"frm1")).collect()
}

#[track_caller]
fn check_records(log: &Log, numbers: std::ops::Range<u8>) {
    assert_eq!(all(log), numbers.map(record).collect::<Vec<_>>());
}

#[test]
fn a_trimmed_segments_file_becomes_a_later_segment_and_says_so() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = recycled(&place);
    check_records(&log, 6..17);
    let (path, seen) = last(&place);
    assert!(seen.stale_bytes > 3000, "{seen:?}");
    assert_eq!(seen.ends, SegmentEnd::Room("bytes of the file's former life"));
    let bytes = place.read_file(&path);
    assert!(
        frames(&bytes).iter().any(|at| *at as u64 >= seen.end),
        "a former frame is still there"
    );
    // All power cuts from here are the same: everything was synced.
    for keep in [false, true] {
        let machine = machine.fork();
        if keep {
            machine.crash(&mut Kept)
        } else {
            machine.crash(&mut Lost)
        }
        let (log, recovery) = Place::on(&machine).reopen();
        assert!(recovery.torn.is_none(), "a former life is not torn");
        check_records(&log, 6..17);
    }
}

#[test]
fn at_most_two_files_are_kept_and_a_close_keeps_none() {
    check_kept(Options::default().spare_files_max, 2);
}

#[test]
fn as_many_files_are_kept_as_the_options_say() {
    check_kept(0, 0);
    check_kept(5, 5);
}

#[track_caller]
fn check_kept(spare_files_max: usize, kept: usize) {
    let mut place = Place::simulated();
    place.options.spare_files_max = spare_files_max;
    let log = place.open();
    append(&log, 0..30);
    let before = place.segments().len();
    log.trim(Offset::new(29)).unwrap();
    let count = |suffix: &str| {
        let entries = place.host.disk.list(&place.dir).unwrap();
        entries.iter().filter(|entry| entry.name.ends_with(suffix)).count()
    };
    assert!(before > 8 && place.segments().len() < 3);
    assert_eq!(count(".new"), kept + 1, "those kept, one prepared");
    log.close().unwrap();
    assert_eq!(count(".new"), 0);
}

#[test]
fn a_segment_that_is_ended_early_keeps_its_room_while_it_may_be_used_again() {
    for keep in [0, 2] {
        let mut place = Place::simulated();
        place.options.spare_files_max = keep;
        let whole = place.options.segment_bytes;
        let sizes = || {
            place
                .segments()
                .iter()
                .map(|path| place.read_file(path).len() as u64)
                .collect::<Vec<_>>()
        };
        let log = place.open();
        append(&log, 0..1);
        log.roll().unwrap();
        let first = if keep > 0 { whole } else { 128 + 1048 };
        assert_eq!(sizes(), [first, whole]);
        append(&log, 1..2);
        if keep > 0 {
            // It is trimmed: its file is the next segment, all of it.
            log.trim(Offset::new(1)).unwrap();
            log.roll().unwrap();
            assert_eq!((sizes(), log.stats().recycled), (vec![whole, whole], 1));
            append(&log, 2..3);
        }
        log.roll().unwrap();
        // It is not: then its room is given back when the next one ends.
        assert_eq!(sizes().first(), Some(&(128 + 1048)));
        log.close().unwrap();
        assert!(sizes().iter().all(|size| *size < whole), "a close gives all room back");
    }
}

#[test]
fn a_segment_that_a_reader_holds_is_not_overwritten() {
    let place = Place::simulated();
    let log = place.open();
    let held = log.append(&[&record(7)]).unwrap().at;
    append(&log, 1..6);
    let slice = log.slice(held, 1000).unwrap();
    assert_eq!(log.trim(Offset::new(3)).unwrap(), Offset::new(3));
    append(&log, 6..20);
    assert_eq!(log.stats().recycled, 0);
    assert_eq!(&slice.read().unwrap()[..], &record(7)[..]);
}

#[test]
fn a_segment_whose_sync_failed_is_not_used_again() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    append(&log, 0..2);
    log.append(&[&record(2)]).unwrap();
    machine.fail_sync(machine.counts().syncs + 1, Reached::Nothing);
    log.sync().unwrap();
    append(&log, 3..9);
    log.trim(Offset::new(2)).unwrap();
    append(&log, 9..20);
    assert_eq!(log.stats().recycled, 0);
}

#[test]
fn an_own_frame_that_is_torn_among_former_bytes_is_cut_kept_aside_and_told() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = recycled(&place);
    let (path, before) = last(&place);
    log.append(&[b"never promised"]).unwrap();
    log.append(&[b"neither"]).unwrap();
    log.write_out().unwrap();
    drop(log);
    machine.crash(&mut Kept);
    let place = Place::on(&machine);
    let mut bytes = place.read_file(&path);
    let at = usize::try_from(before.end).unwrap();
    bytes[at + 45] ^= 1;
    place.write_file(&path, &bytes);
    let (log, recovery) = place.reopen();
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.at, torn.path), (before.end, path.clone()));
    // Both frames, and not what lies behind them.
    assert_eq!(torn.bytes, 64 + 56);
    let kept = place.read_file(&torn.kept_as.unwrap());
    assert_eq!(kept, bytes[at..at + 64 + 56]);
    check_records(&log, 6..17);
    assert_eq!(place.read_file(&path).len(), at, "nothing of it stays");
}

#[test]
fn an_own_frame_behind_a_hole_of_former_bytes_is_torn_too() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = recycled(&place);
    let (path, before) = last(&place);
    let former = place.read_file(&path);
    log.append(&[b"lost in the power cut"]).unwrap();
    log.append(&[b"kept"]).unwrap();
    log.write_out().unwrap();
    drop(log);
    machine.kill();
    let place = Place::on(&machine);
    let at = usize::try_from(before.end).unwrap();
    let mut bytes = place.read_file(&path);
    bytes[at..at + 72].copy_from_slice(&former[at..at + 72]);
    place.write_file(&path, &bytes);
    let (log, recovery) = place.reopen();
    assert_eq!(recovery.torn.unwrap().bytes, 72 + 48);
    check_records(&log, 6..17);
}

#[test]
fn damage_to_a_promise_in_a_recycled_segment_is_an_error() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    drop(recycled(&place));
    machine.kill();
    let place = Place::on(&machine);
    let (path, seen) = last(&place);
    let good = place.read_file(&path);
    // The segment's first frame: the frames behind it say that it was durable.
    for at in 128..128 + 44 {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        place.write_file(&path, &bytes);
        match place.try_open() {
            Err(OpenError::Damaged { path: named, at: 128, .. }) => assert_eq!(named, path),
            other => panic!("byte {at} of {seen:?}: {other:?}"),
        }
    }
}

#[test]
fn a_slice_of_an_earlier_handle_stays_as_it_is_when_its_file_is_trimmed() {
    let place = Place::simulated();
    let log = place.open();
    let at = log.append(&[b"kept"]).unwrap().at;
    log.append(&[b"cut off"]).unwrap();
    log.sync().unwrap();
    let slice = log.slice(at, 4).unwrap();
    let log = log.truncate_after(Offset::new(1)).unwrap();
    log.append(&[b"next"]).unwrap();
    log.roll().unwrap();
    log.trim(Offset::new(1)).unwrap();
    for _ in 0..4 {
        log.append(&[&[9; 3000]]).unwrap();
        log.roll().unwrap();
    }
    assert_eq!(&slice.read().unwrap()[..], b"kept");
}

/// A record that is borrowed through a handle from before a cut does not change when the new handle trims
/// its segment and uses the file again.
#[test]
fn a_borrowed_record_outlives_a_cut_and_the_recycling_after_it() {
    let place = Place::new();
    let old = place.open();
    append(&old, 0..12);
    let borrowed = old.read(Offset::new(1)).unwrap();
    let kept = borrowed.to_bytes();
    assert_eq!(borrowed[..], record(1));
    let log = old.truncate_after(Offset::new(11)).unwrap();
    log.trim(Offset::new(9)).unwrap();
    append(&log, 100..140);
    assert_eq!(borrowed[..], record(1), "borrowed");
    assert_eq!(kept[..], record(1), "kept");
}

/// The same for a record that is kept across the end of one handle and the opening of the next.
#[test]
fn a_kept_record_outlives_the_log_and_the_recycling_by_the_next_one() {
    let place = Place::new();
    let log = place.open();
    append(&log, 0..12);
    let kept = log.read(Offset::new(1)).unwrap().to_bytes();
    drop(log);
    let log = place.open();
    log.trim(Offset::new(9)).unwrap();
    append(&log, 100..140);
    assert_eq!(kept[..], record(1));
}

/// Nobody knows of those readers any more, so what was found at opening never serves again.
#[test]
fn only_files_of_segments_that_this_handle_made_are_used_again() {
    let place = Place::simulated();
    let log = place.open();
    append(&log, 0..12);
    drop(log);
    let log = place.open();
    log.trim(Offset::new(9)).unwrap();
    append(&log, 12..24);
    assert_eq!(log.stats().recycled, 0);
    log.trim(Offset::new(20)).unwrap();
    append(&log, 24..36);
    assert!(log.stats().recycled > 0);
    check_records(&log, 18..36);
}

/// The committer of a handle that has ended by a cut does not take away the file that the new handle made
/// for its next segment.
#[test]
fn an_old_committer_leaves_the_new_handles_files_alone() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let (gate, arrived, open) = Gate::new(Operation::Unlink, "next-");
    let (old, _) = Log::open(&gated(&place, &gate), &place.dir, place.options.clone()).unwrap();
    gate.arm();
    let committer = old.start_committer().unwrap();
    append(&old, 0..2);
    // It is about to make the next segment's file.
    arrived.recv().unwrap();
    let log = old.truncate_after(Offset::new(1)).unwrap();
    append(&log, 1..4);
    let entries = place.host.disk.list(&place.dir).unwrap();
    assert!(entries.iter().any(|entry| entry.name.ends_with(".new")));
    open.send(()).unwrap();
    drop(committer);
    append(&log, 4..20);
    assert_eq!(all(&log).len(), 20);
}
