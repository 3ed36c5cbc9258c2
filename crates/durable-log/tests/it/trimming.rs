//! Goal: trimming removes whole segments from the beginning, all that it was asked for or none when
//! the power goes, in few operations; what readers hold stays. Method: the simulated machine, a power
//! cut at each operation with several outcomes, damaged marks.

use std::time::Duration;

use durable_log::{Log, Offset, OpenError, Retention, TrimError};
use host::sim::{Kept, Lost, Machine, Seeded};

use crate::support::{Place, all};

fn record(n: u64) -> Vec<u8> {
    vec![n.to_le_bytes()[0]; 100]
}

/// A log of so many segments with one record each, and an empty one.
fn segments(place: &Place, count: u64) -> Log {
    let log = place.open();
    for n in 0..count {
        log.append(&[&record(n)]).unwrap();
        log.roll().unwrap();
    }
    log
}

#[track_caller]
fn check(log: &Log, numbers: std::ops::Range<u64>) {
    assert_eq!(log.positions().start, Offset::new(numbers.start));
    assert_eq!(all(log), numbers.map(record).collect::<Vec<_>>());
}

#[test]
fn nine_segments_go_with_one_mark_and_few_syncs() {
    let machine = Machine::new(1);
    let log = segments(&Place::on(&machine), 10);
    let before = machine.counts();
    assert_eq!(log.trim(Offset::new(9)).unwrap(), Offset::new(9));
    let after = machine.counts();
    assert_eq!(after.syncs - before.syncs, 1);
    assert_eq!(after.dir_syncs - before.dir_syncs, 2);
    assert_eq!(log.stats().segments, 2);
    check(&log, 9..10);
}

#[test]
fn one_segment_goes_by_its_name_alone() {
    let machine = Machine::new(1);
    let log = segments(&Place::on(&machine), 3);
    let before = machine.counts();
    log.trim(Offset::new(1)).unwrap();
    let after = machine.counts();
    assert_eq!((after.syncs - before.syncs, after.dir_syncs - before.dir_syncs), (0, 1));
    check(&log, 1..3);
}

