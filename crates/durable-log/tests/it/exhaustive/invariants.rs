//! The eight invariants, each by its name, and how a state of the disk is checked against all of them.

use std::ops::ControlFlow;
use std::path::PathBuf;

use durable_log::{
    InspectedFrame, Location, Log, Offset, OpenError, ReadError, Record, Recovery, inspect,
};
use host::sim::{Lost, Machine};

use crate::allocations::allocated_by;
use crate::support::{Place, show};
use crate::workload::{Found, Said, index};

/// What opening one of our small logs may allocate: its buffers, and the files some times over.
const ALLOCATED_BYTES_MAX: u64 = 4 << 20;

/// Opens what a power cut left and checks everything; returns what the log holds.
#[track_caller]
pub(super) fn check(place: &Place, crashed: &Machine, said: &Said) -> Found {
    let machine = crashed.fork();
    let (log, recovery) = opening_stays_within_bounds(&place.again(&machine));
    let found = Found::in_log(&log);
    every_durable_record_is_present(said, &found);
    what_is_recovered_is_a_prefix(said, &found);
    retention_removes_a_prefix_only(said, &found);
    the_index_equals_its_rebuild(&place.again(&machine), &log, crashed);
    said.check_epoch(&log);
    drop(log);
    damage_to_durable_records_is_an_error(crashed, place, said, &found);

    machine.crash(&mut Lost);
    let (log, again) = place.again(&machine).reopen();
    assert!(again.torn.is_none(), "the first recovery left nothing to cut");
    if let Some(torn) = recovery.torn {
        let kept = machine.bytes(&torn.kept_as.unwrap()).unwrap();
        assert_eq!(kept.len() as u64, torn.bytes, "what was cut is kept aside, durably");
    }
    recovery_of_a_recovery_is_the_same(&found, &Found::in_log(&log));
    offsets_are_never_reused(&machine, place, log, said, &found);
    found
}

/// 1. Every durable record is present, byte for byte.
#[track_caller]
fn every_durable_record_is_present(said: &Said, found: &Found) {
    let durable = said.durable_of(found);
    assert!(found.end() >= durable, "{} records, {durable} promised", found.end());
    for offset in found.start..durable {
        assert_eq!(found.records[offset - found.start], said.records[offset], "record {offset}");
    }
}

/// 2. What is recovered is a prefix of what was appended, no holes, no phantoms.
#[track_caller]
fn what_is_recovered_is_a_prefix(said: &Said, found: &Found) {
    assert_eq!(Some(&found.records[..]), said.records.get(found.start..found.end()));
}

/// 3. Offsets are never reused: what comes next gets the next number, in an epoch in which nobody saw that
///    number, is durable when the log says so, and changes nothing that was found.
#[track_caller]
fn offsets_are_never_reused(
    machine: &Machine,
    place: &Place,
    log: Log,
    said: &Said,
    found: &Found,
) {
    said.check_epoch(&log);
    let appended = log.append(&[b"next"]).unwrap();
    assert_eq!(index(appended.first), found.end());
    log.sync().unwrap();
    drop(log);
    machine.crash(&mut Lost);
    let log = place.again(machine).open();
    let again = Found::in_log(&log);
    assert_eq!((again.start, again.records.last()), (found.start, Some(&b"next".to_vec())));
    assert_eq!(again.records[..found.records.len()], found.records);
}

/// 4. Recovery of a recovery, also one that crashed, is the same.
#[track_caller]
pub(super) fn recovery_of_a_recovery_is_the_same(first: &Found, second: &Found) {
    assert_eq!(first, second);
}

/// 5. What the log knows about where its records lie is what its files say, with the index files that the
///    power cut left and without them.
#[track_caller]
fn the_index_equals_its_rebuild(place: &Place, log: &Log, crashed: &Machine) {
    let segments = log.segments();
    let mut records = Vec::new();
    for segment in &segments {
        let mut looked = Looked::at(place, &segment.path);
        assert_eq!((segment.number, segment.first), (looked.number, looked.first));
        assert_eq!(segment.next.get(), looked.next(segment.bytes), "{}", segment.path.display());
        records.extend(looked.records.drain(..).filter(|record| record.at < segment.end));
    }
    each_record_is_found(log, &records);
    let without = place.again(&crashed.fork());
    if without.remove_indexes() {
        each_record_is_found(&without.open(), &records);
    }
    let joints = segments.windows(2).all(|pair| {
        pair[0].end == pair[1].begin
            && pair[0].next == pair[1].first
            && pair[0].number + 1 == pair[1].number
    });
    assert!(joints, "{segments:?}");
}

/// Finds each record by its offset, and the first one of each time, and compares with a walk.
#[track_caller]
fn each_record_is_found(log: &Log, records: &[Walked]) {
    for record in records {
        let found = log.read(record.offset).unwrap();
        assert!(found[..] == record.bytes, "record {}", record.offset);
        assert_eq!((found.at(), found.timestamp_ms()), (record.at, record.timestamp_ms));
        for time in [record.timestamp_ms, record.timestamp_ms + 1] {
            let first = records.iter().find(|other| other.timestamp_ms >= time);
            assert_eq!(log.offset_at(time).unwrap(), first.map(|first| first.offset));
        }
    }
}

