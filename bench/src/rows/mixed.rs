//! M27, M28: what reading a record of 256 B costs 4 or 8 threads while one thread appends without a pause: the
//! time until all readers are done, divided by the reads of all.
//!
//! - **parity**: the original's benchmark, the test's own lock included: 4 or 8 threads for each core take a lock
//!   that the appender takes for each append, to learn how many records there are, and draw one of them, out of
//!   millions in the end; records are copied. (Nobody asks for a sync; the writer itself makes one when 64 MiB are
//!   unsynced.) Limit: as many threads do the same with a mapped file of 10,000
//!   frames, while one copies 256 B into a ring in memory.
//! - **honest**: 4 or 8 threads borrow records at random from the first 10,000, which are synced; a committer
//!   syncs what is appended. Limit: as many threads look at a mapped file, while one copies into a ring.
//! - **RW4**: reads per second of M27 honest, against the same readers without a writer.

use std::sync::{Mutex, RwLock};
use std::time::Duration;

use durable_log::{Log, Options};
use tempfile::TempDir;

use crate::limits::mapped::MappedFrames;
use crate::limits::memory::Ring;
use crate::logs::{self, Served, original_options, payload};
use crate::measure::{Context, Pair, beside, cores, nanos_each, per_second, timed_threads};
use crate::random::Random;
use crate::rows::reads::{ACTIVE, look, offset};
use crate::rows::{NANOS_PER_READ, READS_PER_SECOND, Row};

/// The rows of this file that have an original.
pub(crate) const ROWS: [Row; 4] = [
    honest("M27", "4 readers, borrowed, beside a writer", "5.3 us", |c| calm(c, 4)),
    parity("M27", "4 readers per core, copied, beside a writer, a shared lock", "5.3 us", |c| {
        locked(c, 4)
    }),
    honest("M28", "8 readers, borrowed, beside a writer", "5.0 us", |c| calm(c, 8)),
    parity("M28", "8 readers per core, copied, beside a writer, a shared lock", "5.0 us", |c| {
        locked(c, 8)
    }),
];

/// The other row of this file.
pub(crate) const EXTRA_ROWS: [Row; 1] = [Row::honest(
    "RW4",
    READS_PER_SECOND,
    "sealed, at random, borrowed, four threads together beside a writer",
    "the four without a writer",
    against_alone,
)];

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "the same out of a mapped file, beside memcpy";
    Row::honest(id, NANOS_PER_READ, what, limit, prepare).original(original)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "the same out of a mapped file, beside memcpy, the same lock";
    Row::parity(id, NANOS_PER_READ, what, limit, prepare).original(original)
}

/// Reads of one measurement, by all threads together.
const READS: usize = 1_000_000;
const DRAWN: usize = 1 << 16;
/// Size of the ring that the limit's writer copies into.
const RING_BYTES: usize = 28 << 20;

/// Readers of the first records, and what a writer does beside them.
struct Mixed {
    threads: usize,
    reads_each: usize,
    numbers: Vec<usize>,
    mapped: MappedFrames,
    ring: Mutex<Ring>,
    dir: TempDir,
}

impl Mixed {
    fn prepare(context: &Context, threads: usize) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        Ok(Self {
            threads,
            reads_each: context.amount(READS) / threads,
            numbers: Random::new(42).below_each(ACTIVE, DRAWN),
            mapped: MappedFrames::create(dir.path(), ACTIVE)?,
            ring: Mutex::new(Ring::new(RING_BYTES)),
            dir,
        })
    }

    fn reads(&self) -> usize {
        self.threads * self.reads_each
    }

    /// The time in which all threads look at their records.
    fn read(&self, log: &Log) -> anyhow::Result<Duration> {
        timed_threads(self.threads, |_| {
            for number in self.numbers.iter().cycle().take(self.reads_each) {
                look(&log.read(offset(*number))?);
            }
            Ok(())
        })
    }

    fn read_beside_writer(&self) -> anyhow::Result<Duration> {
        let dir = TempDir::new_in(self.dir.path())?;
        let served = Served::open(dir.path(), Options::default())?;
        let (log, payload) = (&served.log, payload::<256>());
        logs::fill(log, &payload, ACTIVE)?;
        let append = || logs::append_when_room(log, &payload).map(drop);
        beside(append, || self.read(log))
    }

    fn copy_into_ring(&self) -> anyhow::Result<()> {
        let mut ring = self.ring.lock().expect("the writer is alone");
        ring.copy(&payload::<256>(), 1).map(drop)
    }
}

