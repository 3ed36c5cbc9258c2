//! M32-M34: how long it takes to remove 0, 4 or 9 old segments of 64 KiB.
//!
//! - **honest**: all below an offset is removed, durably on return. Limit: `unlink` of as many files of 64 KiB
//!   and one `fsync` of their folder.
//! - **parity**: segments older than 1 ms are removed, as in the original; ours is durable on return all the
//!   same, the original's was not, and neither is the limit: `unlink` alone.
//!
//! As in the original, 234 records of 256 B make a segment, and the last one stays. Where nothing is to be
//! removed, many calls are timed together, and the limit is one lock taken and one look at the clock.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use durable_log::{Log, Options, Retention};
use tempfile::TempDir;

use crate::logs::{self, payload};
use crate::measure::{Context, Pair, micros, timed};
use crate::rows::{MICROS, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 6] = [
    honest(
        "M32",
        "retention finds nothing to remove",
        "a lock and a clock",
        "0.83 us",
        removal::<0, true>,
    ),
    parity(
        "M32",
        "retention finds nothing to remove",
        "a lock and a clock",
        "0.83 us",
        removal::<0, false>,
    ),
    honest("M33", "4 segments removed, durably", UNLINK_SYNCED, "1.8 ms", removal::<4, true>),
    parity(
        "M33",
        "4 segments removed, durably",
        UNLINK,
        "1.8 ms (not durable)",
        removal::<4, false>,
    ),
    honest("M34", "9 segments removed, durably", UNLINK_SYNCED, "7.0 ms", removal::<9, true>),
    parity(
        "M34",
        "9 segments removed, durably",
        UNLINK,
        "7.0 ms (not durable)",
        removal::<9, false>,
    ),
];

const UNLINK: &str = "unlink of as many files";
const UNLINK_SYNCED: &str = "unlink of as many files, one fsync of the folder";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(
    id: &'static str,
    what: &'static str,
    limit: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, MICROS, what, limit, prepare).original(original)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    limit: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MICROS, what, limit, prepare).original(original)
}

const SEGMENT_BYTES: u64 = 64 << 10;
const SEGMENT_RECORDS: usize = 234;
const ROUNDS: usize = 20;
const MAX_AGE: Duration = Duration::from_millis(1);
/// What the original waited until its segments were old.
const AGEING: Duration = Duration::from_millis(10);
/// Calls that remove nothing.
const IDLE_CALLS: usize = 100_000;

fn removal<const SEGMENTS: usize, const SYNCED: bool>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
    let log = logs::open(&dir.path().join("log"), options)?;
    if SEGMENTS == 0 {
        logs::fill(&log, &payload::<256>(), SEGMENT_RECORDS)?;
        let calls = context.amount(IDLE_CALLS);
        return Ok(Box::new(Idle { log, by_age: !SYNCED, calls, _dir: dir }));
    }
    let files = dir.path().join("files");
    fs::create_dir(&files)?;
    let rounds = context.amount(ROUNDS);
    Ok(Box::new(Removal { log, dir, segments: SEGMENTS, synced: SYNCED, rounds }))
}

/// What the measured call removes: all that is older than 1 ms, or all that is durable.
fn old(log: &Log, by_age: bool) -> Retention {
    let (max_age, from) =
        if by_age { (Some(MAX_AGE), None) } else { (None, Some(log.positions().durable)) };
    Retention { max_age, from, ..Retention::default() }
}

/// Nothing to remove.
struct Idle {
    log: Log,
    by_age: bool,
    calls: usize,
    _dir: TempDir,
}

impl Idle {
    fn each(&self, call: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<f64> {
        let time = timed(|| (0..self.calls).try_for_each(|_| call()))?;
        Ok(micros(time) / micros(Duration::from_micros(self.calls as u64)))
    }
}

impl Pair for Idle {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let retention = old(&self.log, self.by_age);
        self.each(|| Ok(self.log.retain(&retention).map(drop)?))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let lock = Mutex::new(0);
        self.each(|| {
            *lock.lock().expect("nobody else takes it") += 1;
            black_box(Instant::now());
            Ok(())
        })
    }
}

/// So many segments to remove, in several rounds.
struct Removal {
    log: Log,
    dir: TempDir,
    segments: usize,
    /// The honest row: removal by offset, the limit synced.
    synced: bool,
    rounds: usize,
}

impl Removal {
    fn write_segments(&self) -> anyhow::Result<()> {
        for _ in 0..self.segments {
            logs::fill(&self.log, &payload::<256>(), SEGMENT_RECORDS)?;
            self.log.roll()?;
        }
        logs::fill(&self.log, &payload::<256>(), SEGMENT_RECORDS)
    }

    fn write_files(&self, dir: &Path) -> anyhow::Result<()> {
        for number in 0..self.segments {
            let bytes = vec![7; usize::try_from(SEGMENT_BYTES)?];
            let path = dir.join(number.to_string());
            fs::write(&path, bytes)?;
            File::open(path)?.sync_all()?;
        }
        Ok(File::open(dir)?.sync_all()?)
    }

    /// The mean of the rounds.
    fn mean(&self, round: impl Fn() -> anyhow::Result<Duration>) -> anyhow::Result<f64> {
        let mut time = Duration::ZERO;
        for _ in 0..self.rounds {
            time += round()?;
        }
        Ok(micros(time) / micros(Duration::from_micros(self.rounds as u64)))
    }
}

impl Pair for Removal {
    fn subject(&mut self) -> anyhow::Result<f64> {
        self.mean(|| {
            self.write_segments()?;
            let before = self.log.stats().segments;
            thread::sleep(AGEING);
            let retention = old(&self.log, !self.synced);
            let time = timed(|| Ok(self.log.retain(&retention).map(drop)?))?;
            let removed = before - self.log.stats().segments;
            anyhow::ensure!(removed >= self.segments as u64, "{removed} segments were removed");
            Ok(time)
        })
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let dir = self.dir.path().join("files");
        self.mean(|| {
            self.write_files(&dir)?;
            timed(|| {
                for number in 0..self.segments {
                    fs::remove_file(dir.join(number.to_string()))?;
                }
                if self.synced {
                    File::open(&dir)?.sync_all()?;
                }
                Ok(())
            })
        })
    }
}
