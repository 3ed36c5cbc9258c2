//! Goal: a landmark spares the segments before it a check after a crash, tells its own log from any other and from one
//! that lost its end, and changes nothing where it does not fit. Method: small logs on a simulated machine; damage
//! before and behind the landmark.

use durable_log::{Landmark, Log, Offset, OpenError};

use crate::support::{Place, all};

/// A log of several segments that was left without a close, and a landmark behind its tenth record.
fn left() -> (Place, Landmark) {
    let place = Place::simulated();
    let log = place.open();
    for number in 0..20_u64 {
        log.append(&[&number.to_le_bytes()]).unwrap();
        log.sync().unwrap();
        if number % 4 == 3 {
            log.roll().unwrap();
        }
    }
    let landmark = log.landmark(Offset::new(10)).unwrap();
    drop(log);
    (place, landmark)
}

fn damage(place: &Place, segment: usize) {
    let path = place.segments().swap_remove(segment);
    let mut bytes = place.read_file(&path);
    bytes[128 + 60] ^= 1;
    place.write_file(&path, &bytes);
}

fn open(place: &Place, landmark: Landmark) -> Result<(Log, bool), OpenError> {
    let opened = Log::open_from(&place.host, &place.dir, place.options.clone(), Some(landmark));
    opened.map(|(log, recovery)| (log, recovery.reaches_landmark))
}

#[test]
fn segments_before_the_landmarks_are_not_checked_and_the_others_are() {
    let (place, landmark) = left();
    assert_eq!((landmark.segment, landmark.next), (3, Offset::new(10)));
    damage(&place, 1);
    assert!(matches!(place.try_open(), Err(OpenError::Damaged { .. })));
    let (log, reached) = open(&place, landmark).unwrap();
    assert!(reached);
    let is_good = |number| log.read(Offset::new(number)).is_ok();
    assert!(!(4..8).all(is_good) && (8..20).all(is_good));
    drop(log);
    damage(&place, 2);
    assert!(matches!(open(&place, landmark), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_landmark_of_another_log_changes_nothing() {
    let (place, landmark) = left();
    let others = [
        Landmark { salt: landmark.salt ^ 1, ..landmark },
        Landmark { segment: landmark.segment + 1, ..landmark },
        Landmark { next: Offset::new(13), ..landmark },
        Landmark { next: Offset::new(8), ..landmark },
        Landmark { next: Offset::new(1 << 40), segment: 1 << 40, ..landmark },
    ];
    for other in others {
        let (log, reached) = open(&place, other).unwrap();
        assert!(!reached, "{other:?}");
        assert_eq!(all(&log).len(), 20);
    }
    damage(&place, 1);
    for other in others {
        assert!(matches!(open(&place, other), Err(OpenError::Damaged { .. })), "{other:?}");
    }
}

#[test]
fn a_landmark_is_not_reached_when_the_end_before_it_was_cut() {
    let (place, landmark) = left();
    let (log, reached) = open(&place, landmark).unwrap();
    assert!(reached);
    let cut = log.truncate_after(Offset::new(9)).unwrap();
    drop(log);
    for number in 9..30_u64 {
        cut.append(&[&number.to_le_bytes()]).unwrap();
    }
    cut.close().unwrap();
    let (log, reached) = open(&place, landmark).unwrap();
    assert!(!reached);
    assert_eq!(all(&log).len(), 30);
}

#[test]
fn a_landmark_is_reached_after_an_orderly_close_and_not_once_it_is_trimmed() {
    let (place, landmark) = left();
    let (log, _) = open(&place, landmark).unwrap();
    log.close().unwrap();
    let (log, reached) = open(&place, landmark).unwrap();
    assert!(reached);
    log.trim(Offset::new(12)).unwrap();
    log.close().unwrap();
    assert!(!open(&place, landmark).unwrap().1);
}

#[test]
fn there_is_no_landmark_where_nothing_is_durable_or_all_is_trimmed() {
    let place = Place::simulated();
    let log = place.open();
    assert_eq!(log.landmark(Offset::ZERO), None);
    log.append(&[b"not yet"]).unwrap();
    assert_eq!(log.landmark(Offset::new(1)), None);
    log.sync().unwrap();
    assert_eq!(log.landmark(Offset::new(1)).unwrap().segment, 1);
    log.roll().unwrap();
    log.trim(Offset::new(1)).unwrap();
    assert_eq!(log.landmark(Offset::new(1)), None);
}
