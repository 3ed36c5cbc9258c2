//! What a buffered append costs: a small target for `perf`, not a benchmark to quote.
//!
//! ```text
//! cargo run --release -p durable-log --example append_cost -- [threads] [bytes] [directory]
//! ```
//!
//! Prints the best and the median of many short bursts; between bursts, untimed, all is synced and
//! trimmed. With several threads the time of a burst is that of all of them together, divided by
//! all appends.

use std::sync::Barrier;
use std::time::Duration;

use durable_log::{Log, Options};
use host::Host;

const BURSTS: usize = 60;
const APPENDS: usize = 128 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let threads: usize = args.next().map_or(Ok(1), |arg| arg.parse())?;
    let bytes: usize = args.next().map_or(Ok(256), |arg| arg.parse())?;
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let host = Host::real();
    let (log, _) = Log::open(&host, dir.path(), Options::default())?;
    let record = vec![7; bytes];
    let mut nanos: Vec<u128> = Vec::new();
    for _ in 0..BURSTS {
        let time = burst(&host, &log, &record, threads)?;
        nanos.push(time.as_nanos() * 10 / (APPENDS / threads * threads) as u128);
        let durable = log.sync()?;
        log.trim(durable)?;
    }
    nanos.sort_unstable();
    let show = |tenths: u128| format!("{}.{}", tenths / 10, tenths % 10);
    println!(
        "{threads} threads, {bytes} B: best {} ns, median {} ns per append",
        show(nanos[0]),
        show(nanos[BURSTS / 2])
    );
    Ok(())
}

/// Appends from all threads at once; the time from the first's start to the last's end.
fn burst(
    host: &Host,
    log: &Log,
    record: &[u8],
    threads: usize,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let append = || (0..APPENDS / threads).try_for_each(|_| log.append(&[record]).map(drop));
    if threads == 1 {
        let begin = host.clock.monotonic();
        append()?;
        return Ok(host.clock.monotonic().since(begin));
    }
    let barrier = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let run = || {
            barrier.wait();
            let begin = host.clock.monotonic();
            append().map(|()| (begin, host.clock.monotonic()))
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let times = running.into_iter().map(|thread| thread.join().expect("no appender panics"));
        times.collect::<Result<Vec<_>, _>>()
    })?;
    let begin = times.iter().map(|(begin, _)| *begin).min().ok_or("no threads")?;
    let end = times.iter().map(|(_, end)| *end).max().ok_or("no threads")?;
    Ok(end.since(begin))
}
