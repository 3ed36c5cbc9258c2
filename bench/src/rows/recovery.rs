//! M29-M31: how long a log of 1,000, 10,000 or 100,000 records of 256 B takes to open when it was not closed in
//! order, and what a million takes, cold too; how long a log of many segments takes when it was.
//!
//! - **M29-M31 parity**: the log was closed, then the mark of the close was deleted, as the original's benchmark
//!   did; one opening is timed, the check of all records and the new segment of 256 MiB inside.
//! - **M29-M31 honest**: the log was left as a crash leaves it: synced, not closed, its last segment as long as
//!   it was reserved.
//!
//!   Limit of both: reading as many bytes from a file in pieces of 1 MiB with a CRC-32C for each frame, and
//!   reserving a file of 256 MiB whose name and size are synced.
//! - **RE1M**, **RE1M-cold**: log bytes per second of opening a million records left as by a crash (honest) or
//!   without the mark (parity), in segments of the default size; from the page cache, or after
//!   `posix_fadvise(DONTNEED)` of every file. Limit: the same reading with CRC-32C, cold too.
//! - **RO1000**: opening, in order closed, 1,000 segments of a few records each. Limit: opening as many files and
//!   reading 128 bytes of each.
//!
//! A log is written anew for each measurement, with a sync for each 4 MiB as a committer does it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable_log::Options;
use tempfile::TempDir;

use crate::limits::disk::drop_cached;
use crate::limits::raw_log::{RawLog, reserve};
use crate::logs::{self, SEGMENT_BYTES, frame_bytes, original_options, payload};
use crate::measure::{Context, Pair, megabytes_per_second, micros, timed};
use crate::rows::{MEGABYTES_PER_SECOND, MICROS, Row};

/// The rows of this file that have an original.
pub(crate) const ROWS: [Row; 6] = [
    honest("M29", "open after a crash, 1,000 records of 256 B", "5.5 ms", crashed::<1_000>),
    parity(
        "M29",
        "open without the mark of the close, 1,000 records of 256 B",
        "5.5 ms",
        unmarked::<1_000>,
    ),
    honest("M30", "open after a crash, 10,000 records", "7.4 ms", crashed::<10_000>),
    parity(
        "M30",
        "open without the mark of the close, 10,000 records",
        "7.4 ms",
        unmarked::<10_000>,
    ),
    honest("M31", "open after a crash, 100,000 records", "23 ms", crashed::<100_000>),
    parity(
        "M31",
        "open without the mark of the close, 100,000 records",
        "23 ms",
        unmarked::<100_000>,
    ),
];

/// The other rows of this file.
pub(crate) const EXTRA_ROWS: [Row; 4] = [
    Row::honest(
        "RE1M",
        MEGABYTES_PER_SECOND,
        "open 1,000,000 records of 256 B after a crash, page cache warm",
        "read and CRC-32C of as many bytes",
        million::<false, false>,
    ),
    Row::parity(
        "RE1M",
        MEGABYTES_PER_SECOND,
        "open 1,000,000 records without the mark of the close, page cache warm",
        "read and CRC-32C of as many bytes",
        million::<true, false>,
    ),
    Row::honest(
        "RE1M-cold",
        MEGABYTES_PER_SECOND,
        "open 1,000,000 records after a crash and posix_fadvise(DONTNEED) of every file",
        "read and CRC-32C of as many bytes, cold too",
        million::<false, true>,
    ),
    Row::honest(
        "RO1000",
        MICROS,
        "open 1,000 segments after an orderly close",
        "open and read 128 bytes of 1,000 files",
        many_segments,
    ),
];

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const LIMIT: &str = "read and CRC-32C of as many bytes, and a reserved file with its name synced";

const fn honest(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, MICROS, what, LIMIT, prepare).original(original).pairs(9)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MICROS, what, LIMIT, prepare).original(original).pairs(9)
}

/// How a log is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Its process ended without closing it.
    Crashed,
    /// It was closed, and the mark of that removed.
    Unmarked,
}

/// The mark of an orderly close; see `docs/formats/log.md`.
const MARK: &str = "clean";

/// Records between two syncs: about 4 MiB.
const SYNC_EVERY: usize = 15_000;

