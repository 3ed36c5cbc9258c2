//! M16-M26: what reading one record of 256 B by its offset costs, from the page cache.
//!
//! | rows | what is read | how |
//! |---|---|---|
//! | M16-M18 | 50,000 records, synced, closed, opened again | in order; at random; five records again and again |
//! | M19-M21 | 10,000 records of a log that is not closed | in order; at random; its last five |
//! | M22 | 100,000 records in segments of 4 MiB | at random |
//! | M23-M26 | as M17 | by 1, 4, 8, 16 threads; the time until all are done, divided by the reads of all |
//!
//! - **parity**: as the original, each record is copied into new memory; the log of M19-M21 was synced before;
//!   "N readers" are N threads for each core, which draw their random numbers while the time runs. Limit: copying
//!   256 B into new memory out of a mapped file of as many frames of 280 B, by as many threads.
//! - **honest**: records are borrowed, and the first and the last byte are looked at; in M19-M21 nothing was synced,
//!   so that what is read really is the end of a log that is written; N readers are N threads. Limit: looking at
//!   the same two bytes in the mapped file.
//!
//! Before the time runs each side, and each thread of it, makes one pass over what it reads: a log checks its frames when
//! it first reads them, and memory that was not used for a while is far away. What the first pass costs is R-first's.
//!
//! And on their own, all honest:
//!
//! - **R-first**: the first pass over the 50,000 records of a log that was just opened, in order, borrowed: pages are
//!   mapped, indexes read, frames checked. Limit: reading as many bytes with a CRC-32C for each frame.
//! - **R-near**: R-copied out of 1,000 records, which the processor's own caches hold.
//! - **R-copied**: M17 copied into one buffer, without new memory.
//! - **R-tail**: M20 honest against as many sealed records, read likewise.
//! - **R-tail-busy**: the newest 10,000 records of a log that another thread appends to without a pause, against
//!   the same; reader and writer are two threads.
//! - **R2**: reads per second of two threads together, against one thread's.
//! - **I-scan**: the iterator over the 50,000 records, per record. Limit: looking at two bytes of each in order.
//! - **I-batch**: the same in batches of 64 KiB that are copied.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use durable_log::{Batch, Log, Offset, Options};
use tempfile::TempDir;

use crate::limits::mapped::MappedFrames;
use crate::limits::raw_log::RawLog;
use crate::logs::{self, Served, frame_bytes, original_options, payload};
use crate::measure::{
    Context, Pair, beside, cores, nanos_each, per_second, timed, timed_warm, timed_warm_threads,
};
use crate::random::Random;
use crate::rows::{NANOS_PER_READ, READS_PER_SECOND, Row};

const LOOK: &str = "two bytes of each looked at in a mapped file";
const COPY: &str = "256 B copied out of a mapped file into new memory";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, NANOS_PER_READ, what, LOOK, prepare).original(original)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, NANOS_PER_READ, what, COPY, prepare).original(original)
}

/// The rows of this file that have an original.
pub(crate) const ROWS: [Row; 22] = [
    honest("M16", "sealed, in order, borrowed", "156 ns", |c| sealed(c, in_order, false)),
    parity("M16", "sealed, in order, copied", "156 ns", |c| sealed(c, in_order, true)),
    honest("M17", "sealed, at random, borrowed", "396 ns", |c| sealed(c, at_random, false)),
    parity("M17", "sealed, at random, copied", "396 ns", |c| sealed(c, at_random, true)),
    honest("M18", "sealed, five records, borrowed", "169 ns", |c| sealed(c, first_five, false)),
    parity("M18", "sealed, five records, copied", "169 ns", |c| sealed(c, first_five, true)),
    honest("M19", "not synced, in order, borrowed", "3.2 us", |c| tail(c, in_order, false)),
    parity("M19", "synced, not closed, in order, copied", "3.2 us", |c| tail(c, in_order, true)),
    honest("M20", "not synced, at random, borrowed", "3.5 us", |c| tail(c, at_random, false)),
    parity("M20", "synced, not closed, at random, copied", "3.5 us", |c| tail(c, at_random, true)),
    honest("M21", "not synced, the last five, borrowed", "3.1 us", |c| tail(c, last_five, false)),
    parity("M21", "synced, not closed, the last five, copied", "3.1 us", |c| {
        tail(c, last_five, true)
    }),
    honest("M22", "8 segments, at random, borrowed", "533 ns", |c| segments(c, false)),
    parity("M22", "8 segments, at random, copied", "533 ns", |c| segments(c, true)),
    honest("M23", "1 thread, at random, borrowed", "237 ns", |c| readers(c, 1, false)),
    parity("M23", "1 thread per core, at random, copied", "237 ns", |c| readers(c, 1, true)),
    honest("M24", "4 threads, at random, borrowed", "252 ns", |c| readers(c, 4, false)),
    parity("M24", "4 threads per core, at random, copied", "252 ns", |c| readers(c, 4, true)),
    honest("M25", "8 threads, at random, borrowed", "244 ns", |c| readers(c, 8, false)),
    parity("M25", "8 threads per core, at random, copied", "244 ns", |c| readers(c, 8, true)),
    honest("M26", "16 threads, at random, borrowed", "226 ns", |c| readers(c, 16, false)),
    parity("M26", "16 threads per core, at random, copied", "226 ns", |c| readers(c, 16, true)),
];

