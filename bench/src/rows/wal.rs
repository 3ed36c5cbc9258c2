//! The journal as the write-ahead log of what the cache holds: appending, recovering, removing, syncing.
//!
//! The original mapped a file and copied into it, with no checksum and nothing that ever reached the disk by
//! order; its "sync" was a lock and a branch. Here each append is a commit, handed to the operating system
//! before it is answered.
//!
//! - **WA512**, **WA32K**, **WA1M**: commits of one write each. Parity: each to a block of its own, not waiting
//!   for the disk. Honest: one after the other, and durable at the end. Limit: `pwrite` of the same pieces into
//!   a recycled file, with an `fdatasync` at the end of the honest one.
//! - **WT**: the same of 32 KiB, round 16 blocks of each 64 MiB.
//! - **WR100**, **WR1000**, **WRR**: 1 KiB writes to 10 strands (WRR: 500 to 50, of which 25 are then removed).
//!   Parity: open, recover and close a log that was closed in order. Honest: open what a crash left. Limit:
//!   reading as many bytes with a CRC-32C for each, and reserving the file of a segment.
//! - **WRM**: commits that remove a strand. Parity: its name is put together first. Honest: strands that exist,
//!   durable at the end. Limit: `pwrite` of 64 bytes each.
//! - **WSY**: waiting for a commit to be durable. Parity: it is already. Honest: a commit of 512 B and its
//!   wait, by 1, 32 and 128 threads. Limit: a lock taken; `pwrite` and `fdatasync` one after the other.
//!
//! A data path is made anew for each measurement. All of it stays below what begins packing.

use std::hint::black_box;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use strands::{Commit, Options, StrandId, Strands};

use crate::limits::disk::RecycledFile;
use crate::limits::raw_log::{RawLog, reserve};
use crate::measure::{
    Both, Context, Pair, megabytes_per_second, micros, nanos_each, per_second, timed, timed_threads,
};
use crate::node;
use crate::rows::{APPENDS_PER_SECOND, MEGABYTES_PER_SECOND, MICROS, Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 20] = [
    appends("WA512", "commits of 512 B, durable at the end", "2,500", durable::<512>),
    appends_parity("WA512", "commits of 512 B, a block each", "2,500", apart::<512>),
    appends("WA32K", "commits of 32 KiB, durable at the end", "2,800", durable::<{ 32 << 10 }>),
    appends_parity("WA32K", "commits of 32 KiB, a block each", "2,800", apart::<{ 32 << 10 }>),
    appends("WA1M", "commits of 1 MiB, durable at the end", "2,900", durable::<{ 1 << 20 }>),
    appends_parity("WA1M", "commits of 1 MiB, a block each", "2,900", apart::<{ 1 << 20 }>),
    appends("WT", "commits of 32 KiB round 16 blocks, durable at the end", "8,500", round::<true>),
    appends_parity("WT", "commits of 32 KiB round 16 blocks", "8,500", round::<false>),
    recovery(
        "WR100",
        "open what a crash left, 100 writes of 1 KiB",
        "54 us",
        crashed::<100, 10, 0>,
    ),
    recovery_parity("WR100", "open and close, 100 writes of 1 KiB", "54 us", closed::<100, 10, 0>),
    recovery("WR1000", "open what a crash left, 1,000 writes", "276 us", crashed::<1000, 10, 0>),
    recovery_parity("WR1000", "open and close, 1,000 writes", "276 us", closed::<1000, 10, 0>),
    recovery(
        "WRR",
        "open what a crash left, 500 writes, 25 removes",
        "161 us",
        crashed::<500, 50, 25>,
    ),
    recovery_parity(
        "WRR",
        "open and close, 500 writes, 25 removes",
        "161 us",
        closed::<500, 50, 25>,
    ),
    Row::honest(
        "WRM",
        NANOS_PER_REMOVE,
        "remove a strand, durable at the end",
        "pwrite of 64 B into a recycled file, fdatasync at the end",
        removes::<true>,
    )
    .original("80 ns"),
    Row::parity(
        "WRM",
        NANOS_PER_REMOVE,
        "put a name together, remove a strand that is not there",
        "pwrite of 64 B into a recycled file",
        removes::<false>,
    )
    .original("80 ns"),
    Row::parity(
        "WSY",
        NANOS_PER_SYNC,
        "wait for a commit that is durable already",
        "a lock taken",
        nothing_to_sync,
    )
    .original("14 ns"),
    syncs("WSY", "commit 512 B and wait until it is durable, 1 thread", waiting::<1, 4_000>),
    syncs("WSY32", "commit 512 B and wait until it is durable, 32 threads", waiting::<32, 32_000>),
    syncs(
        "WSY128",
        "commit 512 B and wait until it is durable, 128 threads",
        waiting::<128, 64_000>,
    ),
];

