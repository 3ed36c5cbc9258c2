//! What this machine does at best, with nothing of the product: the figures that the other rows' limits are made
//! of. Each is measured twice in turn, so that the ratio says how far the machine agrees with itself.
//!
//! - **RAW-memcpy**: copying 280 B into a ring of 28 MB in memory.
//! - **RAW-pwrite**: `pwrite` of 64 KiB into a recycled file of 256 MiB, no sync.
//! - **RAW-sync**: `pwrite` of 280 B and `fdatasync` into a recycled file.
//! - **RAW-pread**: `pread` of 280 B at random places of a file of 14 MB, page cache warm.
//! - **RAW-crc**: reading a file of 280 MB in pieces of 1 MiB, page cache warm, with a CRC-32C per 280 B.

use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::limits::memory::Ring;
use crate::limits::raw_log::RawLog;
use crate::logs::{SEGMENT_BYTES, WRITE_BYTES};
use crate::measure::{Context, Pair, megabytes_per_second, nanos_each};
use crate::random::Random;
use crate::rows::{MEGABYTES_PER_SECOND, MICROS, NANOS_PER_APPEND, NANOS_PER_READ, Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 5] = [
    raw("RAW-memcpy", NANOS_PER_APPEND, "280 B copied into a ring of 28 MB", memcpy),
    raw("RAW-pwrite", MEGABYTES_PER_SECOND, "pwrite of 64 KiB into a recycled file", pwrite),
    raw("RAW-sync", MICROS, "pwrite of 280 B and fdatasync into a recycled file", sync),
    raw("RAW-pread", NANOS_PER_READ, "pread of 280 B at random places, warm", pread),
    raw("RAW-crc", MEGABYTES_PER_SECOND, "read of 1 MiB pieces, CRC-32C of each 280 B, warm", crc),
];

const fn raw(
    id: &'static str,
    unit: Unit,
    what: &'static str,
    prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
) -> Row {
    Row::honest(id, unit, what, "the same again", prepare)
}

/// What a record of 256 B takes in the original's log.
const FRAME_BYTES: usize = 280;

/// The same measurement as subject and as limit.
struct Twice<M>(M);

impl<M: FnMut() -> anyhow::Result<f64>> Pair for Twice<M> {
    fn subject(&mut self) -> anyhow::Result<f64> {
        self.0()
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.0()
    }
}

fn memcpy(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let copies = context.amount(2_000_000);
    let mut ring = Ring::new(100_000 * FRAME_BYTES);
    let piece = [7; FRAME_BYTES];
    Ok(Box::new(Twice(move || Ok(nanos_each(ring.copy(&piece, copies)?, copies)))))
}

/// A recycled file in a folder that goes with it.
fn recycled(context: &Context, size: usize) -> anyhow::Result<(RecycledFile, TempDir)> {
    let dir = context.temp_dir()?;
    Ok((RecycledFile::create(&dir.path().join("raw"), size)?, dir))
}

fn pwrite(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let (mut file, dir) = recycled(context, usize::try_from(SEGMENT_BYTES)?)?;
    let writes = context.amount(4_096);
    let piece = vec![7; WRITE_BYTES];
    Ok(Box::new(Twice(move || {
        let _keep = &dir;
        let time = file.write_unsynced(&piece, writes)?;
        Ok(megabytes_per_second(time, writes * WRITE_BYTES))
    })))
}

fn sync(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let (mut file, dir) = recycled(context, 1 << 20)?;
    let syncs = context.amount(3_000);
    Ok(Box::new(Twice(move || {
        let _keep = &dir;
        Ok(nanos_each(file.write(&[7; FRAME_BYTES], syncs, 1)?, syncs) / 1e3)
    })))
}

fn pread(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let (frames, reads) = (50_000, context.amount(500_000));
    let dir = context.temp_dir()?;
    let log = RawLog::create(&dir.path().join("raw"), FRAME_BYTES, frames)?;
    let numbers = Random::new(42).below_each(frames, reads);
    Ok(Box::new(Twice(move || {
        let _keep = &dir;
        Ok(nanos_each(log.read_each(&numbers)?, reads))
    })))
}

fn crc(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let frames = context.amount(1_000_000);
    let log = RawLog::create(&dir.path().join("raw"), FRAME_BYTES, frames)?;
    Ok(Box::new(Twice(move || {
        let _keep = &dir;
        Ok(megabytes_per_second(log.read_and_check()?, log.bytes()))
    })))
}