#[test]
fn a_power_cut_at_any_operation_of_a_trim_leaves_all_or_nothing_of_it() {
    for first in [1, 5] {
        for operation in 1.. {
            let machine = Machine::new(operation);
            let log = segments(&Place::on(&machine), 6);
            machine.crash_at(machine.counts().operations + operation);
            let trimmed = log.trim(Offset::new(first));
            for seed in 0..20 {
                let machine = machine.fork();
                match seed {
                    0 => machine.crash(&mut Lost),
                    1 => machine.crash(&mut Kept),
                    seed => machine.crash(&mut Seeded::new(seed)),
                }
                let log = Place::on(&machine).open();
                let start = log.positions().start.get();
                assert!(start == first || (start == 0 && trimmed.is_err()), "begins at {start}");
                check(&log, start..6);
                // What a trim left behind is gone, also when all that is unsynced is lost now.
                machine.crash(&mut Lost);
                let place = Place::on(&machine);
                check(&place.open(), start..6);
                let stay = 6 - start + 1;
                assert_eq!(place.segments().len() as u64, stay);
            }
            if trimmed.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_trim_whose_files_stay_goes_on_when_the_log_is_opened() {
    // The operations of a trim of many: the mark is made, written, synced, renamed and its name synced,
    // then the files go.
    for operation in 1..20 {
        let machine = Machine::new(1);
        let log = segments(&Place::on(&machine), 6);
        machine.fail_at(machine.counts().operations + operation);
        let result = log.trim(Offset::new(4));
        let start = log.positions().start.get();
        assert!(start == 4 || (start == 0 && result.is_err()), "{start} {result:?}");
        check(&log, start..6);
        // Of a trim with fewer operations the fault is still to come.
        let again = log.trim(Offset::new(5)).or_else(|_| log.trim(Offset::new(5)));
        assert_eq!(again.unwrap(), Offset::new(5));
        drop(log);
        machine.crash(&mut Lost);
        let place = Place::on(&machine);
        check(&place.open(), 5..6);
        assert_eq!(place.segments().len(), 2);
    }
}

#[test]
fn a_name_that_cannot_be_removed_leaves_its_segment_in_the_log() {
    let machine = Machine::new(1);
    let log = segments(&Place::on(&machine), 3);
    machine.fail_at(machine.counts().operations + 1);
    log.trim(Offset::new(1)).unwrap_err();
    check(&log, 0..3);
    log.trim(Offset::new(1)).unwrap();
    check(&log, 1..3);
}

#[test]
fn every_flipped_bit_of_the_mark_is_an_error_that_names_it() {
    let place = Place::simulated();
    drop({
        let log = segments(&place, 6);
        log.trim(Offset::new(4)).unwrap();
        log
    });
    let path = place.dir.join("start");
    let good = place.read_file(&path);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        place.write_file(&path, &bytes);
        match place.try_open() {
            Err(OpenError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    for len in 0..good.len() {
        place.write_file(&path, &good[..len]);
        assert!(
            matches!(place.try_open(), Err(OpenError::Damaged { path: named, .. }) if named == path)
        );
    }
    place.write_file(&path, &good);
    check(&place.open(), 4..6);
}

#[test]
fn a_mark_that_its_segments_do_not_fit_is_an_error() {
    let place = Place::simulated();
    let log = segments(&place, 6);
    log.trim(Offset::new(4)).unwrap();
    drop(log);
    // The mark of another log: a later beginning than there is, and another offset.
    let other = Place::simulated();
    let log = segments(&other, 9);
    log.trim(Offset::new(8)).unwrap();
    drop(log);
    let path = place.dir.join("start");
    let own = place.read_file(&path);
    place.write_file(&path, &other.read_file(&other.dir.join("start")));
    assert!(
        matches!(place.try_open(), Err(OpenError::Damaged { path: named, .. }) if named == path)
    );
    place.write_file(&path, &own);
    check(&place.open(), 4..6);
}

#[test]
fn a_segment_that_is_missing_above_the_mark_is_an_error() {
    let place = Place::simulated();
    let log = segments(&place, 6);
    log.trim(Offset::new(3)).unwrap();
    drop(log);
    let missing = place.segments().remove(1);
    place.host.disk.unlink(&missing).unwrap();
    assert!(matches!(place.try_open(), Err(OpenError::Damaged { path, .. }) if path == missing));
}

#[test]
fn everything_can_be_trimmed_and_offsets_go_on() {
    let machine = Machine::new(1);
    let log = segments(&Place::on(&machine), 5);
    assert_eq!(log.trim(Offset::new(99)).unwrap(), Offset::new(5));
    log.append(&[&record(5)]).unwrap();
    log.sync().unwrap();
    drop(log);
    machine.crash(&mut Lost);
    check(&Place::on(&machine).open(), 5..6);
}

#[test]
fn retention_goes_by_age_by_size_and_by_offset() {
    let machine = Machine::new(1);
    let log = Place::on(&machine).open();
    for n in 0..8 {
        log.append(&[&record(n)]).unwrap();
        // Ended at 1 s, 2 s and so on.
        machine.advance(Duration::from_secs(1));
        log.roll().unwrap();
    }
    let retain = |retention: Retention| log.retain(&retention).unwrap().get();
    assert_eq!(retain(Retention::default()), 0);
    let age = |secs| Retention { max_age: Some(Duration::from_secs(secs)), ..Retention::default() };
    assert_eq!(retain(age(8)), 0);
    assert_eq!(retain(age(6)), 2);
    let size = |bytes| Retention { max_bytes: Some(bytes), ..Retention::default() };
    assert_eq!(retain(size(6 * 144)), 2);
    assert_eq!(retain(size(6 * 144 - 1)), 3);
    assert_eq!(retain(Retention { from: Some(Offset::new(4)), ..size(u64::MAX) }), 4);
    // Whichever limit removes more.
    assert_eq!(retain(Retention { from: Some(Offset::new(5)), ..size(2 * 144) }), 6);
    check(&log, 6..8);
    assert_eq!(retain(size(0)), 8);
}

#[test]
fn a_segment_is_ended_by_the_first_append_after_its_time() {
    let machine = Machine::new(1);
    let mut place = Place::on(&machine);
    place.options.segment_age_max = Some(Duration::from_secs(10));
    let log = place.open();
    let mut expected = 1;
    for (secs, ends) in [(0, false), (9, false), (2, true), (9, false), (1, true), (100, true)] {
        machine.advance(Duration::from_secs(secs));
        log.append(&[b"x"]).unwrap();
        log.write_out().unwrap();
        expected += u64::from(ends);
        assert_eq!(log.stats().segments, expected, "{secs} s later");
    }
    // An empty segment does not age.
    log.roll().unwrap();
    machine.advance(Duration::from_secs(1000));
    log.append(&[b"x"]).unwrap();
    log.write_out().unwrap();
    assert_eq!(log.stats().segments, expected + 1);
}

#[test]
fn the_committer_ends_an_old_segment_of_an_idle_log() {
    let mut place = Place::new();
    place.options.segment_age_max = Some(Duration::from_millis(5));
    let log = place.open();
    log.append(&[b"x"]).unwrap();
    let committer = log.start_committer().unwrap();
    while log.stats().segments == 1 {
        std::thread::yield_now();
    }
    drop(committer);
    assert_eq!(log.positions().durable, Offset::new(1));
}

#[test]
fn a_trim_goes_on_after_a_failed_sync_of_the_directory() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    fill(&log, 9);
    let second = log.segments()[1].first;
    // The file loses its name first, then comes the sync.
    machine.fail_at(machine.counts().operations + 2);
    assert!(matches!(log.trim(second), Err(TrimError::Io { .. })));
    assert_eq!(log.trim(second).unwrap(), second);
}

#[test]
fn a_cut_after_a_trim_of_many_that_failed_anywhere_leaves_a_log_that_opens() {
    for operation in 1.. {
        let machine = Machine::new(1);
        let place = Place::on(&machine);
        let log = place.open();
        fill(&log, 15);
        let planned = machine.counts().operations + operation;
        machine.fail_at(planned);
        log.trim(Offset::new(9)).map_or_else(|error| println!("{operation}: {error}"), drop);
        if machine.counts().operations < planned {
            break;
        }
        let cut = log.positions().start.max(Offset::new(4));
        let log = log.truncate_after(cut).unwrap_or_else(|error| panic!("{operation}: {error}"));
        assert_eq!(log.positions().durable, cut);
    }
}

fn fill(log: &Log, records: u8) {
    for n in 0..records {
        log.append(&[&[n; 1000]]).unwrap();
        log.sync().unwrap();
    }
}