fn calm(context: &Context, threads: usize) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Calm { mixed: Mixed::prepare(context, threads)? }))
}

/// The honest rows.
struct Calm {
    mixed: Mixed,
}

impl Pair for Calm {
    fn subject(&mut self) -> anyhow::Result<f64> {
        Ok(nanos_each(self.mixed.read_beside_writer()?, self.mixed.reads()))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let mixed = &self.mixed;
        let read = |_| {
            for number in mixed.numbers.iter().cycle().take(mixed.reads_each) {
                look(mixed.mapped.payload(*number));
            }
            Ok(())
        };
        let time = beside(|| mixed.copy_into_ring(), || timed_threads(mixed.threads, read))?;
        Ok(nanos_each(time, mixed.reads()))
    }
}

fn against_alone(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let mixed = Mixed::prepare(context, 4)?;
    let log = logs::open(&mixed.dir.path().join("log"), Options::default())?;
    logs::fill(&log, &payload::<256>(), ACTIVE)?;
    Ok(Box::new(AgainstAlone { mixed, log }))
}

struct AgainstAlone {
    mixed: Mixed,
    log: Log,
}

impl Pair for AgainstAlone {
    fn subject(&mut self) -> anyhow::Result<f64> {
        Ok(per_second(self.mixed.read_beside_writer()?, self.mixed.reads()))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        Ok(per_second(self.mixed.read(&self.log)?, self.mixed.reads()))
    }
}

fn locked(context: &Context, per_core: usize) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Locked { mixed: Mixed::prepare(context, per_core * cores())? }))
}

/// The parity rows.
struct Locked {
    mixed: Mixed,
}

impl Locked {
    /// The time in which all threads draw records below the count and `read` them.
    fn read(
        &self,
        count: &RwLock<u64>,
        read: impl Fn(u64) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<Duration> {
        timed_threads(self.mixed.threads, |thread| {
            let mut random = Random::new(42 + thread as u64);
            for _ in 0..self.mixed.reads_each {
                let end = *count.read().expect("nobody panics under the lock");
                read(random.below(end))?;
            }
            Ok(())
        })
    }
}

fn add_one(count: &RwLock<u64>) {
    *count.write().expect("nobody panics under the lock") += 1;
}

impl Pair for Locked {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.mixed.dir.path())?;
        let (log, payload) = (logs::open(dir.path(), original_options())?, payload::<256>());
        logs::fill(&log, &payload, ACTIVE)?;
        let count = RwLock::new(ACTIVE as u64);
        let append = || {
            logs::append_when_room(&log, &payload)?;
            add_one(&count);
            Ok(())
        };
        let read = |number| {
            std::hint::black_box(log.read(durable_log::Offset::new(number))?.to_vec());
            Ok(())
        };
        let time = beside(append, || self.read(&count, read))?;
        Ok(nanos_each(time, self.mixed.reads()))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let count = RwLock::new(ACTIVE as u64);
        let copy = || {
            self.mixed.copy_into_ring()?;
            add_one(&count);
            Ok(())
        };
        let read = |number| {
            let frame = usize::try_from(number)? % ACTIVE;
            std::hint::black_box(self.mixed.mapped.payload(frame).to_vec());
            Ok(())
        };
        let time = beside(copy, || self.read(&count, read))?;
        Ok(nanos_each(time, self.mixed.reads()))
    }
}
