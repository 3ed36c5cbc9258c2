//! Goal: a file of the log can be looked at without opening the log, and looking changes nothing.

use std::ops::ControlFlow;

use durable_log::{Location, Offset, OpenError, inspect, inspect_marker};

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
    assert_eq!(segment.end_reason, Some("zeros instead of a frame"));
    assert_eq!(place.read_file(&path), before);
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
    assert_eq!(inspect_marker(&place.host, &place.dir).unwrap(), None);
    log.close().unwrap();
    let mark = inspect_marker(&place.host, &place.dir).unwrap();
    assert_eq!(mark, Some((1, Offset::new(1), Location::new(48))));
}
