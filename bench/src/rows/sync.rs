//! M5-M8: what a durable append of 256 B costs one thread that syncs after every 1, 10, 100 or 1000 appends:
//! what a client waits for whose record must survive the power.
//!
//! - **honest**: the appends and the syncs, into a log that is open and stays so.
//! - **parity**: a new log each time, its last sync and its close timed as well, as the original did.
//!
//! Limit of both: one `pwrite` of as many bytes (headers included) and one `fdatasync` in place of each group,
//! into a recycled file. Everything is divided by the appends. (`ns/append`, less is better.) The original
//! took 6.4 ms, 837 us, 102 us and 11 us on an Apple M1 Max, where a sync is 3 ms and it made two of each.

use durable_log::{Log, Options};
use host::Host;
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::measure::{Context, Pair, nanos_each, timed};
use crate::rows::append::{frame_bytes, payload};
use crate::rows::{NANOS_PER_APPEND, Row, Variant};

/// One row of this file.
const fn row(
    id: &'static str,
    variant: Variant,
    what: &'static str,
    prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
) -> Row {
    Row { id, variant, unit: NANOS_PER_APPEND, what, pairs: 5, prepare }
}

/// The rows of this file: M5 to M8, honest before parity.
pub(crate) const ROWS: [Row; 8] = [
    row(
        "M5",
        Variant::Honest,
        "append of 256 B, sync after each; limit: pwrite + fdatasync",
        honest::<1, 3_000>,
    ),
    row("M5", Variant::Parity, "the same, close inside", parity::<1, 3_000>),
    row("M6", Variant::Honest, "append of 256 B, sync after every 10", honest::<10, 20_000>),
    row("M6", Variant::Parity, "the same, close inside", parity::<10, 20_000>),
    row("M7", Variant::Honest, "append of 256 B, sync after every 100", honest::<100, 100_000>),
    row("M7", Variant::Parity, "the same, close inside", parity::<100, 100_000>),
    row("M8", Variant::Honest, "append of 256 B, sync after every 1000", honest::<1000, 400_000>),
    row("M8", Variant::Parity, "the same, close inside", parity::<1000, 400_000>),
];

fn honest<const EVERY: usize, const APPENDS: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let raw = Raw::prepare(context, EVERY, APPENDS)?;
    let dir = context.temp_dir()?;
    let (log, _) = Log::open(&Host::real(), dir.path(), Options::default())?;
    Ok(Box::new(Honest { raw, log, _dir: dir }))
}

fn parity<const EVERY: usize, const APPENDS: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Parity { raw: Raw::prepare(context, EVERY, APPENDS)? }))
}

/// The work and its limit.
struct Raw {
    appends: usize,
    every: usize,
    group: Vec<u8>,
    file: RecycledFile,
    dir: TempDir,
}

impl Raw {
    fn prepare(context: &Context, every: usize, appends: usize) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let appends = context.amount(appends).next_multiple_of(every);
        let group = vec![0xC3; every * frame_bytes(context)?];
        let file = RecycledFile::create(&dir.path().join("raw"), appends / every * group.len())?;
        Ok(Self { appends, every, group, file, dir })
    }

    fn append_all(&self, log: &Log) -> anyhow::Result<()> {
        let payload = payload();
        for number in 1..=self.appends {
            log.append(&[&payload])?;
            if number % self.every == 0 {
                log.sync()?;
            }
        }
        Ok(())
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.file.write(&self.group, self.appends / self.every, 1)?;
        Ok(nanos_each(time, self.appends))
    }
}

struct Honest {
    raw: Raw,
    log: Log,
    _dir: TempDir,
}

impl Pair for Honest {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let time = timed(|| self.raw.append_all(&self.log))?;
        self.log.trim(self.log.positions().durable)?;
        Ok(nanos_each(time, self.raw.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.raw.limit()
    }
}

struct Parity {
    raw: Raw,
}

impl Pair for Parity {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.raw.dir.path())?;
        let options = Options { segment_bytes: 256 << 20, ..Options::default() };
        let (log, _) = Log::open(&Host::real(), dir.path(), options)?;
        let time = timed(|| {
            self.raw.append_all(&log)?;
            Ok(log.close()?)
        })?;
        Ok(nanos_each(time, self.raw.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.raw.limit()
    }
}
