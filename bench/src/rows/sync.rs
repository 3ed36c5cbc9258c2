//! M5-M8: what a durable append of 256 B costs one thread that syncs after every 1, 10, 100 or 1000 appends:
//! what a client waits for whose record must survive the power.
//!
//! - **honest**: the appends and the syncs, into a log that is open and stays so.
//! - **parity**: a new log each time, its last sync and its close timed as well, as the original did.
//!
//! Limit of both: one `pwrite` of as many bytes (headers included) and one `fdatasync` in place of each group,
//! into a recycled file. Everything is divided by the appends. The original ran where a sync takes 3 ms, and
//! made two of each.

use durable_log::{Log, Options};
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::logs::{self, frame_bytes, original_options, payload};
use crate::measure::{Context, Pair, nanos_each, timed};
use crate::rows::{NANOS_PER_APPEND, Row, Variant};

/// One row of this file.
const fn row(
    id: &'static str,
    variant: Variant,
    what: &'static str,
    original: &'static str,
    prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
) -> Row {
    let limit = "pwrite + fdatasync for each group into a recycled file";
    Row { variant, original, ..Row::honest(id, NANOS_PER_APPEND, what, limit, prepare) }
}

const EACH: &str = "append of 256 B, sync after each";
const EACH_CLOSE: &str = "append of 256 B, sync after each, close inside";
const TEN: &str = "append of 256 B, sync after every 10";
const TEN_CLOSE: &str = "append of 256 B, sync after every 10, close inside";
const HUNDRED: &str = "append of 256 B, sync after every 100";
const HUNDRED_CLOSE: &str = "append of 256 B, sync after every 100, close inside";
const THOUSAND: &str = "append of 256 B, sync after every 1000";
const THOUSAND_CLOSE: &str = "append of 256 B, sync after every 1000, close inside";

/// The rows of this file: M5 to M8, honest before parity.
pub(crate) const ROWS: [Row; 8] = [
    row("M5", Variant::Honest, EACH, "6.4 ms", honest::<1, 3_000>).pairs(9),
    row("M5", Variant::Parity, EACH_CLOSE, "6.4 ms", parity::<1, 3_000>),
    row("M6", Variant::Honest, TEN, "837 us", honest::<10, 20_000>),
    row("M6", Variant::Parity, TEN_CLOSE, "837 us", parity::<10, 20_000>),
    row("M7", Variant::Honest, HUNDRED, "102 us", honest::<100, 100_000>),
    row("M7", Variant::Parity, HUNDRED_CLOSE, "102 us", parity::<100, 100_000>),
    row("M8", Variant::Honest, THOUSAND, "11 us", honest::<1000, 400_000>),
    row("M8", Variant::Parity, THOUSAND_CLOSE, "11 us", parity::<1000, 400_000>),
];

fn honest<const EVERY: usize, const APPENDS: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let raw = Raw::prepare(context, EVERY, APPENDS)?;
    let dir = context.temp_dir()?;
    let log = logs::open(dir.path(), Options::default())?;
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
        let group = vec![0xC3; every * frame_bytes(context, 256)?];
        let file = RecycledFile::create(&dir.path().join("raw"), appends / every * group.len())?;
        Ok(Self { appends, every, group, file, dir })
    }

    fn append_all(&self, log: &Log) -> anyhow::Result<()> {
        let payload = payload::<256>();
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
        let log = logs::open(dir.path(), original_options())?;
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
