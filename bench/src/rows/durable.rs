//! What nobody measured in the original: durable appends of 256 B by many threads, each of which waits for the
//! disk before its next.
//!
//! - **D1**, **D4**, **D16**, **D64**: appends per second of so many threads together, and of one append the
//!   median, p99 and p99.9 from the call to the word that it is durable; how many records one sync took with
//!   it. There is no committer: the waiting threads lead the syncs. Limit: as many threads, one after the other
//!   with `pwrite` and `fdatasync` of each record for itself, into a recycled file under a lock.
//! - **D1-bulk**: p99 of one such thread while 64 MiB/s of records of 64 KiB are appended beside it, which
//!   nobody waits for; a committer syncs them ahead. Limit: the same thread alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use durable_log::{Log, Options};
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::logs::{self, Served, frame_bytes, payload};
use crate::measure::{Context, Pair, beside, per_second, percentile, timed_threads};
use crate::rows::{APPENDS_PER_SECOND, MICROS, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 5] = [
    writers("D1", "durable append of 256 B by 1 thread", together::<1, 5_000>).pairs(9),
    writers("D4", "durable append of 256 B by 4 threads", together::<4, 12_000>),
    writers("D16", "durable append of 256 B by 16 threads", together::<16, 24_000>),
    writers("D64", "durable append of 256 B by 64 threads", together::<64, 32_000>),
    Row::honest(
        "D1-bulk",
        MICROS,
        "p99 of a durable append of 256 B beside 64 MiB/s of others",
        "the same thread alone",
        beside_bulk,
    ),
];

const fn writers(
    id: &'static str,
    what: &'static str,
    prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
) -> Row {
    let limit = "pwrite + fdatasync of each, one after the other, into a recycled file";
    Row::honest(id, APPENDS_PER_SECOND, what, limit, prepare)
}

/// Size of the file that the limit goes round in.
const RAW_BYTES: usize = 16 << 20;

fn together<const THREADS: usize, const APPENDS: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let log = logs::open(&dir.path().join("log"), Options::default())?;
    Ok(Box::new(Together {
        log,
        threads: THREADS,
        appends_each: context.amount(APPENDS / THREADS),
        file: Mutex::new(RecycledFile::create(&dir.path().join("raw"), RAW_BYTES)?),
        frame: vec![0xC3; frame_bytes(context, 256)?],
        also: Vec::new(),
        _dir: dir,
    }))
}

/// Several threads that wait for the disk each.
struct Together {
    log: Log,
    threads: usize,
    appends_each: usize,
    file: Mutex<RecycledFile>,
    frame: Vec<u8>,
    also: Vec<(&'static str, f64)>,
    _dir: TempDir,
}

impl Pair for Together {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let syncs_before = self.log.stats().syncs;
        let all = Mutex::new(Vec::new());
        let time = timed_threads(self.threads, |_| {
            let times = append_durably(&self.log, self.appends_each)?;
            all.lock().expect("no measuring thread panics").extend(times);
            Ok(())
        })?;
        let syncs = self.log.stats().syncs - syncs_before;
        self.log.trim(self.log.positions().durable)?;
        let mut times = all.into_inner().expect("no measuring thread panics");
        let appends = times.len();
        self.also = vec![
            ("p50/us", percentile(&mut times, 500)),
            ("p99/us", percentile(&mut times, 990)),
            ("p99.9/us", percentile(&mut times, 999)),
            ("records/sync", per_second(Duration::from_secs(syncs.max(1)), appends)),
        ];
        Ok(per_second(time, appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = timed_threads(self.threads, |_| {
            for _ in 0..self.appends_each {
                self.file.lock().expect("no measuring thread panics").write_durably(&self.frame)?;
            }
            Ok(())
        })?;
        Ok(per_second(time, self.threads * self.appends_each))
    }

    fn also(&mut self) -> Vec<(&'static str, f64)> {
        self.also.clone()
    }
}

/// Appends so many records, waits for each, and gives how long each took.
fn append_durably(log: &Log, appends: usize) -> anyhow::Result<Vec<Duration>> {
    let payload = payload::<256>();
    let mut times = Vec::with_capacity(appends);
    for _ in 0..appends {
        let start = Instant::now();
        log.append(&[&payload])?.wait_synced()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

const BULK_RECORD_BYTES: usize = 64 << 10;
/// Time between two bulk records: 64 MiB/s.
const BULK_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 1024);
/// Durable appends of one measurement.
const PACED_APPENDS: usize = 5_000;

fn beside_bulk(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let served = Served::open(dir.path(), Options::default())?;
    let appends = context.amount(PACED_APPENDS);
    Ok(Box::new(BesideBulk { served, appends, also: Vec::new(), _dir: dir }))
}

struct BesideBulk {
    served: Served,
    appends: usize,
    also: Vec<(&'static str, f64)>,
    _dir: TempDir,
}

impl BesideBulk {
    fn times(&self) -> anyhow::Result<Vec<Duration>> {
        append_durably(&self.served.log, self.appends)
    }
}

impl Pair for BesideBulk {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (log, start) = (&self.served.log, Instant::now());
        let (record, appended) = (vec![0xB1; BULK_RECORD_BYTES], AtomicU32::new(0));
        let append_in_time = || {
            logs::append_when_room(log, &record)?;
            let next = start + BULK_INTERVAL * (1 + appended.fetch_add(1, Ordering::Relaxed));
            thread::sleep(next.saturating_duration_since(Instant::now()));
            Ok(())
        };
        let mut times = beside(append_in_time, || self.times())?;
        let (took, appended) = (start.elapsed(), usize::try_from(appended.into_inner())?);
        self.served.sync_and_trim()?;
        self.also = vec![
            ("p50/us", percentile(&mut times, 500)),
            ("bulk MiB/s", per_second(took, appended * BULK_RECORD_BYTES) / f64::from(1 << 20)),
        ];
        Ok(percentile(&mut times, 990))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let mut times = self.times()?;
        self.served.sync_and_trim()?;
        Ok(percentile(&mut times, 990))
    }

    fn also(&mut self) -> Vec<(&'static str, f64)> {
        self.also.clone()
    }
}