/// The other rows of this file.
pub(crate) const EXTRA_ROWS: [Row; 8] = [
    Row::honest(
        "R-copied",
        NANOS_PER_READ,
        "sealed, at random, copied into one buffer",
        "256 B copied out of a mapped file into one buffer",
        |context| into_one_buffer(context, SEALED),
    ),
    Row::honest(
        "R-near",
        NANOS_PER_READ,
        "sealed, at random out of 1,000, copied into one buffer",
        "256 B copied out of a mapped file into one buffer",
        |context| into_one_buffer(context, NEAR),
    ),
    Row::honest(
        "R-first",
        NANOS_PER_READ,
        "sealed, in order, borrowed, each for the first time",
        "read and CRC-32C of as many bytes",
        first_reads,
    ),
    Row::honest(
        "R-tail",
        NANOS_PER_READ,
        "not synced, at random, borrowed",
        "the same of a sealed segment",
        tail_against_sealed,
    ),
    Row::honest(
        "R-tail-busy",
        NANOS_PER_READ,
        "the newest 10,000, at random, borrowed, beside a thread that appends",
        "the same of a sealed segment, alone",
        busy_tail,
    ),
    Row::honest(
        "R2",
        READS_PER_SECOND,
        "sealed, at random, borrowed, two threads together",
        "one thread",
        two_readers,
    )
    .pairs(9),
    Row::honest("I-scan", NANOS_PER_READ, "iterator over sealed records", LOOK, scan),
    Row::honest("I-batch", NANOS_PER_READ, "sealed records in batches of 64 KiB", LOOK, batches),
];

/// Records of a closed log.
pub(crate) const SEALED: usize = 50_000;
/// So few that they are near the processor.
const NEAR: usize = 1_000;
/// Records of a log that is not closed.
pub(crate) const ACTIVE: usize = 10_000;
/// Reads of one measurement, by all threads together.
const READS: usize = 2_000_000;
/// How many numbers are drawn before the time runs; they are used again and again.
const DRAWN: usize = 1 << 16;

/// Which of so many records are read, again and again.
type Pattern = fn(usize) -> Vec<usize>;

fn in_order(records: usize) -> Vec<usize> {
    (0..records).collect()
}

/// With the original's seed, though not its generator.
fn at_random(records: usize) -> Vec<usize> {
    Random::new(42).below_each(records, DRAWN)
}

fn first_five(_records: usize) -> Vec<usize> {
    vec![0, 100, 200, 300, 400]
}

fn last_five(records: usize) -> Vec<usize> {
    (records - 5..records).rev().collect()
}

/// What a reader does with a record.
pub(crate) fn look(bytes: &[u8]) {
    black_box((bytes[0], bytes[bytes.len() - 1]));
}

/// What the original's readers were given.
fn copy(bytes: &[u8]) {
    black_box(bytes.to_vec());
}

/// The offset of the record with this number in a log that was never trimmed.
pub(crate) fn offset(number: usize) -> Offset {
    Offset::new(number as u64)
}

