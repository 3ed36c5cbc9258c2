//! M12-M15: what a buffered append of 256 B costs when 1, 4, 8 or 16 threads append to one log: time until all
//! are done, divided by the appends of all.
//!
//! - **honest**: so many threads, in bursts that stay below what may be unsynced, a committer in the
//!   background, as in M2. Limit: as many threads, each of which draws a number from a shared counter for each
//!   256 B and copies them into a ring of its own.
//! - **parity**: the original's "N writers" are N threads for each core. No sync is asked for, what fills 64 KiB
//!   goes to the system at once, and the close is timed. Limit: one thread's `pwrite` of the same bytes in
//!   pieces of 64 KiB into a recycled file, `fdatasync` every 256 MiB and at the end.
//! - **A16**: appends per second of 16 threads together, against one thread's with the same log: whether
//!   company costs anything.

use std::time::Duration;

use durable_log::Options;
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::limits::memory::Rings;
use crate::logs::{
    self, SEGMENT_BYTES, Served, append_buffered, frame_bytes, original_options, payload,
};
use crate::measure::{Context, Pair, cores, nanos_each, per_second, timed, timed_threads};
use crate::rows::{APPENDS_PER_SECOND, NANOS_PER_APPEND, Row};

/// The rows of this file that have an original.
pub(crate) const ROWS: [Row; 8] = [
    honest("M12", "append of 256 B by one thread", "253 ns", burst::<1>),
    parity("M12", "append of 256 B by 1 thread per core, close inside", "253 ns", whole::<1>),
    honest("M13", "append of 256 B by 4 threads", "239 ns", burst::<4>),
    parity("M13", "append of 256 B by 4 threads per core, close inside", "239 ns", whole::<4>),
    honest("M14", "append of 256 B by 8 threads", "246 ns", burst::<8>),
    parity("M14", "append of 256 B by 8 threads per core, close inside", "246 ns", whole::<8>),
    honest("M15", "append of 256 B by 16 threads", "263 ns", burst::<16>),
    parity("M15", "append of 256 B by 16 threads per core, close inside", "263 ns", whole::<16>),
];

/// The other row of this file.
pub(crate) const EXTRA_ROWS: [Row; 1] = [Row::honest(
    "A16",
    APPENDS_PER_SECOND,
    "append of 256 B by 16 threads together",
    "one thread, same log",
    against_one,
)
.pairs(9)];

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "memcpy by as many threads, a shared counter drawn from for each";
    Row::honest(id, NANOS_PER_APPEND, what, limit, prepare).original(original)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "one thread's pwrite of 64 KiB into a recycled file, fdatasync every 256 MiB";
    Row::parity(id, NANOS_PER_APPEND, what, limit, prepare).original(original)
}

/// Appends of one burst, by all threads together: about half of what may be unsynced.
const BURST: usize = 100_000;
const BURSTS: usize = 10;

/// Bursts of appends into one log.
struct Bursts {
    served: Served,
    bursts: usize,
    _dir: TempDir,
}

impl Bursts {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let served = Served::open(dir.path(), Options::default())?;
        Ok(Self { served, bursts: context.amount(BURSTS), _dir: dir })
    }

    /// Appends in all bursts together, by so many threads.
    fn appends(&self, threads: usize) -> usize {
        self.bursts * (BURST / threads * threads)
    }

    fn append(&self, threads: usize) -> anyhow::Result<Duration> {
        let (log, payload) = (&self.served.log, payload::<256>());
        let mut time = Duration::ZERO;
        for _ in 0..self.bursts {
            time += timed_threads(threads, |_| {
                for _ in 0..BURST / threads {
                    log.append(&[&payload])?;
                }
                Ok(())
            })?;
            self.served.sync_and_trim()?;
        }
        Ok(time)
    }
}

fn burst<const THREADS: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let bursts = Bursts::prepare(context)?;
    let rings = Rings::new(THREADS, BURST * frame_bytes(context, 256)?);
    Ok(Box::new(Honest { bursts, rings, threads: THREADS }))
}

struct Honest {
    bursts: Bursts,
    rings: Rings,
    threads: usize,
}

impl Pair for Honest {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let time = self.bursts.append(self.threads)?;
        Ok(nanos_each(time, self.bursts.appends(self.threads)))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let appends = self.bursts.appends(self.threads);
        let time = self.rings.copy(&payload::<256>(), appends / self.threads)?;
        Ok(nanos_each(time, appends))
    }
}

fn against_one(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(AgainstOne { bursts: Bursts::prepare(context)? }))
}

struct AgainstOne {
    bursts: Bursts,
}

impl Pair for AgainstOne {
    fn subject(&mut self) -> anyhow::Result<f64> {
        Ok(per_second(self.bursts.append(16)?, self.bursts.appends(16)))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        Ok(per_second(self.bursts.append(1)?, self.bursts.appends(1)))
    }
}

const APPENDS: usize = 2_000_000;

fn whole<const PER_CORE: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let file = RecycledFile::create(&dir.path().join("raw"), usize::try_from(SEGMENT_BYTES)?)?;
    let threads = PER_CORE * cores();
    let appends = context.amount(APPENDS) / threads * threads;
    Ok(Box::new(Parity { dir, file, threads, appends, frame_bytes: frame_bytes(context, 256)? }))
}

struct Parity {
    dir: TempDir,
    file: RecycledFile,
    threads: usize,
    appends: usize,
    frame_bytes: usize,
}

impl Pair for Parity {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.dir.path())?;
        let log = logs::open(dir.path(), original_options())?;
        let append = |_| {
            append_buffered(&log, &payload::<256>(), self.appends / self.threads, self.frame_bytes)
        };
        let time = timed_threads(self.threads, append)? + timed(|| Ok(log.close()?))?;
        Ok(nanos_each(time, self.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.file.write_as_original(self.appends * self.frame_bytes)?;
        Ok(nanos_each(time, self.appends))
    }
}
