//! How much memory the data path takes at most, in a process of its own.
//!
//! The system's peak (`VmHWM` of `/proc/self/status`, set back when the load begins) less what the process had before.
//!
//! - **MEM-cache**: a cache of 128 MiB; 512 MiB put into blocks, read twice by 256 KiB, and 4 KiB written at 16,384 random
//!   places of it, until all lies in blocks. Limit: a buffer of the cache's size and a tenth, filled.
//! - **MEM-file**: a file of 16 MiB written by 32 KiB and flushed, until the store has it. Limit: a buffer of
//!   40 MB, filled: the target.
//!
//! Values are 10^6 bytes.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use bytes::Bytes;
use strands::{Options, Strands};

use crate::measure::{Both, Context, Pair};
use crate::node;
use crate::random::Random;
use crate::rows::{Row, Unit};

/// First argument of the process that is measured.
pub(crate) const COMMAND: &str = "peak-memory";

/// The rows of this file.
pub(crate) const ROWS: [Row; 2] = [
    Row::honest(
        "MEM-cache",
        MEGABYTES,
        "most memory of a load with a cache of 128 MiB",
        "a buffer of 128 MiB and a tenth, filled",
        |context| peaks(context, "cache", "cache-limit"),
    )
    .pairs(3),
    Row::honest(
        "MEM-file",
        MEGABYTES,
        "most memory to write a file of 16 MiB by 32 KiB, until the store has it",
        "a buffer of 40 MB, filled",
        |context| peaks(context, "file", "file-limit"),
    )
    .pairs(3),
];

const MEGABYTES: Unit = Unit { name: "MB" };

const MIB: usize = 1 << 20;
const CACHE: usize = 128 * MIB;
const FILE_BYTES: usize = 16 * MIB;
const FILE_LIMIT: usize = 40_000_000;

fn peaks(
    context: &Context,
    subject: &'static str,
    limit: &'static str,
) -> anyhow::Result<Box<dyn Pair>> {
    let (context, other) = (context.clone(), context.clone());
    Ok(Box::new(Both(move || peak_of(&context, subject), move || peak_of(&other, limit))))
}

/// The peak of a load in a process of its own.
fn peak_of(context: &Context, kind: &str) -> anyhow::Result<f64> {
    let dir = context.temp_dir()?;
    let output = Command::new(std::env::current_exe()?)
        .args([COMMAND, kind])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the measured process failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Does a load in `dir` and prints its peak.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes are far below 2^52")]
pub(crate) fn run(kind: &str, dir: &Path) -> anyhow::Result<()> {
    let before = match kind {
        "cache" => cache(dir)?,
        "file" => file(dir)?,
        "cache-limit" => fill(CACHE + CACHE / 10)?,
        "file-limit" => fill(FILE_LIMIT)?,
        _ => anyhow::bail!("there is no load {kind}"),
    };
    println!("{}", status("VmHWM:")?.saturating_sub(before) as f64 / 1e6);
    Ok(())
}

/// Sets the peak back and says what is taken now.
fn begin() -> anyhow::Result<u64> {
    fs::write("/proc/self/clear_refs", "5").context("set the peak back")?;
    status("VmRSS:")
}

fn status(name: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.with_context(|| format!("the system tells {name}"))?.parse::<u64>()? * 1024)
}

fn fill(bytes: usize) -> anyhow::Result<u64> {
    let before = begin()?;
    black_box(vec![0x5A_u8; bytes]);
    Ok(before)
}

fn cache(dir: &Path) -> anyhow::Result<u64> {
    const SIZE: usize = 512 * MIB;
    const BLOCK: usize = 4 * MIB;
    const PAGE: usize = 4096;
    /// So small that what is read stays in the cache.
    const READ: usize = MIB / 4;
    let options = Options { cache_bytes: CACHE as u64, ..Options::default() };
    let strands = node::open(dir, options)?;
    let before = begin()?;
    let strand = strands.mint()?;
    for at in (0..SIZE).step_by(BLOCK) {
        let bytes = Bytes::from(vec![0x5A; BLOCK]);
        node::write_to_stay(&strands, strand, at as u64, &bytes)?;
    }
    for at in (0..2 * SIZE).step_by(READ) {
        black_box(strands.read_blocking(strand, (at % SIZE) as u64, READ as u32)?);
    }
    let bytes = Bytes::from(vec![0xA5; PAGE]);
    for page in Random::new(7).below_each(SIZE / PAGE, 16_384) {
        node::write(&strands, strand, (page * PAGE) as u64, &bytes)?;
    }
    settle(&strands)?;
    Ok(before)
}

fn file(dir: &Path) -> anyhow::Result<u64> {
    let strands = node::open(dir, Options::default())?;
    let before = begin()?;
    let strand = strands.mint()?;
    let bytes = Bytes::from(vec![0x5A; 32 << 10]);
    for at in (0..FILE_BYTES).step_by(bytes.len()) {
        node::write(&strands, strand, at as u64, &bytes)?;
    }
    settle(&strands)?;
    Ok(before)
}

fn settle(strands: &Strands) -> anyhow::Result<()> {
    strands.ticket(strands.positions().appended).wait_durable()?;
    Ok(strands.pack_now()?)
}
