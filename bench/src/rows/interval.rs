//! M9-M11: what a buffered append of 256 B costs one thread while all is synced every 10, 50 or 100 ms: little
//! is at risk, and nobody waits.
//!
//! - **honest**: the log's committer syncs at the interval (and not after so many bytes); where the disk is
//!   slower than memory, appends wait for room, which is timed, and so is the sync of the rest. Limit: `pwrite`
//!   of the same bytes in pieces of 64 KiB into a recycled file, while a thread calls `fdatasync` at the same
//!   interval, and once at the end.
//! - **parity**: the original's: another thread calls `sync` at the interval, what fills 64 KiB goes to the
//!   system at once, and neither the rest's sync nor the close is timed. Limit: the same without the last sync.

use std::time::Duration;

use durable_log::Options;
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::logs::{
    self, SEGMENT_BYTES, Served, append_buffered, frame_bytes, original_options, payload,
};
use crate::measure::{Context, Pair, nanos_each, timed, with_ticks};
use crate::rows::{NANOS_PER_APPEND, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 6] = [
    honest("M9", "append of 256 B, a sync every 10 ms beside it", "270 ns", served::<10>),
    parity(
        "M9",
        "append of 256 B, a sync every 10 ms, the last not waited for",
        "270 ns",
        ticking::<10>,
    ),
    honest("M10", "append of 256 B, a sync every 50 ms beside it", "234 ns", served::<50>),
    parity(
        "M10",
        "append of 256 B, a sync every 50 ms, the last not waited for",
        "234 ns",
        ticking::<50>,
    ),
    honest("M11", "append of 256 B, a sync every 100 ms beside it", "223 ns", served::<100>),
    parity(
        "M11",
        "append of 256 B, a sync every 100 ms, the last not waited for",
        "223 ns",
        ticking::<100>,
    ),
];

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const LIMIT: &str = "pwrite of 64 KiB into a recycled file, fdatasync at the same interval";

const fn honest(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, NANOS_PER_APPEND, what, LIMIT, prepare).original(original)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, NANOS_PER_APPEND, what, LIMIT, prepare).original(original)
}

const APPENDS: usize = 2_000_000;

/// What may be unsynced in the original's benchmark: whatever two intervals bring.
const UNSYNCED_BYTES_MAX: u64 = 512 << 20;

/// The work and its limit.
struct Raw {
    dir: TempDir,
    file: RecycledFile,
    interval: Duration,
    appends: usize,
    frame_bytes: usize,
}

impl Raw {
    fn prepare(context: &Context, interval_ms: u64) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let file = RecycledFile::create(&dir.path().join("raw"), usize::try_from(SEGMENT_BYTES)?)?;
        Ok(Self {
            dir,
            file,
            interval: Duration::from_millis(interval_ms),
            appends: context.amount(APPENDS),
            frame_bytes: frame_bytes(context, 256)?,
        })
    }

    fn limit(&mut self, to_the_end: bool) -> anyhow::Result<f64> {
        let bytes = self.appends * self.frame_bytes;
        let time = self.file.write_ticking(bytes, self.interval, to_the_end)?;
        Ok(nanos_each(time, self.appends))
    }
}

fn served<const MS: u64>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let raw = Raw::prepare(context, MS)?;
    let defaults = Options::default();
    let options = Options {
        sync_interval: Some(raw.interval),
        sync_ahead_bytes: defaults.unsynced_bytes_max,
        ..defaults
    };
    let served = Served::open(&raw.dir.path().join("log"), options)?;
    Ok(Box::new(Honest { served, raw }))
}

struct Honest {
    /// First, so that it is stopped before its files go.
    served: Served,
    raw: Raw,
}

impl Pair for Honest {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (log, payload) = (&self.served.log, payload::<256>());
        let time = timed(|| {
            for _ in 0..self.raw.appends {
                logs::append_when_room(log, &payload)?;
            }
            log.sync()?;
            Ok(())
        })?;
        self.served.sync_and_trim()?;
        Ok(nanos_each(time, self.raw.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.raw.limit(true)
    }
}

fn ticking<const MS: u64>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Parity { raw: Raw::prepare(context, MS)? }))
}

struct Parity {
    raw: Raw,
}

impl Pair for Parity {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.raw.dir.path())?;
        let options = Options { unsynced_bytes_max: UNSYNCED_BYTES_MAX, ..original_options() };
        let log = logs::open(dir.path(), options)?;
        let (appends, frame_bytes) = (self.raw.appends, self.raw.frame_bytes);
        let work = || timed(|| append_buffered(&log, &payload::<256>(), appends, frame_bytes));
        let time = with_ticks(self.raw.interval, || Ok(log.sync().map(drop)?), work)?;
        log.close()?;
        Ok(nanos_each(time, appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.raw.limit(false)
    }
}
