//! Threads that each wait for the disk before they go on, and how many of them one sync serves.
//!
//! ```sh
//! cargo run --release -p durable-log --example group_commit -- /tmp/log 64
//! ```

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::thread;

use durable_log::host::Host;
use durable_log::{Log, Options};

const APPENDS_EACH: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [dir, writers] = arguments.as_slice() else {
        return Err("group_commit DIR WRITERS".into());
    };
    let writers: usize = writers.parse()?;
    let host = Host::real();
    let (log, _) = Log::open(&host, &PathBuf::from(dir), Options::default())?;

    let start = host.clock.monotonic();
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                for _ in 0..APPENDS_EACH {
                    // One of the waiting threads syncs for all; no other thread is needed.
                    let appended = log.append(&[b"a record of this thread"]);
                    let durable = appended.map(|appended| appended.wait_synced());
                    assert!(matches!(durable, Ok(Ok(()))), "{durable:?}");
                }
            });
        }
    });
    let time = host.clock.monotonic().since(start);

    let stats = log.stats();
    let each_second = f64::from(u32::try_from(stats.appends)?) / time.as_secs_f64();
    println!("{each_second:.0} durable appends a second, {} syncs", stats.syncs);
    for (class, syncs) in stats.records_per_sync.iter().enumerate().filter(|(_, syncs)| **syncs > 0)
    {
        println!("{syncs:>8} syncs served {} or more records", 1_u64 << class);
    }
    log.close()?;
    Ok(())
}
