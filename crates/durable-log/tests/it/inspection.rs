//! Goal: a file of the log can be looked at without opening the log, and looking changes nothing.

use std::ops::ControlFlow;

use durable_log::{
    InspectedEntry, InspectedSegment, Location, Offset, OpenError, Options, Promise, SegmentEnd,
    inspect, inspect_index, inspect_low_water, inspect_marker,
};

use crate::support::Place;

#[test]
fn a_segment_shows_its_header_frames_and_records() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[b"a", b"bb"]).unwrap();
    log.sync().unwrap();
    log.append(&[b"ccc"]).unwrap();
    log.write_out().unwrap();
    let path = place.segments().remove(0);
    let before = place.read_file(&path);
    let (mut frames, mut records) = (Vec::new(), Vec::new());
    let segment = inspect(
        &place.host,
        &path,
        &mut |frame| {
            frames.push((
                frame.position,
                frame.first.get(),
                frame.records,
                frame.synced_through.get(),
            ));
            ControlFlow::Continue(())
        },
        &mut |record| {
            records.push((record.offset.get(), record.bytes.to_vec()));
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!(frames, [(128, 0, 2, 0), (128 + 56, 2, 1, 2)]);
    assert_eq!(records, [(0, b"a".to_vec()), (1, b"bb".to_vec()), (2, b"ccc".to_vec())]);
    assert_eq!((segment.number, segment.first, segment.next), (1, Offset::ZERO, Offset::new(3)));
    assert_eq!((segment.end, segment.file_bytes), (128 + 56 + 48, 4096));
    assert_eq!(segment.ends, SegmentEnd::Room("zeros instead of a frame"));
    assert_eq!(place.read_file(&path), before);
}

/// Only what a segment says of itself, read to its end.
fn seen(place: &Place, path: &std::path::Path) -> InspectedSegment {
    let go_on = ControlFlow::Continue(());
    inspect(&place.host, path, &mut |_| go_on, &mut |_| go_on).unwrap()
}

#[test]
fn damage_is_told_from_the_torn_end_of_a_write_as_far_as_anything_says_so() {
    let place = Place::simulated();
    let log = place.open();
    for n in 0..3 {
        log.append(&[&[n; 100]]).unwrap();
        log.sync().unwrap();
    }
    let path = place.segments().remove(0);
    let good = place.read_file(&path);
    let frame = 40 + 4 + 100 + 4 - 4;
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        place.write_file(&path, &bytes);
        seen(&place, &path)
    };
    // A frame further on says that the first record was durable; nobody says so of the last one.
    let first = flip(128 + 60);
    let promised = Offset::new(2);
    assert!(
        matches!(first.ends, SegmentEnd::Damaged { promised: p, by: Promise::Frame, .. } if p == promised),
        "{first:?}"
    );
    assert_eq!(first.end, 128);
    let last = flip(128 + 2 * frame + 60);
    assert!(matches!(last.ends, SegmentEnd::Torn { bytes: 1..=144, .. }), "{last:?}");
    // A close does, and so does a next segment.
    place.write_file(&path, &good);
    log.close().unwrap();
    let last = flip(128 + 2 * frame + 60);
    assert!(matches!(last.ends, SegmentEnd::Damaged { by: Promise::Close, .. }), "{last:?}");
    place.write_file(&path, &good);
    let log = place.open();
    assert_eq!(seen(&place, &path).ends, SegmentEnd::Next);
    let last = flip(128 + 2 * frame + 60);
    assert!(matches!(last.ends, SegmentEnd::Damaged { by: Promise::NextSegment, .. }), "{last:?}");
    drop(log);
}

#[test]
fn what_a_cut_has_replaced_is_told() {
    let place = Place::simulated();
    let log = place.open();
    for n in 0..4 {
        log.append(&[&[n; 100]]).unwrap();
    }
    log.sync().unwrap();
    let log = log.truncate_after(Offset::new(2)).unwrap();
    let path = place.segments().remove(0);
    let seen = seen(&place, &path);
    let next = seen.followed_by.unwrap();
    assert_eq!((next.number, next.first), (2, Offset::new(2)));
    assert!(next.position <= seen.end, "{seen:?}");
    drop(log);
}

#[test]
fn what_is_not_a_segment_is_said_to_be_none() {
    let place = Place::simulated();
    drop(place.open());
    let path = place.dir.join("other");
    place.write_file(&path, &[7; 100]);
    let shown = inspect(&place.host, &path, &mut |_| ControlFlow::Continue(()), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(shown, Err(OpenError::Damaged { at: 0, .. })));
}

#[test]
fn the_mark_of_a_close_can_be_read() {
    let place = Place::simulated();
    let log = place.open();
    log.append(&[b"a"]).unwrap();
    let path = place.dir.join("clean");
    assert!(matches!(inspect_marker(&place.host, &path), Err(OpenError::Io { .. })));
    log.close().unwrap();
    let mark = inspect_marker(&place.host, &path).unwrap();
    assert_eq!((mark.segment, mark.next, mark.end), (1, Offset::new(1), Location::new(48)));
}

#[test]
fn the_mark_of_the_beginning_can_be_read() {
    let place = Place::simulated();
    let log = place.open();
    for n in 0..4 {
        log.append(&[&[n; 100]]).unwrap();
        log.roll().unwrap();
    }
    log.trim(Offset::new(3)).unwrap();
    let mark = inspect_low_water(&place.host, &place.dir.join("start")).unwrap();
    assert_eq!((mark.version, mark.segment, mark.first), (1, 4, Offset::new(3)));
}

#[test]
fn an_index_shows_its_entries_and_a_damaged_one_is_refused() {
    let mut place = Place::simulated();
    place.options = Options::default();
    let log = place.open();
    for n in 0..10 {
        log.append(&[&[n; 10_000], b"x"]).unwrap();
    }
    log.roll().unwrap();
    let path = place.segments().remove(0).with_extension("idx");
    let (index, entries) = inspect_index(&place.host, &path).unwrap();
    let frame_bytes = 40 + 4 + 10_000 + 4 + 1_u64;
    let frame_bytes = frame_bytes.next_multiple_of(8);
    assert_eq!((index.segment, index.frames_bytes, index.entries), (1, 10 * frame_bytes, 10));
    for (n, InspectedEntry { position, records_before, .. }) in (0..).zip(entries) {
        assert_eq!((position, records_before), (128 + n * frame_bytes, 2 * n));
    }
    let mut bytes = place.read_file(&path);
    bytes[8] = 2;
    place.write_file(&path, &bytes);
    assert!(matches!(inspect_index(&place.host, &path), Err(OpenError::Damaged { at: 0, .. })));
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    place.write_file(&path, &bytes);
    let refused = inspect_index(&place.host, &path);
    assert!(matches!(refused, Err(OpenError::UnknownVersion { at: 8, version: 2, .. })));
}
