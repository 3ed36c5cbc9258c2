//! Goal: whatever moment the server is killed at, every acknowledged record is at its offset, every fsynced byte is in
//! its file, and what was only answered survives the process too.
//!
//! Method: producers (`acks=all`, one topic that replies when synced, one when written), two writers of files, one with
//! a client that outlives the server, one that forgets everything at each kill, and one who makes, renames and removes
//! names run without a pause. The server is
//! killed at random moments, also while it starts, and packs all the time. After each start and at the end everything
//! is compared with a model that knows what was acknowledged and what is uncertain.
//!
//! `STRANDLINE_CRASH_ROUNDS` sets the number of kills (default 50), `STRANDLINE_SEED` repeats their moments.

mod files;
mod names;
mod records;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::Host;

use crate::harness::{Server, fresh, serve_command};

const ROUNDS: u32 = 50;
/// Little data, packed at once, so that kills hit packing and trimming as well.
const FLAGS: [&str; 2] = ["--pack-after", "256KiB,300ms"];
const RUN_MAX: Duration = Duration::from_millis(400);
const START_MAX: Duration = Duration::from_millis(60);

/// What the workers share with the one who kills.
#[derive(Debug)]
struct Stage {
    data: PathBuf,
    /// Address of the Kafka door of the last server.
    kafka: Mutex<String>,
    over: AtomicBool,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn kafka(&self) -> String {
        self.kafka.lock().unwrap().clone()
    }

    fn show(&self, server: &Server) {
        *self.kafka.lock().unwrap() = server.door("kafka").to_owned();
    }
}

/// Numbers that look random and can be repeated (xorshift64*).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn delay(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.roll(u64::try_from(max.as_micros()).unwrap()))
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let rounds =
        setting("STRANDLINE_CRASH_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap());
    let seed = setting("STRANDLINE_SEED").unwrap_or_else(|| Host::real().random.next_u64());
    println!("{rounds} kills, STRANDLINE_SEED={seed}");
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &FLAGS);
    server.ok(&["topic", "create", "synced", "--partitions", "2"]);
    server.ok(&["topic", "create", "written", "--durability", "written"]);
    server.ok(&["volume", "create", "v"]);
    let stage = Arc::new(Stage {
        data: data.clone(),
        kafka: Mutex::default(),
        over: AtomicBool::new(false),
    });
    stage.show(&server);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let records = records::Producers::start(&runtime, &stage, seed);
    let files = files::Writers::start(&runtime, &stage, seed);
    let names = names::Namer::start(&runtime, &stage, seed);
    let mut dice = Dice::new(seed);
    let mut server = server;
    for round in 0..rounds {
        std::thread::sleep(dice.delay(RUN_MAX));
        server.kill9();
        if dice.roll(4) == 0 {
            kill_while_it_starts(&data, dice.delay(START_MAX));
        }
        server = Server::start_with(&data, &FLAGS);
        stage.show(&server);
        if round % 5 == 4 {
            runtime.block_on(records.check(&stage, false));
            runtime.block_on(files.check());
            runtime.block_on(names.check());
        }
    }
    stage.over.store(true, Ordering::Release);
    runtime.block_on(files.finish());
    runtime.block_on(names.finish());
    runtime.block_on(records.finish(&stage));
    let status = server.status();
    println!("{} records, {} blocks", status["topics"]["records"], status["blocks"]["count"]);
    assert_eq!(server.stop().status.code(), Some(0));
}

fn kill_while_it_starts(data: &Path, after: Duration) {
    let mut child = serve_command(data, &FLAGS).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}