/// A log of equal records with what can be compared with it.
pub(crate) struct Records {
    pub(crate) log: Log,
    pub(crate) mapped: MappedFrames,
    pub(crate) records: usize,
    _dir: TempDir,
}

impl Records {
    /// Records that were synced, closed and opened again.
    pub(crate) fn sealed(
        context: &Context,
        records: usize,
        options: Options,
    ) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let log = logs::open(dir.path(), options.clone())?;
        logs::fill(&log, &payload::<256>(), records)?;
        log.close()?;
        Self::new(logs::open(dir.path(), options)?, records, dir)
    }

    /// Records of a log that is not closed, synced or only appended.
    fn active(context: &Context, synced: bool) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let log = logs::open(dir.path(), original_options())?;
        for _ in 0..ACTIVE {
            log.append(&[&payload::<256>()])?;
        }
        if synced {
            log.sync()?;
        }
        Self::new(log, ACTIVE, dir)
    }

    fn new(log: Log, records: usize, dir: TempDir) -> anyhow::Result<Self> {
        let mapped = MappedFrames::create(dir.path(), records)?;
        Ok(Self { log, mapped, records, _dir: dir })
    }

    /// Reads so many of `numbers`, beginning again at their end.
    fn read(&self, numbers: &[usize], reads: usize, copied: bool) -> anyhow::Result<()> {
        for number in numbers.iter().cycle().take(reads) {
            let record = self.log.read(offset(*number))?;
            if copied { copy(&record) } else { look(&record) }
        }
        Ok(())
    }

    /// The same out of the mapped file.
    fn read_mapped(&self, numbers: &[usize], reads: usize, copied: bool) -> anyhow::Result<()> {
        for number in numbers.iter().cycle().take(reads) {
            let record = self.mapped.payload(*number);
            if copied { copy(record) } else { look(record) }
        }
        Ok(())
    }
}

/// One thread that reads records.
struct Point {
    records: Records,
    numbers: Vec<usize>,
    reads: usize,
    copied: bool,
}

impl Point {
    fn pair(context: &Context, records: Records, pattern: Pattern, copied: bool) -> Box<dyn Pair> {
        let numbers = pattern(records.records);
        Box::new(Self { records, numbers, reads: context.amount(READS), copied })
    }
}

impl Pair for Point {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let read = |reads| self.records.read(&self.numbers, reads, self.copied);
        let time = timed_warm(self.numbers.len(), self.reads, read)?;
        Ok(nanos_each(time, self.reads))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let read = |reads| self.records.read_mapped(&self.numbers, reads, self.copied);
        let time = timed_warm(self.numbers.len(), self.reads, read)?;
        Ok(nanos_each(time, self.reads))
    }
}

fn sealed(context: &Context, pattern: Pattern, copied: bool) -> anyhow::Result<Box<dyn Pair>> {
    let records = Records::sealed(context, SEALED, original_options())?;
    Ok(Point::pair(context, records, pattern, copied))
}

fn tail(context: &Context, pattern: Pattern, copied: bool) -> anyhow::Result<Box<dyn Pair>> {
    let records = Records::active(context, copied)?;
    Ok(Point::pair(context, records, pattern, copied))
}

/// Records of M22.
const MANY: usize = 100_000;
const MANY_SEGMENT_BYTES: u64 = 4 << 20;

fn segments(context: &Context, copied: bool) -> anyhow::Result<Box<dyn Pair>> {
    let options = Options { segment_bytes: MANY_SEGMENT_BYTES, ..Options::default() };
    let records = Records::sealed(context, MANY, options)?;
    Ok(Point::pair(context, records, at_random, copied))
}

/// Several threads that read records.
struct Readers {
    records: Records,
    numbers: Vec<usize>,
    threads: usize,
    reads_each: usize,
    /// As the original did it: copied, each number drawn when it is needed.
    as_original: bool,
}

