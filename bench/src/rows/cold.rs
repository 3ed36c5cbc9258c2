//! R-cold: what reading a record of 256 B at random costs when the disk has to bring it.
//!
//! A log of a million records is closed; `posix_fadvise(DONTNEED)` takes every file of it out of the page cache
//! (no root is needed for that, and nothing of others is dropped); it is opened again, untimed; 2,000 records are
//! read. Two records seldom share a page. Limit: `pread` of as many frames of 280 B at random places of a file of
//! the same size, which was dropped the same way.

use durable_log::{Log, Options};
use tempfile::TempDir;

use crate::limits::disk::drop_cached;
use crate::limits::raw_log::RawLog;
use crate::logs::{self, frame_bytes, payload};
use crate::measure::{Context, Pair, nanos_each, timed};
use crate::random::Random;
use crate::rows::reads::{look, offset};
use crate::rows::{NANOS_PER_READ, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 1] = [Row::honest(
    "R-cold",
    NANOS_PER_READ,
    "at random out of 1,000,000, nothing of them in the page cache (posix_fadvise)",
    "pread at random, cold too",
    cold,
)];

const RECORDS: usize = 1_000_000;
const READS: usize = 2_000;

fn cold(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let (records, log_dir) = (context.amount(RECORDS), dir.path().join("log"));
    let log = logs::open(&log_dir, Options::default())?;
    logs::fill(&log, &payload::<256>(), records)?;
    log.close()?;
    let raw = RawLog::create(&dir.path().join("raw"), frame_bytes(context, 256)?, records)?;
    let numbers = Random::new(42).below_each(records, context.amount(READS));
    Ok(Box::new(Cold { raw, numbers, dir }))
}

struct Cold {
    raw: RawLog,
    numbers: Vec<usize>,
    dir: TempDir,
}

impl Pair for Cold {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = self.dir.path().join("log");
        for entry in std::fs::read_dir(&dir)? {
            drop_cached(&entry?.path())?;
        }
        let log = logs::open(&dir, Options::default())?;
        let time = timed(|| {
            for number in &self.numbers {
                look(&log.read(offset(*number))?);
            }
            Ok(())
        })?;
        Log::close(log)?;
        Ok(nanos_each(time, self.numbers.len()))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        drop_cached(self.raw.path())?;
        Ok(nanos_each(self.raw.read_each(&self.numbers)?, self.numbers.len()))
    }
}
