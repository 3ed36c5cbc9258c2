//! Goal: what was appended is read back by offset and by location, before and after every step of
//! its way to the disk, across segments, closes, drops and trims; offsets only go up.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable_log::{
    AppendError, Batch, Location, Offset, OpenError, Options, Reached, ReadError, Reads, Retention,
    inspect, inspect_low_water, inspect_marker,
};
use host::WallTime;
use host::sim::Machine;

use crate::support::{Place, all, from};

#[test]
fn an_append_is_readable_at_once_and_stays_so() {
    let place = Place::new();
    let log = place.open();
    let appended = log.append(&[b"one", b"", b"three"]).unwrap();
    assert_eq!((appended.first, appended.next), (Offset::new(0), Offset::new(3)));
    let third = appended.at.plus(3 + 4 + 4);
    for step in 0..3 {
        assert_eq!(&log.slice(appended.at, 3).unwrap().read().unwrap()[..], b"one", "step {step}");
        assert_eq!(&log.slice(third, 5).unwrap().read().unwrap()[..], b"three", "step {step}");
        match step {
            0 => drop(log.write_out().unwrap()),
            _ => drop(log.sync().unwrap()),
        }
    }
    assert_eq!(all(&log), [&b"one"[..], b"", b"three"]);
}

#[test]
fn one_record_is_gathered_from_parts() {
    let place = Place::new();
    let log = place.open();
    let appended = log.append_parts(&[b"head", b"", b"body"]).unwrap();
    assert_eq!(appended.next - appended.first, 1);
    let slice = log.slice(appended.at.plus(2), 4).unwrap();
    let mut four = [0; 4];
    slice.read_into(&mut four).unwrap();
    assert_eq!(&four, b"adbo");
    assert!(slice.read_into(&mut [0; 3]).is_err());
    assert_eq!(all(&log), [b"headbody"]);
}

#[test]
fn positions_tell_how_far_records_are() {
    let place = Place::new();
    let log = place.open();
    log.append(&[b"a"]).unwrap();
    let positions = log.positions();
    assert_eq!(
        (positions.appended.get(), positions.written.get(), positions.durable.get()),
        (1, 0, 0)
    );
    assert_eq!(log.write_out().unwrap(), Offset::new(1));
    let positions = log.positions();
    assert_eq!((positions.written.get(), positions.durable.get()), (1, 0));
    assert_eq!(log.sync().unwrap(), Offset::new(1));
    assert_eq!(log.positions().durable.get(), 1);
    assert_eq!(log.stats().unsynced_bytes, 0);
}

#[test]
fn records_span_segments_and_come_back_after_a_close() {
    let place = Place::new();
    let log = place.open();
    let records: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; usize::from(n)]).collect();
    let mut places = Vec::new();
    for record in &records {
        places.push(log.append(&[record]).unwrap().at);
    }
    assert_eq!(all(&log), records);
    log.close().unwrap();
    let (log, recovery) = place.reopen();
    assert!(recovery.clean && recovery.torn.is_none() && recovery.segments > 5);
    assert_eq!(recovery.records, 200);
    assert_eq!(all(&log), records);
    for (record, at) in records.iter().zip(places) {
        let slice = log.slice(at, u32::try_from(record.len()).unwrap()).unwrap();
        assert_eq!(&slice.read().unwrap()[..], &record[..]);
    }
    assert_eq!(from(&log, Offset::new(150)), records[150..]);
}

#[test]
fn a_log_that_was_only_dropped_keeps_what_was_written_out() {
    let place = Place::new();
    let log = place.open();
    log.append(&[b"written"]).unwrap();
    log.write_out().unwrap();
    log.append(&[b"in memory only"]).unwrap();
    drop(log);
    let (log, recovery) = place.reopen();
    assert!(!recovery.clean && recovery.torn.is_none());
    assert_eq!(all(&log), [b"written"]);
    assert_eq!(log.append(&[b"next"]).unwrap().first, Offset::new(1));
}