const NANOS_PER_REMOVE: Unit = Unit { name: "ns/remove" };
const NANOS_PER_SYNC: Unit = Unit { name: "ns/sync" };

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn appends(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "pwrite of the same into a recycled file, fdatasync at the end";
    Row::honest(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const fn appends_parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "pwrite of the same into a recycled file";
    Row::parity(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const RECOVERY_LIMIT: &str = "read and CRC-32C of as many bytes, and a segment's file reserved";

const fn recovery(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, MICROS, what, RECOVERY_LIMIT, prepare).original(original).pairs(9)
}

const fn recovery_parity(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MICROS, what, RECOVERY_LIMIT, prepare).original(original).pairs(9)
}

const fn syncs(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    let limit = "pwrite + fdatasync of each, one after the other, into a recycled file";
    Row::honest(id, APPENDS_PER_SECOND, what, limit, prepare)
}

/// Payload of one measurement of appends: packing begins at 256 MiB.
const APPEND_BYTES: usize = 192 << 20;
/// Of small appends there are no more than this.
const APPENDS_MAX: usize = 100_000;
const BLOCK: u64 = 4 << 20;

fn durable<const SIZE: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    append::<SIZE>(context, true, |number| (number * SIZE) as u64)
}

fn apart<const SIZE: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    append::<SIZE>(context, false, |number| number as u64 * BLOCK)
}

fn round<const SYNC: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const SIZE: usize = 32 << 10;
    append::<SIZE>(context, SYNC, |number| {
        let (chunk, block) = (number as u64 / 2048, number as u64 % 16);
        chunk * (64 << 20) + block * BLOCK + (number % 128 * SIZE) as u64
    })
}

fn append<const SIZE: usize>(
    context: &Context,
    sync: bool,
    place: fn(usize) -> u64,
) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let count = context.amount((APPEND_BYTES / SIZE).min(APPENDS_MAX));
    let mut raw = RecycledFile::create(&dir.path().join("raw"), count * SIZE)?;
    let bytes = Bytes::from(vec![0x5A; SIZE]);
    let piece = bytes.clone();
    let context = context.clone();
    let subject = move || {
        let dir = context.temp_dir()?;
        let strands = node::open(dir.path(), Options::default())?;
        let strand = strands.mint()?;
        let time = timed(|| {
            let mut end = strands.positions().appended;
            for number in 0..count {
                end = node::write(&strands, strand, place(number), &bytes)?;
            }
            if sync { Ok(strands.ticket(end).wait_durable()?) } else { Ok(()) }
        })?;
        Ok(megabytes_per_second(time, count * SIZE))
    };
    let limit = move || {
        let time = if sync {
            raw.write(&piece, count, usize::MAX)?
        } else {
            raw.write_unsynced(&piece, count)?
        };
        let _keep = &dir;
        Ok(megabytes_per_second(time, count * SIZE))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn crashed<const WRITES: usize, const STRANDS: usize, const REMOVES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    recover(context, History { writes: WRITES, strands: STRANDS, removes: REMOVES }, false)
}

fn closed<const WRITES: usize, const STRANDS: usize, const REMOVES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    recover(context, History { writes: WRITES, strands: STRANDS, removes: REMOVES }, true)
}

/// What a log holds that is recovered.
#[derive(Clone, Copy, Debug)]
struct History {
    writes: usize,
    strands: usize,
    removes: usize,
}

const RECORD: usize = 1024;
/// Segments as small as a log of these records needs, so that what a segment reserves is not the figure.
const SEGMENT_BYTES: u64 = 4 << 20;

impl History {
    fn options() -> Options {
        let mut options = Options::default();
        options.log.segment_bytes = SEGMENT_BYTES;
        options
    }

    fn write(self, dir: &Path) -> anyhow::Result<(Strands, Vec<StrandId>)> {
        let strands = node::open(dir, Self::options())?;
        let ids: Vec<_> = (0..self.strands).map(|_| strands.mint()).collect::<Result<_, _>>()?;
        let bytes = Bytes::from(vec![0x5A; RECORD]);
        for number in 0..self.writes {
            let offset = (number / ids.len() * RECORD) as u64;
            node::write(&strands, ids[number % ids.len()], offset, &bytes)?;
        }
        for id in ids.iter().step_by(2).take(self.removes) {
            strands.commit(std::mem::take(Commit::new().remove(*id)))?.wait_durable()?;
        }
        strands.ticket(strands.positions().appended).wait_durable()?;
        Ok((strands, ids))
    }

