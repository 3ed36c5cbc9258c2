//! Goal: a torn end is cut only by an opening that succeeds, its copies do not pile up, and it is found wherever in
//! the segment's reserved room it lies. Method: the simulated machine and the real disk; unsynced frames damaged
//! between two lives.

use durable_log::{Offset, OpenError, Options};
use host::OpenMode;
use host::sim::Machine;

use crate::support::{Place, all};

/// Leaves a log whose last frame is damaged and was never promised; returns the bytes of its file.
fn tear(machine: &Machine) -> Vec<u8> {
    let place = Place::on(machine);
    let log = place.open();
    log.append(&[b"promised"]).unwrap();
    log.sync().unwrap();
    log.append(&[&[7; 300]]).unwrap();
    log.write_out().unwrap();
    drop(log);
    machine.kill();
    let place = Place::on(machine);
    let path = place.segments().pop().unwrap();
    let mut bytes = place.read_file(&path);
    let last = bytes.iter().rposition(|byte| *byte == 7).unwrap();
    bytes[last] ^= 1;
    machine.replace(&path, &bytes).unwrap();
    bytes
}

#[test]
fn an_opening_that_is_refused_has_cut_nothing() {
    let machine = Machine::new(1);
    let torn = tear(&machine);
    let used = torn.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut refused = 0;
    for pages in 1..4 {
        let machine = machine.fork();
        machine.fill_up(pages * 4096);
        let place = Place::on(&machine);
        let path = place.segments().pop().unwrap();
        match place.try_open() {
            // Room that was reserved may be gone, no byte of the log.
            Err(OpenError::NoSpace { .. }) => {
                assert_eq!(place.read_file(&path)[..used], torn[..used])
            }
            Err(error) => panic!("{error}"),
            Ok(_) => continue,
        }
        refused += 1;
    }
    assert!(refused > 0);
    let place = Place::on(&machine);
    let path = place.segments().pop().unwrap();
    let (log, recovery) = place.reopen();
    assert!(recovery.torn.is_some_and(|torn| torn.kept_as.is_some()));
    assert_eq!(all(&log), [b"promised"]);
    assert!(place.read_file(&path).len() < torn.len());
}

#[test]
fn damage_to_an_older_segment_is_found_before_the_torn_end_is_touched() {
    let machine = Machine::new(1);
    let log = Place::on(&machine).open();
    log.append(&[&[1; 100]]).unwrap();
    log.roll().unwrap();
    drop(log);
    machine.kill();
    tear(&machine);
    let place = Place::on(&machine);
    let files: Vec<_> = place.segments();
    machine.flip_bit(&files[0], 8 * 150).unwrap();
    let before: Vec<_> = files.iter().map(|path| place.read_file(path)).collect();
    assert!(matches!(place.try_open(), Err(OpenError::Damaged { path, .. }) if path == files[0]));
    assert_eq!(files.iter().map(|path| place.read_file(path)).collect::<Vec<_>>(), before);
    assert!(place.host.disk.list(&place.dir.join("torn")).is_err(), "nothing was copied");
}

#[test]
fn only_the_last_copies_of_torn_ends_stay() {
    let machine = Machine::new(1);
    let mut last = None;
    for _ in 0..20 {
        tear(&machine);
        let (log, recovery) = Place::on(&machine).reopen();
        last = recovery.torn.unwrap().kept_as;
        assert_eq!(log.stats().torn_bytes, 344);
        drop(log);
        machine.kill();
    }
    let place = Place::on(&machine);
    let copies = place.host.disk.list(&place.dir.join("torn")).unwrap();
    assert_eq!(copies.len(), 16);
    let newest = copies.last().map(|entry| place.dir.join("torn").join(&entry.name));
    assert_eq!(newest, last);
}

#[test]
fn the_last_copy_stays_also_when_numbers_of_segments_come_again() {
    let machine = Machine::new(1);
    let log = Place::on(&machine).open();
    for _ in 0..8 {
        log.append(&[b"whole"]).unwrap();
        log.roll().unwrap();
    }
    drop(log);
    machine.kill();
    for _ in 0..16 {
        tear(&machine);
        drop(Place::on(&machine).open());
        machine.kill();
    }
    let log = Place::on(&machine).open();
    drop(log.truncate_after(Offset::new(1)).unwrap());
    drop(log);
    machine.kill();
    tear(&machine);
    let place = Place::on(&machine);
    let (_log, recovery) = place.reopen();
    let kept = recovery.torn.unwrap().kept_as.unwrap();
    let copies = place.host.disk.list(&place.dir.join("torn")).unwrap();
    let names: Vec<_> =
        copies.iter().map(|entry| place.dir.join("torn").join(&entry.name)).collect();
    assert!(names.contains(&kept), "{} of {names:?}", kept.display());
    assert_eq!(names.len(), 16);
}

#[test]
fn a_torn_end_that_there_is_no_room_to_keep_leaves_the_room_to_the_log() {
    let machine = Machine::new(1);
    let place = Place::on(&machine);
    let log = place.open();
    log.append(&[b"promised"]).unwrap();
    log.sync().unwrap();
    // A segment of its own, with no room besides.
    log.append(&[&[7; 40_000]]).unwrap();
    log.write_out().unwrap();
    drop(log);
    machine.kill();
    let path = Place::on(&machine).segments().pop().unwrap();
    machine.flip_bit(&path, 8 * 1000).unwrap();
    for pages in 1..6 {
        let machine = machine.fork();
        machine.fill_up(1 << 30);
        let place = Place::on(&machine);
        let room = place.host.disk.space(&place.dir).unwrap();
        machine.fill_up(room.total_bytes - room.available_bytes + pages * 4096);
        let (log, recovery) = place.reopen();
        assert_eq!(all(&log), [b"promised"]);
        assert_eq!(recovery.torn.unwrap().kept_as, None, "with room for {pages} pages");
        let copies = place.host.disk.list(&place.dir.join("torn")).unwrap();
        assert!(copies.is_empty(), "{copies:?} with room for {pages} pages");
    }
}

/// Leaves on the real disk a log whose segment has room for 8 MiB, with the frame between two others damaged: the
/// one behind it lies 1 MiB away, and says that it was durable if that was `promised`.
fn tear_far_apart(promised: bool) -> Place {
    let place = Place::with(Options { segment_bytes: 8 << 20, ..Options::default() });
    let log = place.open();
    log.append(&[b"first"]).unwrap();
    log.sync().unwrap();
    let middle = log.append(&[&vec![5; 1 << 20]]).unwrap().at;
    if promised {
        log.sync().unwrap();
    }
    log.append(&[&[7; 5000]]).unwrap();
    log.write_out().unwrap();
    let at = log.segments()[0].begin;
    let path = place.segments().pop().unwrap();
    drop(log);
    // Its header and most of what follows are gone.
    let file = place.host.disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 128 + (middle.get() - at.get()) - 44).unwrap();
    place
}

#[test]
fn a_frame_far_behind_the_end_is_found_on_the_real_disk() {
    let place = tear_far_apart(false);
    let (log, recovery) = place.reopen();
    let torn = recovery.torn.unwrap();
    assert_eq!(all(&log), [b"first"]);
    assert!(torn.bytes > (1 << 20) + 5000 && torn.kept_as.is_some(), "{torn:?}");
    assert_eq!(log.stats().torn_bytes, torn.bytes);
    let place = tear_far_apart(true);
    let refused = place.try_open().map(|(log, _)| all(&log));
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
}