#[test]
fn an_append_larger_than_a_segment_gets_one_that_fits() {
    let place = Place::new();
    let log = place.open();
    let big = vec![7; 60_000];
    log.append(&[b"before"]).unwrap();
    let at = log.append(&[&big]).unwrap().at;
    log.append(&[b"after"]).unwrap();
    assert_eq!(&log.slice(at, 60_000).unwrap().read().unwrap()[..], &big[..]);
    log.sync().unwrap();
    assert_eq!(all(&log), [&b"before"[..], &big, b"after"]);
    drop(log);
    assert_eq!(all(&place.open()).len(), 3);
}

#[test]
fn an_append_over_the_limit_is_refused_and_changes_nothing() {
    let place = Place::with(Options { append_bytes_max: 100, ..Options::default() });
    let log = place.open();
    let error = log.append(&[&[0; 50], &[0; 43]]).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { size: 101, limit: 100 }), "{error}");
    assert_eq!(log.append(&[&[0; 50], &[0; 42]]).unwrap().first, Offset::ZERO);
}

#[test]
fn appending_nothing_changes_nothing() {
    let place = Place::new();
    let log = place.open();
    log.append(&[b"a"]).unwrap();
    let nothing = log.append(&[]).unwrap();
    assert_eq!((nothing.first.get(), nothing.next.get()), (1, 1));
    assert_eq!(log.append(&[b"b"]).unwrap().at, nothing.at);
}

#[test]
fn appends_after_a_close_are_refused() {
    let place = Place::new();
    let log = place.open();
    let other = log.clone();
    log.close().unwrap();
    assert!(matches!(other.append(&[b"late"]), Err(AppendError::Closed)));
    assert!(matches!(other.append(&[]), Err(AppendError::Closed)));
    other.roll().unwrap();
    drop(other);
    assert!(place.reopen().1.clean);
}

#[test]
fn the_directory_belongs_to_one_log_at_a_time() {
    let place = Place::new();
    let log = place.open();
    assert!(matches!(place.try_open(), Err(OpenError::Locked { .. })));
    drop(log);
    place.open();
}

#[test]
fn offsets_and_locations_go_on_after_everything_was_trimmed() {
    let place = Place::new();
    let log = place.open();
    let first_at = log.append(&[b"a", b"b", b"c"]).unwrap().at;
    log.roll().unwrap();
    assert_eq!(log.trim(Offset::new(3)).unwrap(), Offset::new(3));
    assert!(all(&log).is_empty());
    assert_eq!(place.segments().len(), 1);
    log.close().unwrap();
    for clean in [true, false] {
        let (_log, recovery) = place.reopen();
        assert_eq!((recovery.clean, recovery.records), (clean, 0));
        assert_eq!(place.segments().len(), 1, "empty segments do not pile up");
    }
    let log = place.open();
    let next = log.append(&[b"d"]).unwrap();
    assert_eq!(next.first, Offset::new(3));
    assert!(next.at > first_at);
    assert!(
        matches!(log.slice(first_at, 1), Err(ReadError::Trimmed { start }) if start.get() == 3)
    );
    let seen = log.iter(Offset::new(2)).map(drop);
    assert!(matches!(seen, Err(ReadError::Trimmed { .. })));
}

#[test]
fn a_trim_removes_whole_segments_below_and_a_slice_survives_it() {
    let place = Place::new();
    let log = place.open();
    let mut at = Vec::new();
    for n in 0..20_u8 {
        at.push(log.append(&[&[n; 1000]]).unwrap().at);
    }
    log.sync().unwrap();
    let old = log.slice(at[0], 1000).unwrap();
    let segments = log.segments();
    assert_eq!(segments.len(), place.segments().len());
    assert!(
        segments.windows(2).all(|two| two[0].next == two[1].first && two[0].end == two[1].begin)
    );
    assert!(segments.iter().rev().skip(1).all(|segment| segment.sealed));
    let middle = segments[2].first;
    assert_eq!(log.trim(middle + 1).unwrap(), middle);
    assert_eq!(log.trim(Offset::ZERO).unwrap(), middle);
    assert_eq!(log.positions().start, middle);
    assert_eq!(&old.read().unwrap()[..], &[0; 1000]);
    assert_eq!(from(&log, middle).len(), 20 - usize::try_from(middle.get()).unwrap());
    assert_eq!(log.trim(Offset::new(20)).unwrap(), log.segments()[0].first);
    log.close().unwrap();
    let log = place.open();
    assert_eq!(log.append(&[b"x"]).unwrap().first.get(), 20);
}