/// 6. Retention removes a prefix only.
#[track_caller]
fn retention_removes_a_prefix_only(said: &Said, found: &Found) {
    assert!(found.start >= said.trimmed, "trimmed records are back");
    assert!(
        found.start <= said.trim_begun.max(said.trimmed),
        "more was trimmed than was asked for"
    );
}

/// 7. Opening never panics and allocates within bounds.
#[track_caller]
fn opening_stays_within_bounds(place: &Place) -> (Log, Recovery) {
    let (opened, bytes) = allocated_by(|| place.reopen());
    assert!(bytes <= ALLOCATED_BYTES_MAX, "opening a small log allocated {bytes} bytes");
    opened
}

/// 8. Damage to durable records is an error, never a silent cut. What nothing in the log says was durable
///    may be cut.
#[track_caller]
fn damage_to_durable_records_is_an_error(
    crashed: &Machine,
    place: &Place,
    said: &Said,
    found: &Found,
) {
    let place = place.again(crashed);
    let names = place.host.disk.list(&place.dir).unwrap_or_default();
    if names.iter().any(|entry| entry.name.ends_with(".cut")) {
        // The file decides what of the others is still the log's.
        return;
    }
    let files: Vec<Looked> =
        place.segments().into_iter().map(|path| Looked::at(&place, &path)).collect();
    let claims = files.iter().flat_map(|file| {
        // What was cut off may claim that more was durable than there is.
        let frames = file.frames.iter().filter(|frame| !file.is_superseded(frame, &files));
        frames.map(|frame| frame.synced_through.get()).chain([file.first.get()])
    });
    let claimed = claims.max().unwrap_or(0);
    for file in &files {
        for (n, frame) in file.frames.iter().enumerate() {
            // A file may be left of a segment that was trimmed with others at once.
            let trimmed = index(frame.first) < found.start;
            if file.is_superseded(frame, &files) || trimmed || frame.records == 0 {
                continue;
            }
            let machine = crashed.fork();
            let salt = crashed.fingerprint().wrapping_add(n as u64);
            let bytes = 40 + u64::from(frame.payload_bytes);
            machine.flip_bit(&file.path, frame.position * 8 + salt % (bytes * 8)).unwrap();
            check_damaged(&place.again(&machine), file, frame, claimed, said);
        }
    }
}

#[track_caller]
fn check_damaged(place: &Place, file: &Looked, frame: &InspectedFrame, claimed: u64, said: &Said) {
    let was_claimed = frame.first.get() < claimed;
    match place.try_open() {
        Err(OpenError::Damaged { path, at, why }) => {
            // The header of a frame that is itself torn may say so too; then it was durable.
            let was_durable = frame.first.get() < said.durable as u64;
            assert!(
                was_claimed || was_durable,
                "an error although nobody was promised that: {why}"
            );
            assert_eq!((&path, at), (&file.path, frame.position), "{why}");
        }
        Ok((log, recovery)) => {
            let mut found = Vec::new();
            let read =
                show(&log, log.positions().start, |record| found.push(record.bytes.to_vec()));
            let start = index(log.positions().start);
            assert_eq!(Some(&found[..]), said.records.get(start..start + found.len()));
            if was_claimed || recovery.clean {
                // An orderly close spares the check; whoever reads the record is told.
                assert!(recovery.clean, "a silent cut of what was durable");
                let read = read.expect_err("the damage shows when it is read");
                assert!(
                    matches!(&read, ReadError::Damaged { path, .. } if *path == file.path),
                    "{read}"
                );
            }
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the bytes of a segment file say.
#[derive(Debug)]
struct Looked {
    path: PathBuf,
    number: u64,
    first: Offset,
    frames: Vec<InspectedFrame>,
    records: Vec<Walked>,
}

/// A record that a walk over the file found.
#[derive(Debug)]
struct Walked {
    offset: Offset,
    at: Location,
    timestamp_ms: i64,
    bytes: Vec<u8>,
}

impl Looked {
    /// The offset after the last record in the first `bytes` of frames. More may follow: what was cut off the
    /// log later stays in the file that it was cut from.
    fn next(&self, bytes: u64) -> u64 {
        let begin = self.frames.first().map_or(0, |frame| frame.position);
        let within = self.frames.iter().rfind(|frame| frame.position - begin < bytes);
        within
            .map_or_else(|| self.first.get(), |frame| frame.first.get() + u64::from(frame.records))
    }

    /// Whether a later segment begins before this frame's records end: they are in that one.
    fn is_superseded(&self, frame: &InspectedFrame, files: &[Self]) -> bool {
        let later = files.iter().filter(|file| file.number > self.number);
        later.map(|file| file.first).any(|first| first <= frame.first)
    }

    fn at(place: &Place, path: &std::path::Path) -> Self {
        let (mut frames, mut records) = (Vec::new(), Vec::new());
        let seen = inspect(
            &place.host,
            path,
            &mut |frame| {
                frames.push(frame);
                ControlFlow::Continue(())
            },
            &mut |Record { offset, at, timestamp_ms, bytes, .. }| {
                records.push(Walked { offset, at, timestamp_ms, bytes: bytes.to_vec() });
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        Self { path: path.to_owned(), number: seen.number, first: seen.first, frames, records }
    }
}
