//! F-process: how long after an append another process that follows the log's files holds the record: the median
//! and p99 of 2,000 records of 256 B, one each 200 us.
//!
//! The time runs from the call of `append`, which a `write_out` follows, until the other process has the record,
//! checked. It asks again and again without a pause, so it takes a core; who asks less often waits longer by half of
//! that. Limit: a `pwrite` of 280 B into a file, and another process that asks for the same bytes with `pread`.
//!
//! The follower is this very program, started with [`COMMAND`]; both read one clock (`CLOCK_MONOTONIC`).

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use durable_log::{Followed, Follower, Log, Options};
use host::Host;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::logs::{self, payload};
use crate::measure::{Context, Pair, percentile};
use crate::rows::{MICROS, Row};

/// The argument that makes this program a follower; what is followed (`log` or `file`), where it is and how many
/// records come stand after it.
pub(crate) const COMMAND: &str = "follow";

/// The rows of this file.
pub(crate) const ROWS: [Row; 1] = [Row::honest(
    "F-process",
    MICROS,
    "from append and write_out to another process that follows the log, p50",
    "from pwrite to another process that asks with pread",
    |context| Ok(Box::new(Following::prepare(context)?)),
)];

const RECORDS: usize = 2_000;
const PAUSE: Duration = Duration::from_micros(200);
const FRAME_BYTES: usize = 280;

/// Time on a clock that all processes share.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).expect("the monotonic clock is not negative")
}

fn stamp() -> anyhow::Result<[u8; 8]> {
    Ok(u64::try_from(now().as_nanos())?.to_le_bytes())
}

fn age(bytes: &[u8]) -> anyhow::Result<Duration> {
    let sent = bytes.first_chunk().context("the record has no stamp")?;
    Ok(now().saturating_sub(Duration::from_nanos(u64::from_le_bytes(*sent))))
}

/// Follows until so many records came, then prints the median and p99 of their ages in microseconds.
pub(crate) fn follow(kind: &str, path: &Path, records: usize) -> anyhow::Result<()> {
    let mut ages = match kind {
        "log" => follow_log(path, records)?,
        "file" => follow_file(path, records)?,
        _ => anyhow::bail!("cannot follow a {kind}"),
    };
    println!("{} {}", percentile(&mut ages, 500), percentile(&mut ages, 990));
    Ok(())
}

fn follow_log(dir: &Path, records: usize) -> anyhow::Result<Vec<Duration>> {
    let mut follower = Follower::open(&Host::real(), dir)?;
    println!("ready");
    let mut ages = Vec::with_capacity(records);
    while ages.len() < records {
        match follower.read_next()? {
            Followed::Record(record) => ages.push(age(record.bytes)?),
            Followed::Nothing => std::hint::spin_loop(),
            Followed::Rewound { to, .. } => anyhow::bail!("the log was cut at {to}"),
        }
    }
    Ok(ages)
}

fn follow_file(path: &Path, records: usize) -> anyhow::Result<Vec<Duration>> {
    let file = File::open(path)?;
    println!("ready");
    let mut frame = [0; FRAME_BYTES];
    let mut ages = Vec::with_capacity(records);
    while ages.len() < records {
        let read = file.read_at(&mut frame, (ages.len() * FRAME_BYTES) as u64)?;
        if read == FRAME_BYTES && frame[FRAME_BYTES - 1] != 0 {
            ages.push(age(&frame)?);
        }
    }
    Ok(ages)
}

/// The other process.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts it and waits until it follows.
    fn start(kind: &str, path: &Path, records: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([COMMAND, kind])
            .arg(path)
            .arg(records.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the output was piped")?;
        let mut other = Self { child, lines: BufReader::new(output).lines() };
        let line = other.line()?;
        anyhow::ensure!(line == "ready", "the follower says {line}");
        Ok(other)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        Ok(self.lines.next().context("the follower ended early")??)
    }

    /// Its median and p99.
    fn result(mut self) -> anyhow::Result<[f64; 2]> {
        let line = self.line()?;
        self.child.wait()?;
        let (p50, p99) = line.split_once(' ').context("the follower gives two figures")?;
        Ok([p50.parse()?, p99.parse()?])
    }
}

/// A log to follow.
struct Following {
    log: Log,
    records: usize,
    dir: TempDir,
    p99: f64,
}

impl Following {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let dir = context.temp_dir()?;
        let log = logs::open(&dir.path().join("log"), Options::default())?;
        Ok(Self { log, records: context.amount(RECORDS), dir, p99: 0.0 })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Pair for Following {
    fn subject(&mut self) -> anyhow::Result<f64> {
        // What was followed before goes, so that the follower begins with what comes.
        self.log.roll()?;
        self.log.trim(self.log.positions().durable)?;
        let other = Other::start("log", &self.path("log"), self.records)?;
        let mut payload = payload::<256>();
        for _ in 0..self.records {
            thread::sleep(PAUSE);
            payload[..8].copy_from_slice(&stamp()?);
            self.log.append(&[&payload])?;
            self.log.write_out()?;
        }
        let [p50, p99] = other.result()?;
        self.p99 = p99;
        Ok(p50)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let path = self.path("file");
        let file = File::create(&path)?;
        file.set_len((self.records * FRAME_BYTES) as u64)?;
        let other = Other::start("file", &path, self.records)?;
        let mut frame = [7; FRAME_BYTES];
        for number in 0..self.records {
            thread::sleep(PAUSE);
            frame[..8].copy_from_slice(&stamp()?);
            file.write_all_at(&frame, (number * FRAME_BYTES) as u64)?;
        }
        let [p50, _] = other.result()?;
        Ok(p50)
    }

    fn also(&mut self) -> Vec<(&'static str, f64)> {
        vec![("p99/us", self.p99)]
    }
}
