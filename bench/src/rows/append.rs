//! M1-M4: what a buffered append of 64, 256, 512 and 1024 bytes costs one thread, and so what every change
//! costs at least.
//!
//! - **honest**: append alone, as the server does it: a committer thread syncs in the background, segments are
//!   trimmed. Time is taken over bursts that stay below what may be unsynced, so that no append waits for the
//!   disk; between bursts, untimed, all is synced. Limit: copying the same bytes into memory, round a ring
//!   of the size of one burst.
//! - **parity**: the original's benchmark: segments of 256 MiB, no sync is asked for, but what was appended is
//!   handed to the system in pieces of 64 KiB, and every roll of a segment and the final close, both of which
//!   sync, are timed. (Our log lets no more than 64 MiB be unsynced, so it syncs more often.) Limit: `pwrite` of
//!   the same bytes in pieces of 64 KiB into a recycled file, with an `fdatasync` every 256 MiB and at the end.
//! - **A-recycled**, **A-fresh**: M2 honest twice: the trimmed segments come back as new ones, or nothing is
//!   trimmed before a measurement ends, so that every segment is a new file.

use std::time::Duration;

use durable_log::Options;
use tempfile::TempDir;

use crate::limits::disk::RecycledFile;
use crate::limits::memory::Ring;
use crate::logs::{
    self, SEGMENT_BYTES, Served, append_buffered, frame_bytes, original_options, payload,
};
use crate::measure::{Context, Pair, nanos_each, timed};
use crate::rows::{NANOS_PER_APPEND, Row};

const MEMCPY: &str = "memcpy into a ring in memory";
const PWRITE: &str = "pwrite of 64 KiB into a recycled file, fdatasync every 256 MiB";

/// The rows of this file that have an original.
pub(crate) const ROWS: [Row; 8] = [
    honest("M1", "append of 64 B, one thread, not waiting for the disk", burst::<64, true>)
        .original("94 ns"),
    parity("M1", "append of 64 B, rolls and close inside", whole::<64>).original("94 ns"),
    honest("M2", "append of 256 B, one thread, not waiting for the disk", burst::<256, true>)
        .original("172 ns")
        .pairs(9),
    parity("M2", "append of 256 B, rolls and close inside", whole::<256>).original("172 ns"),
    honest("M3", "append of 512 B, one thread, not waiting for the disk", burst::<512, true>)
        .original("278 ns"),
    parity("M3", "append of 512 B, rolls and close inside", whole::<512>).original("278 ns"),
    honest("M4", "append of 1 KiB, one thread, not waiting for the disk", burst::<1024, true>)
        .original("665 ns"),
    parity("M4", "append of 1 KiB, rolls and close inside", whole::<1024>).original("665 ns"),
];

/// The other rows of this file.
pub(crate) const EXTRA_ROWS: [Row; 2] = [
    honest("A-recycled", "append of 256 B, trimmed segments come back", burst::<256, true>),
    honest("A-fresh", "append of 256 B, every segment is a new file", burst::<256, false>),
];

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, NANOS_PER_APPEND, what, MEMCPY, prepare)
}

const fn parity(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::parity(id, NANOS_PER_APPEND, what, PWRITE, prepare)
}

/// Bytes of one burst: about half of what may be unsynced.
const BURST_BYTES: usize = 28 << 20;
const BURSTS: usize = 10;

fn burst<const BYTES: usize, const TRIM: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let served = Served::open(dir.path(), Options::default())?;
    let frame_bytes = frame_bytes(context, BYTES)?;
    let (bursts, burst) = (context.amount(BURSTS), BURST_BYTES / frame_bytes);
    let ring = Ring::new(burst * frame_bytes);
    Ok(Box::new(Bursts::<BYTES, TRIM> { served, ring, bursts, burst, _dir: dir }))
}

/// Bursts of appends of so many bytes, with the segments trimmed after each burst or only at the end.
struct Bursts<const BYTES: usize, const TRIM: bool> {
    served: Served,
    ring: Ring,
    bursts: usize,
    burst: usize,
    _dir: TempDir,
}

impl<const BYTES: usize, const TRIM: bool> Pair for Bursts<BYTES, TRIM> {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (log, payload) = (&self.served.log, payload::<BYTES>());
        let mut time = Duration::ZERO;
        for _ in 0..self.bursts {
            time += timed(|| {
                for _ in 0..self.burst {
                    log.append(&[&payload])?;
                }
                Ok(())
            })?;
            if TRIM {
                self.served.sync_and_trim()?;
            } else {
                log.sync()?;
            }
        }
        self.served.sync_and_trim()?;
        Ok(nanos_each(time, self.bursts * self.burst))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.ring.copy(&payload::<BYTES>(), self.bursts * self.burst)?;
        Ok(nanos_each(time, self.bursts * self.burst))
    }
}

/// Bytes of one measurement: two rolls happen on the way.
const WHOLE_BYTES: usize = 560 << 20;

fn whole<const BYTES: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let frame_bytes = frame_bytes(context, BYTES)?;
    let appends = context.amount(WHOLE_BYTES / frame_bytes);
    let file = RecycledFile::create(&dir.path().join("raw"), usize::try_from(SEGMENT_BYTES)?)?;
    Ok(Box::new(Whole::<BYTES> { dir, file, appends, frame_bytes }))
}

/// The original's benchmark.
struct Whole<const BYTES: usize> {
    dir: TempDir,
    file: RecycledFile,
    appends: usize,
    frame_bytes: usize,
}

impl<const BYTES: usize> Pair for Whole<BYTES> {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let dir = TempDir::new_in(self.dir.path())?;
        let log = logs::open(dir.path(), original_options())?;
        let payload = payload::<BYTES>();
        let time = timed(|| {
            append_buffered(&log, &payload, self.appends, self.frame_bytes)?;
            Ok(log.close()?)
        })?;
        Ok(nanos_each(time, self.appends))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let time = self.file.write_as_original(self.appends * self.frame_bytes)?;
        Ok(nanos_each(time, self.appends))
    }
}
