//! What a read costs: point reads, the iterator and batches, from a sealed segment, from what is
//! durable of the active one, and from memory; with other readers and with a writer beside them.
//!
//! Run with `cargo run --release -p durable-log --example read_cost`. Each figure is the least of
//! several runs over the same 50,000 records of 256 bytes, checksums looked at before, but for the
//! line that says otherwise. Compare only figures of one machine.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_log::{Batch, Log, Offset, Options};
use host::Host;

const RECORDS: u64 = 50_000;
const RECORD: [u8; 256] = [7; 256];
const ROUNDS: u32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::real();
    let dir = tempfile::tempdir()?;
    let options = Options {
        sync_interval: None,
        sync_ahead_bytes: 1 << 30,
        unsynced_bytes_max: 1 << 30,
        ..Options::default()
    };
    let log = Log::open(&host, &dir.path().join("log"), options)?.0;
    fill(&log)?;
    log.roll()?;
    let first = {
        let mut records = log.iter(Offset::ZERO)?;
        let begin = host.clock.monotonic();
        while records.next()?.is_some_and(|record| black_box(record.bytes)[0] == 7) {}
        per(host.clock.monotonic().since(begin), RECORDS)
    };
    println!("iterator, sealed, checking      {first:6.1} ns");
    measure(&host, &log, "sealed", 0..RECORDS)?;
    fill(&log)?;
    log.sync()?;
    measure(&host, &log, "active, durable", RECORDS..2 * RECORDS)?;
    fill(&log)?;
    measure(&host, &log, "active, in memory", 2 * RECORDS..3 * RECORDS)?;
    crowd(&host, &log, 1, false)?;
    crowd(&host, &log, 2, false)?;
    crowd(&host, &log, 4, false)?;
    crowd(&host, &log, 4, true)?;
    Ok(())
}

fn fill(log: &Log) -> Result<(), Box<dyn Error>> {
    for _ in 0..RECORDS {
        log.append(&[&RECORD])?;
    }
    Ok(())
}

fn per(time: Duration, times: u64) -> f64 {
    time.as_secs_f64() * 1e9 / times as f64
}

/// The least time of several rounds, for each of `count`.
fn least(
    host: &Host,
    count: u64,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = host.clock.monotonic();
        work()?;
        least = least.min(per(host.clock.monotonic().since(begin), count));
    }
    Ok(least)
}

fn measure(
    host: &Host,
    log: &Log,
    what: &str,
    range: std::ops::Range<u64>,
) -> Result<(), Box<dyn Error>> {
    let count = range.end - range.start;
    let mut mixed: Vec<u64> = range.clone().collect();
    let mut state = 42_u64;
    for at in (1..mixed.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        mixed.swap(at, usize::try_from(state >> 33)? % (at + 1));
    }
    let borrowed = least(host, count, || {
        for offset in range.clone() {
            black_box(log.read(Offset::new(offset))?[0]);
        }
        Ok(())
    })?;
    let random = least(host, count, || {
        for offset in &mixed {
            black_box(log.read(Offset::new(*offset))?[0]);
        }
        Ok(())
    })?;
    let copied = least(host, count, || {
        for offset in range.clone() {
            black_box(log.read(Offset::new(offset))?.to_vec());
        }
        Ok(())
    })?;
    let iterated = least(host, count, || {
        let mut records = log.iter(Offset::new(range.start))?;
        for _ in 0..count {
            black_box(records.next()?.map(|record| record.bytes[0]));
        }
        Ok(())
    })?;
    let mut batch = Batch::new();
    let batched = least(host, count, || {
        let mut next = Offset::new(range.start);
        while next.get() < range.end {
            next = log.read_batch(next, 64 << 10, &mut batch)?;
        }
        Ok(())
    })?;
    println!(
        "{what:18} borrowed {borrowed:6.1} ns, random {random:6.1} ns, copied {copied:6.1} ns, iterator {iterated:6.1} ns, batch {batched:6.1} ns"
    );
    Ok(())
}

/// Several readers of the sealed segment, and perhaps a writer.
fn crowd(host: &Host, log: &Log, readers: u64, writes: bool) -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..readers {
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        threads.push(host::spawn("reader", move || {
            let mut reads = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for offset in 0..1000 {
                    black_box(log.read(Offset::new(offset)).expect("a record is read")[0]);
                }
                reads += 1000;
            }
            reads
        })?);
    }
    let writer = if writes {
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        Some(host::spawn("writer", move || {
            let mut appends = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                log.wait_room();
                log.append(&[&RECORD]).expect("a record is appended");
                appends += 1;
            }
            appends
        })?)
    } else {
        None
    };
    let begin = host.clock.monotonic();
    let time = Duration::from_secs(1);
    while host.clock.monotonic().since(begin) < time {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    let reads: u64 =
        threads.into_iter().map(|thread| thread.join().expect("no reader panics")).sum();
    let time = host.clock.monotonic().since(begin);
    let appends = writer.map_or(0, |writer| writer.join().expect("the writer does not panic"));
    println!(
        "{readers} readers, writer {writes}: {:.1} M reads/s, {appends} appends",
        reads as f64 / time.as_secs_f64() / 1e6
    );
    Ok(())
}
