//! Prints the records of a log that another process writes, as they come, like `tail -f`.
//!
//! ```sh
//! mkdir -p /tmp/log
//! cargo run -p durable-log --example group_commit -- /tmp/log 4 &
//! cargo run -p durable-log --example follow -- /tmp/log
//! ```
//!
//! Takes no lock. Ends when nothing came for a second.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use durable_log::host::Host;
use durable_log::{Followed, Follower};

const PAUSE: Duration = Duration::from_millis(20);
const PAUSES_MAX: u32 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = env::args().nth(1).ok_or("follow DIR")?;
    let mut follower = Follower::open(&Host::real(), &PathBuf::from(dir))?;
    let mut pauses = 0;
    while pauses < PAUSES_MAX {
        match follower.read_next()? {
            Followed::Record(record) => {
                println!("{}: {}", record.offset, String::from_utf8_lossy(record.bytes));
                pauses = 0;
            }
            // The writer's machine lost power, or it cut its log: what was read from there on is void.
            Followed::Rewound { to, epoch } => println!("again from {to}, epoch {}", epoch.get()),
            Followed::Nothing => {
                thread::sleep(PAUSE);
                pauses += 1;
            }
        }
    }
    println!("durable below {}", follower.durable());
    Ok(())
}