impl Readers {
    fn each(&self, read: impl Fn(usize) + Sync) -> anyhow::Result<Duration> {
        let warm_up = |_| {
            (0..self.records.records).for_each(&read);
            Ok(())
        };
        timed_warm_threads(self.threads, warm_up, |thread| {
            if self.as_original {
                let mut random = Random::new(42 + thread as u64);
                for _ in 0..self.reads_each {
                    read(usize::try_from(random.below(self.records.records as u64))?);
                }
            } else {
                // Each from another place on, or what one has read would be near for the next.
                let from = thread * DRAWN / self.threads;
                let numbers = self.numbers.iter().cycle().skip(from);
                numbers.take(self.reads_each).for_each(|number| read(*number));
            }
            Ok(())
        })
    }
}

impl Pair for Readers {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let time = self.each(|number| {
            let record = self.records.log.read(offset(number)).expect("the record is there");
            if self.as_original { copy(&record) } else { look(&record) }
        })?;
        Ok(nanos_each(time, self.threads * self.reads_each))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.each(|number| {
            let record = self.records.mapped.payload(number);
            if self.as_original { copy(record) } else { look(record) }
        })?;
        Ok(nanos_each(time, self.threads * self.reads_each))
    }
}

fn readers(context: &Context, readers: usize, as_original: bool) -> anyhow::Result<Box<dyn Pair>> {
    let threads = if as_original { readers * cores() } else { readers };
    let reads_each = context.amount(READS) / threads;
    let records = Records::sealed(context, SEALED, original_options())?;
    let numbers = at_random(records.records);
    Ok(Box::new(Readers { records, numbers, threads, reads_each, as_original }))
}

fn into_one_buffer(context: &Context, records: usize) -> anyhow::Result<Box<dyn Pair>> {
    let records = Records::sealed(context, records, original_options())?;
    let numbers = at_random(records.records);
    Ok(Box::new(IntoOneBuffer { records, numbers, reads: context.amount(READS) }))
}

struct IntoOneBuffer {
    records: Records,
    numbers: Vec<usize>,
    reads: usize,
}

impl Pair for IntoOneBuffer {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let mut buffer = [0; 256];
        let time = timed_warm(self.numbers.len(), self.reads, |reads| {
            for number in self.numbers.iter().cycle().take(reads) {
                buffer.copy_from_slice(&self.records.log.read(offset(*number))?);
                black_box(&mut buffer);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, self.reads))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let mut buffer = [0; 256];
        let time = timed_warm(self.numbers.len(), self.reads, |reads| {
            for number in self.numbers.iter().cycle().take(reads) {
                buffer.copy_from_slice(self.records.mapped.payload(*number));
                black_box(&mut buffer);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, self.reads))
    }
}

fn first_reads(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let path = dir.path().join("log");
    let log = logs::open(&path, original_options())?;
    logs::fill(&log, &payload::<256>(), SEALED)?;
    log.close()?;
    let raw = RawLog::create(&dir.path().join("raw"), frame_bytes(context, 256)?, SEALED)?;
    Ok(Box::new(FirstReads { path, raw, _dir: dir }))
}

/// A log that is opened for each measurement.
struct FirstReads {
    path: PathBuf,
    raw: RawLog,
    _dir: TempDir,
}

impl Pair for FirstReads {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let log = logs::open(&self.path, original_options())?;
        let time = timed(|| {
            for number in 0..SEALED {
                look(&log.read(offset(number))?);
            }
            Ok(())
        })?;
        log.close()?;
        Ok(nanos_each(time, SEALED))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        Ok(nanos_each(self.raw.read_and_check()?, SEALED))
    }
}

fn tail_against_sealed(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(Tail {
        sealed: Records::sealed(context, ACTIVE, original_options())?,
        active: Records::active(context, false)?,
        numbers: at_random(ACTIVE),
        reads: context.amount(READS),
    }))
}

/// Records that were not synced, and the same number that were.
struct Tail {
    sealed: Records,
    active: Records,
    numbers: Vec<usize>,
    reads: usize,
}

impl Pair for Tail {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let read = |reads| self.active.read(&self.numbers, reads, false);
        let time = timed_warm(self.numbers.len(), self.reads, read)?;
        Ok(nanos_each(time, self.reads))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let read = |reads| self.sealed.read(&self.numbers, reads, false);
        let time = timed_warm(self.numbers.len(), self.reads, read)?;
        Ok(nanos_each(time, self.reads))
    }
}

