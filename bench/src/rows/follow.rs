//! F-thread, F-durable: how long after an append a thread that waits for it holds the record: the median and p99
//! of 2,000 records of 256 B, one each 200 us, so that the thread sleeps in between.
//!
//! - **F-thread**: from the call of `append` until the other thread, which waits for the next record to be
//!   appended, has read it. Limit: waking a thread that waits on a condition variable.
//! - **F-durable**: the same until it is durable: the appender syncs. Limit: `pwrite` and `fdatasync` into a
//!   recycled file, then the same waking.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use durable_log::{Log, Offset, Options, Reached};
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::logs::{self, frame_bytes, payload};
use crate::measure::{Context, Pair, percentile};
use crate::rows::{MICROS, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 2] = [
    Row::honest(
        "F-thread",
        MICROS,
        "from append to another thread that waits for it, p50",
        "waking a thread by a condition variable",
        |context| following(context, Reached::Appended),
    ),
    Row::honest(
        "F-durable",
        MICROS,
        "from append to another thread that waits until it is durable, p50",
        "pwrite + fdatasync, then waking a thread by a condition variable",
        |context| following(context, Reached::Durable),
    ),
];

const RECORDS: usize = 2_000;
/// Long enough for the follower to fall asleep.
const PAUSE: Duration = Duration::from_micros(200);

fn following(context: &Context, reached: Reached) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    Ok(Box::new(Following {
        log: logs::open(&dir.path().join("log"), Options::default())?,
        reached,
        records: context.amount(RECORDS),
        file: RecycledFile::create(&dir.path().join("raw"), 1 << 20)?,
        frame: vec![0xC3; frame_bytes(context, 256)?],
        p99: 0.0,
        _dir: dir,
    }))
}

struct Following {
    log: Log,
    reached: Reached,
    records: usize,
    file: RecycledFile,
    frame: Vec<u8>,
    p99: f64,
    _dir: TempDir,
}

/// What travels: when it was sent, as bytes of a record.
fn stamp(start: Instant) -> anyhow::Result<[u8; 8]> {
    Ok(u64::try_from(start.elapsed().as_nanos())?.to_le_bytes())
}

/// How long ago the record was sent that begins with `bytes`.
fn age(start: Instant, bytes: &[u8]) -> anyhow::Result<Duration> {
    let sent = bytes.first_chunk().map(|stamp| u64::from_le_bytes(*stamp));
    let sent = sent.ok_or_else(|| anyhow::anyhow!("the record has no stamp"))?;
    Ok(start.elapsed().saturating_sub(Duration::from_nanos(sent)))
}

/// Sends so many, with a pause before each, while another thread takes them; gives how long each took.
fn send_and_take(
    count: usize,
    mut send: impl FnMut() -> anyhow::Result<()>,
    mut take: impl FnMut(usize) -> anyhow::Result<Duration> + Send,
) -> anyhow::Result<Vec<Duration>> {
    thread::scope(|scope| {
        let taker = scope.spawn(move || (0..count).map(&mut take).collect());
        for _ in 0..count {
            thread::sleep(PAUSE);
            send()?;
        }
        taker.join().map_err(|_| anyhow::anyhow!("the follower panicked"))?
    })
}

impl Pair for Following {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (log, reached, start) = (&self.log, self.reached, Instant::now());
        let first = log.positions().appended;
        let mut payload = payload::<256>();
        let send = || {
            payload[..8].copy_from_slice(&stamp(start)?);
            let appended = log.append(&[&payload])?;
            if reached == Reached::Durable {
                appended.wait_synced()?;
            }
            Ok(())
        };
        let take = |number: usize| {
            let offset: Offset = first + number as u64;
            log.wait_for(offset, reached).wait()?;
            age(start, &log.read(offset)?)
        };
        let mut times = send_and_take(self.records, send, take)?;
        self.log.sync()?;
        self.log.trim(self.log.positions().durable)?;
        self.p99 = percentile(&mut times, 990);
        Ok(percentile(&mut times, 500))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let (durable, start) = (self.reached == Reached::Durable, Instant::now());
        let (queue, filled) = (Mutex::new(VecDeque::new()), Condvar::new());
        let send = || {
            let stamp = stamp(start)?;
            if durable {
                self.file.write_durably(&self.frame)?;
            }
            queue.lock().expect("nobody panics under the lock").push_back(stamp);
            filled.notify_one();
            Ok(())
        };
        let take = |_| {
            let empty = queue.lock().expect("nobody panics under the lock");
            let mut some = filled
                .wait_while(empty, |queue| queue.is_empty())
                .expect("nobody panics under the lock");
            age(start, &some.pop_front().expect("waited until it is filled"))
        };
        Ok(percentile(&mut send_and_take(self.records, send, take)?, 500))
    }

    fn also(&mut self) -> Vec<(&'static str, f64)> {
        vec![("p99/us", self.p99)]
    }
}