fn write_log(dir: &Path, options: Options, records: usize, left: Left) -> anyhow::Result<()> {
    let log = logs::open(dir, options)?;
    let payload = payload::<256>();
    for first in (0..records).step_by(SYNC_EVERY) {
        logs::fill(&log, &payload, SYNC_EVERY.min(records - first))?;
    }
    if left == Left::Unmarked {
        log.close()?;
        fs::remove_file(dir.join(MARK))?;
    }
    Ok(())
}

/// How long opening a log takes that was written for it, and what it holds must be all records.
fn open_written(
    dir: &Path,
    options: &Options,
    records: usize,
    left: Left,
    cold: bool,
) -> anyhow::Result<Duration> {
    let dir = TempDir::new_in(dir)?;
    write_log(dir.path(), options.clone(), records, left)?;
    if cold {
        for entry in fs::read_dir(dir.path())? {
            drop_cached(&entry?.path())?;
        }
    }
    let mut opened = None;
    let time = timed(|| {
        opened = Some(logs::open(dir.path(), options.clone())?);
        Ok(())
    })?;
    let appended = opened.map(|log| log.positions().appended.get());
    anyhow::ensure!(appended == Some(records as u64), "the opened log holds {appended:?}");
    Ok(time)
}

fn crashed<const RECORDS: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Opening::prepare(context, RECORDS, Left::Crashed)?))
}

fn unmarked<const RECORDS: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Opening::prepare(context, RECORDS, Left::Unmarked)?))
}

/// M29-M31.
struct Opening {
    dir: TempDir,
    raw: RawLog,
    records: usize,
    left: Left,
}

impl Opening {
    fn prepare(context: &Context, records: usize, left: Left) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let records = context.amount(records);
        let raw = RawLog::create(&dir.path().join("raw"), frame_bytes(context, 256)?, records)?;
        Ok(Self { dir, raw, records, left })
    }
}

impl Pair for Opening {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let options = original_options();
        let time = open_written(self.dir.path(), &options, self.records, self.left, false)?;
        Ok(micros(time))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        Ok(micros(self.raw.read_and_check()? + reserve(self.dir.path(), SEGMENT_BYTES)?))
    }
}

const MILLION: usize = 1_000_000;

fn million<const CLOSED: bool, const COLD: bool>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let left = if CLOSED { Left::Unmarked } else { Left::Crashed };
    let dir = context.temp_dir()?;
    let records = context.amount(MILLION);
    let raw = RawLog::create(&dir.path().join("raw"), frame_bytes(context, 256)?, records)?;
    Ok(Box::new(Million { dir, raw, records, left, cold: COLD }))
}

struct Million {
    dir: TempDir,
    raw: RawLog,
    records: usize,
    left: Left,
    cold: bool,
}

impl Pair for Million {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (dir, options) = (self.dir.path(), Options::default());
        let time = open_written(dir, &options, self.records, self.left, self.cold)?;
        Ok(megabytes_per_second(time, self.raw.bytes()))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        if self.cold {
            drop_cached(self.raw.path())?;
        }
        Ok(megabytes_per_second(self.raw.read_and_check()?, self.raw.bytes()))
    }
}

const SEGMENTS: usize = 1_000;
const SMALL_SEGMENT_BYTES: u64 = 64 << 10;

fn many_segments(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let options = Options { segment_bytes: SMALL_SEGMENT_BYTES, ..Options::default() };
    let log = logs::open(dir.path(), options.clone())?;
    for _ in 0..context.amount(SEGMENTS) {
        for _ in 0..4 {
            log.append(&[&payload::<256>()])?;
        }
        log.roll()?;
    }
    let paths = log.segments().into_iter().map(|segment| segment.path).collect();
    log.close()?;
    Ok(Box::new(Reopening { dir, options, paths }))
}

struct Reopening {
    dir: TempDir,
    options: Options,
    paths: Vec<PathBuf>,
}

impl Pair for Reopening {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let mut opened = None;
        let time = timed(|| {
            opened = Some(logs::open(self.dir.path(), self.options.clone())?);
            Ok(())
        })?;
        opened.map_or(Ok(()), durable_log::Log::close)?;
        Ok(micros(time))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = timed(|| {
            let mut header = [0; 128];
            for path in &self.paths {
                File::open(path)?.read_at(&mut header, 0)?;
            }
            Ok(())
        })?;
        Ok(micros(time))
    }
}
