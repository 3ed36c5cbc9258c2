//! Logs out of bytes that wish us ill: what the fuzz targets (`fuzz/`) run, and the property tests
//! of `mutated` on a stable compiler.
//!
//! The bytes are a small program. Its first byte picks a directory: one that a power cut left
//! somewhere in a workload, or an empty one. Each further instruction changes a file: bits, bytes,
//! length, name; and, because checksums would stop most of that at once, fields of headers whose
//! checksums are made good again. Then the log is opened.
//!
//! This file uses nothing but the crate's surface and the simulated disk, so that the fuzz crate
//! can include it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use durable_log::{Batch, Followed, Follower, Log, Offset, OpenError, Options, ReadError, Reads};
use host::sim::{Kept, Machine};
use host::{Host, OpenMode};

const DIR: &str = "/log";
/// Header of a segment.
const HEADER_BYTES: usize = 128;
const INSTRUCTIONS_MAX: usize = 64;

/// The files of a log.
type Files = Vec<(String, Vec<u8>)>;
/// What somebody appended.
type Records = Vec<Vec<u8>>;

/// Opens a directory that `program` made, and checks what can be said of any bytes: nothing panics; what is
/// refused is left as it was; what opens can be read, goes on where it ended, and is the same when it is
/// opened again.
pub(crate) fn recovery(program: &[u8]) {
    let mut program = Program { rest: program, forged: false };
    let images = images();
    let mut files = match usize::from(program.byte()) {
        0 => Files::new(),
        n => images[n % images.len()].clone(),
    };
    program.change(&mut files, "");
    let machine = Machine::new(1);
    let host = machine.host();
    put(&host, Path::new(DIR), &files);
    let before = seen(&machine);
    follow(&host);
    let (log, report) = match Log::open(&host, Path::new(DIR), options()) {
        Ok(opened) => opened,
        Err(OpenError::Damaged { .. } | OpenError::UnknownVersion { .. }) => {
            assert!(seen(&machine) == before, "a log that is refused is left as it was");
            return;
        }
        // A name that should be a file is a directory, or the other way round.
        Err(OpenError::Io { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let start = log.positions().start;
    let found = records(&log, start);
    check_reads(&log, found.as_deref());
    let next = log.append(&[b"next"]).unwrap().first;
    assert_eq!(next, log.positions().durable);
    log.sync().unwrap();
    drop(log);
    machine.kill();
    if report.clean {
        // Frames were not checked, on the word of a mark that may be forged.
        return;
    }
    let mut found = found.unwrap();
    assert_eq!(next, start + found.len() as u64);
    found.push(b"next".to_vec());
    let (log, again) = Log::open(&machine.host(), Path::new(DIR), options()).unwrap();
    assert!(again.torn.is_none(), "{again:?}");
    assert_eq!(log.positions().start, start);
    assert_eq!(records(&log, start).unwrap(), found);
}

/// Sees that a log that says that it has records shows them all or says where the damage is, whichever way
/// they are read.
fn check_reads(log: &Log, found: Result<&[Vec<u8>], &ReadError>) {
    let positions = log.positions();
    let said = positions.appended - positions.start;
    match found {
        Ok(found) => assert_eq!(found.len() as u64, said),
        Err(error) => assert!(matches!(error, ReadError::Damaged { .. }), "{error}"),
    }
    for n in (0..said.min(32)).chain(said.saturating_sub(2)..said) {
        match (log.read(positions.start + n), found) {
            (Ok(record), Ok(found)) => assert_eq!(record[..], found[usize::try_from(n).unwrap()]),
            (Ok(_) | Err(ReadError::Damaged { .. }), Err(_)) => {}
            (Err(error), _) => panic!("record {n} of {said}: {error}"),
        }
    }
}

/// Opens a whole log whose index files `program` changed: it must read as if they had not been.
pub(crate) fn index(program: &[u8]) {
    let machine = Machine::new(1);
    index_on(&machine.host(), Path::new(DIR), Reads::Copied, program);
}

/// [`index`] on any disk.
pub(crate) fn index_on(host: &Host, dir: &Path, reads: Reads, program: &[u8]) {
    let mut program = Program { rest: program, forged: false };
    let (files, truth) = indexed();
    let mut files = files.clone();
    program.change(&mut files, ".idx");
    put(host, dir, &files);
    let options = Options { reads, ..options_of_indexed() };
    let (log, _) = Log::open(host, dir, options).unwrap();
    let mut batch = Batch::new();
    let count = truth.records.len();
    for _ in 0..16 {
        let (how, from) = (program.byte(), usize::from(program.short()) % count);
        let offset = Offset::new(from as u64);
        match how % 4 {
            0 => assert_eq!(log.read(offset).unwrap()[..], truth.records[from], "offset {from}"),
            1 => assert_eq!(first_from(&log, offset).unwrap().as_ref(), truth.records.get(from)),
            2 => {
                let next =
                    log.read_batch(offset, usize::from(program.short()), &mut batch).unwrap();
                let found: Vec<&[u8]> = batch.iter().map(|record| record.bytes).collect();
                assert!(!found.is_empty());
                assert_eq!(next, offset + found.len() as u64);
                assert_eq!(found, truth.records[from..from + found.len()]);
            }
            _ => {
                let time = truth.times[from].saturating_add(i64::from(program.byte() % 3) - 1);
                let found = log.offset_at(time).unwrap();
                let first = truth.times.iter().position(|other| *other >= time);
                // Times are believed on the word of the checksum.
                let is_true = found == first.map(|first| Offset::new(first as u64));
                assert!(is_true || program.forged, "{time}: {found:?}, not {first:?}");
            }
        }
    }
    assert!(records(&log, Offset::ZERO).unwrap() == truth.records);
}

/// Follows what is there: that ends, and changes nothing.
fn follow(host: &Host) {
    let Ok(mut follower) = Follower::open(host, Path::new(DIR)) else { return };
    for _ in 0..64 {
        while let Ok(Followed::Record(_)) = follower.read_next() {}
    }
}

fn options() -> Options {
    Options { segment_bytes: 4096, append_bytes_max: 64 << 10, ..Options::default() }
}

fn options_of_indexed() -> Options {
    // Small segments get no index files.
    Options { segment_bytes: 80 << 10, ..options() }
}

/// All records from an offset on.
fn records(log: &Log, from: Offset) -> Result<Records, ReadError> {
    let mut records = Vec::new();
    let mut found = log.iter(from)?;
    while let Some(record) = found.next()? {
        records.push(record.bytes.to_vec());
    }
    Ok(records)
}

/// The record with this offset, if there is one.
fn first_from(log: &Log, from: Offset) -> Result<Option<Vec<u8>>, ReadError> {
    Ok(log.iter(from)?.next()?.map(|record| record.bytes.to_vec()))
}

/// Puts files on a new disk.
fn put(host: &Host, dir: &Path, files: &Files) {
    host.disk.create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        let file = host.disk.open(&dir.join(name), OpenMode::Create).unwrap();
        file.set_size(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

/// The files that are there now, but for the lock.
fn seen(machine: &Machine) -> Files {
    let listed = machine.host().disk.list(Path::new(DIR)).unwrap();
    let names = listed.into_iter().filter(|entry| !entry.is_dir && entry.name != "lock");
    names
        .map(|entry| {
            let bytes = machine.bytes(&Path::new(DIR).join(&entry.name)).unwrap();
            (entry.name, bytes)
        })
        .collect()
}

/// Directories as a power cut leaves them, at each operation of a workload with several segments, claims, a
/// close, a torn end, trims and a cut.
fn images() -> &'static [Files] {
    static IMAGES: OnceLock<Vec<Files>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let mut images: Vec<Files> = Vec::new();
        for operation in 1.. {
            let machine = Machine::new(1);
            machine.crash_at(operation);
            workload(&machine.host());
            let over = !machine.is_off();
            machine.crash(&mut Kept);
            if machine.host().disk.list(Path::new(DIR)).is_ok() {
                images.push(seen(&machine));
                images.dedup();
            }
            if over {
                return images;
            }
        }
        unreachable!("every workload ends")
    })
}

/// Ends early when the power goes.
fn workload(host: &Host) -> Option<()> {
    let (log, _) = Log::open(host, Path::new(DIR), options()).ok()?;
    log.append(&[b"one"]).ok()?;
    log.sync().ok()?;
    log.append(&[b"two", b"three"]).ok()?;
    log.write_out().ok()?;
    log.close().ok()?;
    let (log, _) = Log::open(host, Path::new(DIR), options()).ok()?;
    for n in 0..10 {
        log.append(&[&[n; 700], b""]).ok()?;
        log.sync().ok()?;
    }
    log.trim(Offset::new(9)).ok()?;
    log.roll().ok()?;
    let log = log.truncate_after(Offset::new(18)).ok()?;
    log.append(&[b"last"]).ok()?;
    log.append(&[b"of", b"all"]).ok()?;
    log.write_out().ok()?;
    drop(log);
    Some(())
}

/// What is in the log that [`index`] opens.
struct Truth {
    records: Records,
    times: Vec<i64>,
}

/// A log that was closed in order, with many index entries, and what is in it. Beside it lie, under names that
/// say nothing, index files of a life in which its later segments had the same numbers and other records.
fn indexed() -> &'static (Files, Truth) {
    static INDEXED: OnceLock<(Files, Truth)> = OnceLock::new();
    INDEXED.get_or_init(|| {
        let machine = Machine::new(1);
        let (log, _) = Log::open(&machine.host(), Path::new(DIR), options_of_indexed()).unwrap();
        append_indexed(&machine, &log, 0..600);
        log.roll().unwrap();
        let former = seen(&machine).into_iter().filter(|(name, _)| name.ends_with(".idx"));
        let former: Vec<_> =
            former.map(|(name, bytes)| (name.replace(".idx", ".former"), bytes)).collect();
        assert!(former.len() > 2);
        let log = log.truncate_after(Offset::new(250)).unwrap();
        append_indexed(&machine, &log, 1000..1400);
        let mut truth = Truth { records: Vec::new(), times: Vec::new() };
        let mut found = log.iter(Offset::ZERO).unwrap();
        while let Some(record) = found.next().unwrap() {
            truth.records.push(record.bytes.to_vec());
            truth.times.push(record.timestamp_ms);
        }
        log.close().unwrap();
        let mut files = seen(&machine);
        files.extend(former);
        (files, truth)
    })
}

/// Appends records under a clock that goes on, stands, and sometimes goes back.
fn append_indexed(machine: &Machine, log: &Log, numbers: std::ops::Range<usize>) {
    for n in numbers {
        log.append(&[&vec![n.to_le_bytes()[0]; n * 37 % 900]]).unwrap();
        machine.advance(Duration::from_millis(n as u64 % 3 * 5));
        if n % 97 == 0 {
            let now = machine.host().clock.wall();
            machine.set_wall(host::WallTime::from_nanos(now.nanos() - 200_000_000));
        }
    }
}

/// Bytes that are read as instructions; zeros when there are no more.
struct Program<'a> {
    rest: &'a [u8],
    /// A field was changed and its checksum made good.
    forged: bool,
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number that a careless reader would stumble over, or any.
    fn number(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => u64::MAX,
            // One more than any number may be; the most that one may be ends a log for good.
            2 => u64::MAX / 4 + 1,
            3 => u64::from(u32::MAX),
            4 => 1 << 40,
            5 => 1 << 30,
            6..64 => u64::from(self.short()),
            64..128 => u64::from(self.byte()),
            _ => u64::from_le_bytes([(); 8].map(|()| self.byte())),
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes.to_vec()
    }

    /// Follows the instructions. Only files whose names end with `suffix` are changed.
    fn change(&mut self, files: &mut Files, suffix: &str) {
        for _ in 0..INSTRUCTIONS_MAX {
            if self.rest.is_empty() {
                return;
            }
            let instruction = self.byte() % 12;
            if instruction == 0 {
                self.create(files, suffix);
                continue;
            }
            let which: Vec<usize> =
                (0..files.len()).filter(|n| files[*n].0.ends_with(suffix)).collect();
            let picked = usize::from(self.byte());
            let Some(which) = which.get(picked % which.len().max(1)).copied() else { continue };
            match instruction {
                1 => drop(files.remove(which)),
                2 => files[which].0 = self.name(suffix),
                3 => {
                    let other = usize::from(self.byte()) % files.len();
                    files[which].1 = files[other].1.clone();
                }
                _ => self.change_bytes(instruction, &mut files[which].1),
            }
        }
    }

    fn create(&mut self, files: &mut Files, suffix: &str) {
        let name = self.name(suffix);
        let count = usize::from(self.short());
        let bytes = self.bytes(count);
        files.retain(|(other, _)| *other != name);
        files.push((name, bytes));
    }

    fn name(&mut self, suffix: &str) -> String {
        let number = self.number();
        match self.byte() % 10 {
            _ if !suffix.is_empty() => format!("{number:020}{suffix}"),
            0 => "clean".to_owned(),
            1 => "start".to_owned(),
            2 => "next.new".to_owned(),
            3 => "torn".to_owned(),
            4 => format!("{number:020}.cut"),
            5 => format!("{number:020}.idx"),
            6 => format!("{number:020}.new"),
            _ => format!("{number:020}.seg"),
        }
    }

    fn change_bytes(&mut self, instruction: u8, bytes: &mut Vec<u8>) {
        let at = usize::from(self.short()) % (bytes.len() + 1);
        match instruction {
            4 => bytes.truncate(at),
            5 => {
                let count = usize::from(self.short());
                bytes.resize(bytes.len() + count, 0);
            }
            6 => {
                let count = usize::from(self.byte());
                for (to, from) in bytes[at..].iter_mut().zip(self.bytes(count)) {
                    *to = from;
                }
            }
            7 => set(bytes, at % HEADER_BYTES, &self.number().to_le_bytes()),
            8 => {
                self.forged = true;
                set(bytes, at % HEADER_BYTES / 8 * 8, &self.number().to_le_bytes());
                seal(bytes);
            }
            9 | 10 => self.change_frame(bytes, at, instruction == 10),
            _ => {
                let bit = self.byte() % 8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
        }
    }

    /// Changes a field of the first frame's header at or after `at`, and makes its checksum good.
    fn change_frame(&mut self, bytes: &mut [u8], at: usize, payload: bool) {
        let is_frame = |at: &usize| bytes[*at..].starts_with(b"frm1") && bytes.len() >= *at + 40;
        let from = at.max(HEADER_BYTES).next_multiple_of(8);
        let Some(at) = (from..bytes.len()).step_by(8).find(is_frame) else { return };
        if payload {
            set(bytes, at + 40, &self.number().to_le_bytes());
        } else {
            let field = 8 + usize::from(self.byte()) % 8 * 4;
            set(&mut bytes[..at + 40], at + field, &self.number().to_le_bytes());
        }
        seal_frame(bytes, at);
    }
}

/// Writes what fits.
fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    let end = bytes.len().min(at + value.len());
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(&value[..place.len()]);
    }
}

/// Makes the checksum at byte 12 good, as segments, marks and indexes have it.
fn seal(bytes: &mut [u8]) {
    let end = if bytes.starts_with(b"strndlog") { HEADER_BYTES } else { bytes.len() };
    if let Some(covered) = bytes.get(16..end) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), covered);
        set(bytes, 12, &crc.to_le_bytes());
    }
}

/// Makes the checksums of the frame at `at` good: of its payload, if that is there, and of its header.
fn seal_frame(bytes: &mut [u8], at: usize) {
    let word = |bytes: &[u8], at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let length = usize::try_from(word(bytes, at + 8) & u64::from(u32::MAX)).unwrap();
    if let Some(payload) = bytes.get(at + 40..).and_then(|rest| rest.get(..length)) {
        let crc = crc32c::crc32c(payload);
        set(bytes, at + 12, &crc.to_le_bytes());
    }
    let location = word(bytes, 32).wrapping_add((at - HEADER_BYTES) as u64);
    let crc = crc32c::crc32c(&bytes[40..48]);
    let crc = crc32c::crc32c_append(crc, &location.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[at + 8..at + 40]);
    set(bytes, at + 4, &crc.to_le_bytes());
}