#[test]
fn reads_beyond_the_end_are_refused() {
    let place = Place::new();
    let log = place.open();
    let at = log.append(&[b"abc"]).unwrap().at;
    assert!(matches!(log.slice(at, 100), Err(ReadError::Beyond { .. })));
    assert!(matches!(log.slice(Location::new(u64::MAX), 1), Err(ReadError::Beyond { .. })));
    log.sync().unwrap();
    assert!(matches!(log.slice(at, u32::MAX), Err(ReadError::Beyond { .. })));
    let seen = log.iter(Offset::new(2)).map(drop);
    assert!(matches!(seen, Err(ReadError::Beyond { .. })));
    assert!(from(&log, Offset::new(1)).is_empty());
}

#[test]
fn many_restarts_leave_little_behind() {
    let place = Place::with(Options::default());
    for n in 0..5 {
        let log = place.open();
        log.append(&[b"x"]).unwrap();
        log.close().unwrap();
        assert_eq!(place.segments().len(), n + 1);
    }
    let bytes: usize = place.segments().iter().map(|path| place.read_file(path).len()).sum();
    assert_eq!(bytes, 5 * (128 + 48));
}

#[test]
fn a_file_of_a_later_version_is_refused_by_name() {
    let place = Place::new();
    place.open().close().unwrap();
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path);
    // A bit of the version that flips is damage.
    bytes[8] = 3;
    place.write_file(&path, &bytes);
    assert!(matches!(place.try_open(), Err(OpenError::Damaged { at: 0, .. })));
    seal(&mut bytes[..128]);
    place.write_file(&path, &bytes);
    match place.try_open() {
        Err(OpenError::UnknownVersion { path: named, at: 8, version: 3 }) => {
            assert_eq!(named, path)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_version_1_is_refused_by_name_however_short_it_is() {
    let place = Place::new();
    place.open().close().unwrap();
    let path = place.segments().remove(0);
    let mut bytes = place.read_file(&path)[..64].to_vec();
    bytes[8] = 1;
    place.write_file(&path, &bytes);
    assert!(matches!(place.try_open(), Err(OpenError::Damaged { at: 0, .. })));
    seal(&mut bytes);
    place.write_file(&path, &bytes);
    let opened = place.try_open();
    assert!(matches!(opened, Err(OpenError::UnknownVersion { at: 8, version: 1, .. })));
}

#[test]
fn a_mark_of_a_later_version_is_refused_by_name_however_long_it_is() {
    for (name, refused_when_damaged) in [("clean", false), ("start", true)] {
        let place = Place::simulated();
        let log = place.open();
        for n in 0..4 {
            log.append(&[&[n; 1000]]).unwrap();
            log.roll().unwrap();
        }
        log.trim(Offset::new(3)).unwrap();
        log.close().unwrap();
        let path = place.dir.join(name);
        let good = place.read_file(&path);
        for longer in [0, 100] {
            let mut bytes = good.clone();
            bytes.resize(good.len() + longer, 7);
            bytes[8] += 1;
            place.write_file(&path, &bytes);
            let damaged = inspect_damaged(&place, &path);
            assert!(damaged, "{name}");
            seal(&mut bytes);
            place.write_file(&path, &bytes);
            match place.try_open() {
                Err(OpenError::UnknownVersion { path: named, at: 8, version }) => {
                    assert_eq!((named, version), (path.clone(), u32::from(bytes[8])));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        place.write_file(&path, &good[..good.len() - 1]);
        match place.try_open() {
            Ok((_, recovery)) => assert!(!recovery.clean && !refused_when_damaged),
            Err(OpenError::Damaged { .. }) => assert!(refused_when_damaged),
            Err(error) => panic!("{error}"),
        }
    }
}

fn inspect_damaged(place: &Place, path: &Path) -> bool {
    let shown = match path.ends_with("clean") {
        true => inspect_marker(&place.host, path).map(drop),
        false => inspect_low_water(&place.host, path).map(drop),
    };
    matches!(shown, Err(OpenError::Damaged { at: 0, .. }))
}

/// Makes a file's checksum good again.
fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn the_epoch_rises_with_every_opening_that_no_close_went_before() {
    let place = Place::new();
    let mut expected = 1;
    for clean in [true, false, false, true, true, false] {
        let log = place.open();
        assert_eq!(log.epoch().get(), expected);
        log.append(&[b"x"]).unwrap();
        log.sync().unwrap();
        let segments = log.segments();
        assert_eq!(segments.last().unwrap().epoch.get(), expected);
        if clean {
            log.close().unwrap();
        } else {
            drop(log);
            expected += 1;
        }
    }
}

#[test]
fn a_segment_knows_the_latest_time_before_it() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let newest = |place: &Place| -> Vec<Option<i64>> {
        let keep = ControlFlow::Continue(());
        let one =
            |path: &PathBuf| inspect(&place.host, path, &mut |_| keep, &mut |_| keep).unwrap();
        place.segments().iter().map(|path| one(path).newest_ms).collect()
    };
    let at = |ms: i64| machine.set_wall(WallTime::from_nanos(ms * 1_000_000));
    let log = place.open();
    for ms in [50, 40] {
        at(ms);
        log.append(&[b"x"]).unwrap();
        log.roll().unwrap();
    }
    assert_eq!(newest(&place), [None, Some(50), Some(50)]);
    at(70);
    log.append(&[b"x"]).unwrap();
    log.sync().unwrap();
    drop(log);
    machine.kill();
    let place = Place::on(&machine);
    place.open().close().unwrap();
    assert_eq!(newest(&place), [None, Some(50), Some(50), Some(70)]);
    place.open().close().unwrap();
    assert_eq!(newest(&place), [None, Some(50), Some(50), Some(70)]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let sensible = Options::default;
    let bad = [
        Options { segment_bytes: 64, ..sensible() },
        Options { segment_bytes: (4 << 30) + 1, ..sensible() },
        Options { append_bytes_max: (1 << 30) + 1, ..sensible() },
        Options { append_bytes_max: 0, ..sensible() },
        Options { append_bytes_max: 4, ..sensible() },
        Options { segment_bytes: 167, ..sensible() },
        Options { sync_ahead_bytes: 0, unsynced_bytes_max: 0, ..sensible() },
        Options { sync_ahead_bytes: 2, unsynced_bytes_max: 1, ..sensible() },
    ];
    for options in bad {
        let place = Place::with(options);
        assert!(matches!(place.try_open(), Err(OpenError::Options { .. })), "{:?}", place.options);
    }
}

#[test]
fn the_least_of_every_option_is_a_log_that_works() {
    let place = Place::with(Options {
        segment_bytes: 168,
        segment_age_max: Some(Duration::ZERO),
        append_bytes_max: 5,
        sync_ahead_bytes: 0,
        sync_ahead_records: Some(0),
        unsynced_bytes_max: 1,
        sync_interval: Some(Duration::ZERO),
        reads: Reads::Copied,
        open_files_max: 0,
        spare_files_max: 0,
        before_sync: None,
    });
    let log = place.open();
    let committer = log.start_committer().unwrap();
    for n in 0..20 {
        log.wait_room();
        log.append(&[&[n]]).unwrap();
    }
    assert_eq!(log.wait_for(Offset::new(19), Reached::Durable).wait().unwrap(), Offset::new(20));
    drop(committer);
    assert_eq!(all(&log), (0..20).map(|n| vec![n]).collect::<Vec<_>>());
    assert!(log.segments().len() >= 20);
    log.close().unwrap();
    assert_eq!(all(&place.open()).len(), 20);
}

#[test]
fn the_most_of_every_option_is_a_log_that_works() {
    let mut place = Place::simulated();
    place.options = Options {
        segment_bytes: 4 << 30,
        segment_age_max: Some(Duration::MAX),
        append_bytes_max: 1 << 30,
        sync_ahead_bytes: u64::MAX,
        sync_ahead_records: Some(u64::MAX),
        unsynced_bytes_max: u64::MAX,
        sync_interval: Some(Duration::MAX),
        reads: Reads::Mapped,
        open_files_max: usize::MAX,
        spare_files_max: usize::MAX,
        before_sync: None,
    };
    let log = place.open();
    let committer = log.start_committer().unwrap();
    log.append(&[b"one"]).unwrap().wait_synced().unwrap();
    drop(committer);
    log.close().unwrap();
    assert_eq!(all(&place.open()), [b"one"]);
}

#[test]
fn offsets_and_records_are_what_their_traits_say() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[b"one", b"", b"three"]).unwrap();
    assert_eq!("1".parse::<Offset>().unwrap(), Offset::from(1));
    assert_eq!(Offset::from(u64::MAX).to_string().parse(), Ok(Offset::new(u64::MAX)));
    assert!("-1".parse::<Offset>().is_err());
    let record = log.read(Offset::from(2)).unwrap();
    assert_eq!(AsRef::<[u8]>::as_ref(&record), b"three");
    let mut batch = Batch::new();
    log.read_batch(Offset::ZERO, 100, &mut batch).unwrap();
    let mut seen = Vec::new();
    for record in &batch {
        seen.push((record.offset.get(), record.bytes.to_vec()));
    }
    assert_eq!(seen, [(0, b"one".to_vec()), (1, b"".to_vec()), (2, b"three".to_vec())]);
    assert_eq!(batch.iter().len(), 3);
}

#[test]
fn a_log_that_was_closed_makes_no_files_for_segments_to_come() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[&[1; 2500]]).unwrap();
    log.clone().close().unwrap();
    let names = || place.host.disk.list(&place.dir).unwrap();
    let before = names();
    log.roll().unwrap();
    log.sync().unwrap();
    log.write_out().unwrap();
    assert_eq!(names(), before);
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn what_debug_prints_of_anything_is_short() {
    let place = Place::simulated();
    let (log, recovery) = place.try_open().unwrap();
    let appended = log.append(&[&[7; 50_000], b"x"]).unwrap();
    log.sync().unwrap();
    let committer = log.start_committer().unwrap();
    let mut batch = Batch::new();
    log.read_batch(Offset::ZERO, 1 << 20, &mut batch).unwrap();
    let mut records = log.iter(Offset::ZERO).unwrap();
    let shown = [
        format!("{log:?} {:?}", log.epoch()),
        format!("{recovery:?}"),
        format!("{appended:?} {:?}", log.positions()),
        format!("{:?}", log.segments()[0]),
        format!("{:?}", log.stats()),
        format!("{committer:?}"),
        format!("{batch:?} {:?}", batch.iter()),
        format!("{records:?}"),
        format!("{:?}", records.next().unwrap().unwrap()),
        format!("{:?}", log.read(Offset::ZERO).unwrap()),
        format!("{:?}", log.slice(appended.at, 50_000).unwrap()),
        format!("{:?}", log.ticket(Offset::new(2))),
        format!("{:?}", log.wait_for(Offset::new(2), Reached::Durable)),
        format!("{:?}", log.room()),
        format!("{:?}", Options::default()),
        format!("{:?}", Retention::default()),
    ];
    for text in shown {
        assert!(text.len() < 500, "{} bytes: {text:.500}", text.len());
    }
}