    /// Whether all that was written and not removed is there again.
    fn check(self, strands: &Strands, ids: &[StrandId]) -> anyhow::Result<()> {
        let kept = ids.iter().skip(usize::from(self.removes > 0));
        let step = if self.removes > 0 { 2 } else { 1 };
        let expected = (self.writes / self.strands * RECORD) as u64;
        for id in kept.step_by(step) {
            let end = strands.end(*id)?;
            anyhow::ensure!(end == expected, "{id} ends at {end}, not at {expected}");
        }
        Ok(())
    }
}

fn recover(context: &Context, history: History, closed: bool) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let raw = RawLog::create(&dir.path().join("raw"), RECORD + 64, history.writes)?;
    let context = context.clone();
    let subject = move || {
        let dir = context.temp_dir()?;
        let (strands, ids) = history.write(dir.path())?;
        if closed {
            strands.close()?;
        }
        drop(strands);
        let mut opened = None;
        let time = timed(|| {
            let strands = node::open(dir.path(), History::options())?;
            if closed {
                strands.close()?;
            }
            opened = Some(strands);
            Ok(())
        })?;
        if let Some(strands) = &opened {
            history.check(strands, &ids)?;
        }
        Ok(micros(time))
    };
    let limit = move || Ok(micros(raw.read_and_check()? + reserve(dir.path(), SEGMENT_BYTES)?));
    Ok(Box::new(Both(subject, limit)))
}

const REMOVES: usize = 20_000;

fn removes<const REAL: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let count = context.amount(REMOVES);
    let mut raw = RecycledFile::create(&dir.path().join("raw"), 64 * count)?;
    let context = context.clone();
    let subject = move || {
        let dir = context.temp_dir()?;
        let strands = node::open(dir.path(), Options::default())?;
        let ids: Vec<_> = (0..count).map(|_| strands.mint()).collect::<Result<_, _>>()?;
        if REAL {
            let bytes = Bytes::from(vec![0x5A; RECORD]);
            for id in &ids {
                node::write(&strands, *id, 0, &bytes)?;
            }
        }
        let time = timed(|| {
            let mut end = strands.positions().appended;
            for id in &ids {
                if !REAL {
                    black_box(format!("file-{id}"));
                }
                strands.admit_blocking(0)?;
                end = strands.commit(std::mem::take(Commit::new().remove(*id)))?.position();
            }
            if REAL { Ok(strands.ticket(end).wait_durable()?) } else { Ok(()) }
        })?;
        Ok(nanos_each(time, count))
    };
    let limit = move || {
        let piece = [0xC3; 64];
        let time = if REAL {
            raw.write(&piece, count, usize::MAX)?
        } else {
            raw.write_unsynced(&piece, count)?
        };
        let _keep = &dir;
        Ok(nanos_each(time, count))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn nothing_to_sync(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let count = context.amount(1_000_000);
    let strands = node::open(dir.path(), Options::default())?;
    let end = node::write(&strands, strands.mint()?, 0, &Bytes::from_static(&[1; 512]))?;
    strands.ticket(end).wait_durable()?;
    let subject = move || {
        let time = timed(|| {
            for _ in 0..count {
                strands.ticket(black_box(end)).wait_durable()?;
            }
            Ok(())
        })?;
        let _keep = &dir;
        Ok(nanos_each(time, count))
    };
    let taken = Mutex::new(0_u64);
    let limit = move || {
        let time = timed(|| {
            for _ in 0..count {
                *black_box(&taken).lock().map_err(|_| anyhow::anyhow!("poisoned"))? += 1;
            }
            Ok(())
        })?;
        Ok(nanos_each(time, count))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn waiting<const THREADS: usize, const COMMITS: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let dir = context.temp_dir()?;
    let each = context.amount(COMMITS / THREADS);
    let strands = node::open(&dir.path().join("node"), Options::default())?;
    let strand = strands.mint()?;
    let bytes = Bytes::from_static(&[0x5A; 512]);
    let subject = move || {
        let time = timed_threads(THREADS, |thread| {
            for number in 0..each {
                // Round and round the same places, so that the journal's index stays small.
                let offset = ((thread * 64 + number % 64) * 512) as u64;
                let end = node::write(&strands, strand, offset, &bytes)?;
                strands.ticket(end).wait_durable()?;
            }
            Ok(())
        })?;
        Ok(per_second(time, THREADS * each))
    };
    let file = Mutex::new(RecycledFile::create(&dir.path().join("raw"), 16 << 20)?);
    let limit = move || {
        let time: Duration = timed_threads(THREADS, |_| {
            for _ in 0..each {
                let mut file = file.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
                file.write_durably(&[0xC3; 576])?;
            }
            Ok(())
        })?;
        let _keep = &dir;
        Ok(per_second(time, THREADS * each))
    };
    Ok(Box::new(Both(subject, limit)))
}