fn busy_tail(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    Ok(Box::new(BusyTail {
        sealed: Records::sealed(context, ACTIVE, original_options())?,
        numbers: at_random(ACTIVE),
        reads: context.amount(READS),
        dir: context.temp_dir()?,
    }))
}

/// The newest records of a log that another thread appends to.
struct BusyTail {
    sealed: Records,
    numbers: Vec<usize>,
    reads: usize,
    dir: TempDir,
}

impl Pair for BusyTail {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.dir.path())?;
        let served = Served::open(dir.path(), Options::default())?;
        let (log, payload) = (&served.log, payload::<256>());
        logs::fill(log, &payload, ACTIVE)?;
        let appended = AtomicU64::new(ACTIVE as u64);
        let append = || {
            let next = logs::append_when_room(log, &payload)?;
            appended.store(next.get(), Ordering::Release);
            Ok(())
        };
        let read = || {
            timed(|| {
                for back in self.numbers.iter().cycle().take(self.reads) {
                    let newest = appended.load(Ordering::Acquire) - 1;
                    look(&log.read(Offset::new(newest - *back as u64))?);
                }
                Ok(())
            })
        };
        Ok(nanos_each(beside(append, read)?, self.reads))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let read = |reads| self.sealed.read(&self.numbers, reads, false);
        let time = timed_warm(self.numbers.len(), self.reads, read)?;
        Ok(nanos_each(time, self.reads))
    }
}

fn two_readers(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let records = Records::sealed(context, SEALED, original_options())?;
    // Other numbers for each thread, or what one has read would be near for the other.
    let numbers = [42, 43].map(|seed| Random::new(seed).below_each(SEALED, DRAWN));
    Ok(Box::new(TwoReaders { records, numbers, reads: context.amount(READS) }))
}

struct TwoReaders {
    records: Records,
    /// What each thread reads.
    numbers: [Vec<usize>; 2],
    /// Of each thread.
    reads: usize,
}

impl TwoReaders {
    fn read(&self, threads: usize) -> anyhow::Result<f64> {
        let read = |thread: usize, reads| self.records.read(&self.numbers[thread], reads, false);
        let warm_up = |thread| read(thread, DRAWN);
        let time = timed_warm_threads(threads, warm_up, |thread| read(thread, self.reads))?;
        Ok(per_second(time, threads * self.reads))
    }
}

impl Pair for TwoReaders {
    fn subject(&mut self) -> anyhow::Result<f64> {
        self.read(2)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.read(1)
    }
}

fn scan(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    in_passes(context, |log| {
        let mut records = log.iter(Offset::ZERO)?;
        let mut seen = 0;
        while let Some(record) = records.next()? {
            look(record.bytes);
            seen += 1;
        }
        Ok(seen)
    })
}

const BATCH_BYTES: usize = 64 << 10;

fn batches(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    in_passes(context, |log| {
        let (mut batch, mut from) = (Batch::new(), Offset::ZERO);
        let mut seen = 0;
        loop {
            from = log.read_batch(from, BATCH_BYTES, &mut batch)?;
            if batch.is_empty() {
                return Ok(seen);
            }
            batch.iter().for_each(|record| look(record.bytes));
            seen += batch.len();
        }
    })
}

fn in_passes(context: &Context, pass: Pass) -> anyhow::Result<Box<dyn Pair>> {
    let records = Records::sealed(context, SEALED, original_options())?;
    Ok(Box::new(Passes { records, passes: context.amount(READS / SEALED), pass }))
}

/// Reads all records of a log and says how many they were.
type Pass = fn(&Log) -> anyhow::Result<usize>;

/// All records from the first to the last, again and again.
struct Passes {
    records: Records,
    passes: usize,
    pass: Pass,
}

impl Pair for Passes {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let time = timed_warm(1, self.passes, |passes| {
            for _ in 0..passes {
                let seen = (self.pass)(&self.records.log)?;
                anyhow::ensure!(seen == SEALED, "{seen} of {SEALED} records were read");
            }
            Ok(())
        })?;
        Ok(nanos_each(time, self.passes * SEALED))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let numbers = in_order(SEALED);
        let reads = self.passes * SEALED;
        let read = |reads| self.records.read_mapped(&numbers, reads, false);
        Ok(nanos_each(timed_warm(SEALED, reads, read)?, reads))
    }
}
