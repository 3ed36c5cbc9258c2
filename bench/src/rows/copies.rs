//! Whole files through the cache, and the price of the write-ahead log.
//!
//! - **CF1**, **CF10**, **CF100**: a new file of so many MiB in writes of 32 KiB. Parity: into the cache alone;
//!   the original's "flush" was none, and nothing was given back. Honest: through the data path, durable, then
//!   removed. Limit: memcpy to new memory; `pwrite` of the same into a recycled file with an `fdatasync`.
//! - **CFC**: files of 1 MiB into the cache by a thread per core. Parity: all write the same files. Honest: files
//!   of their own, removed afterwards. Limit: memcpy by as many threads, each to a ring of its own.
//! - **CX**: write, read and write 32 KiB at one place. Parity: round 32 MiB. Honest: round 512 MiB. Limit: as
//!   many copies.
//! - **CWM**, **CWF**: sequential writes of 32 KiB, and files of 10 MiB, without a log (parity of the originals'
//!   first column) and with it (**CWM-wal**, **CWF-wal**): written, not durable. Limit: memcpy; `pwrite` of the
//!   same into a recycled file. The log, too, is one that was written round before, with the files of trimmed
//!   segments: what was written in one measurement is removed and trimmed before the next, to no account. The first
//!   burst into a new log is WA32K. What a commit costs, part by part, is in `docs/decisions/0007-recycled-segments.md`:
//!   beside its checksum and two copies the writer waits for the disk where a segment ends, each 64 MiB.

use std::hint::black_box;

use block_cache::{BlockCache, Generation, Options};
use bytes::Bytes;
use strands::{Commit, Position, StrandId, Strands, Ticket};

use crate::limits::disk::RecycledFile;
use crate::limits::memory::{Aligned, Rings};
use crate::measure::{Both, Context, Pair, cores, megabytes_per_second, timed, timed_threads};
use crate::node;
use crate::rows::{MEGABYTES_PER_SECOND, Row};

/// The rows of this file.
pub(crate) const ROWS: [Row; 14] = [
    flushed("CF1", "files of 1 MiB, durable, removed", "6,000", copy_durably::<1, 150>),
    cached("CF1", "files of 1 MiB", "6,000", copy_cached::<1, 400>),
    flushed("CF10", "files of 10 MiB, durable, removed", "8,700", copy_durably::<10, 15>),
    cached("CF10", "files of 10 MiB", "8,700", copy_cached::<10, 40>),
    flushed("CF100", "files of 100 MiB, durable, removed", "12,400", copy_durably::<100, 2>),
    cached("CF100", "files of 100 MiB", "12,400", copy_cached::<100, 4>),
    Row::honest("CFC", MEGABYTES_PER_SECOND, "files of 1 MiB by a thread per core", RINGS, own)
        .original("32,300"),
    Row::parity(
        "CFC",
        MEGABYTES_PER_SECOND,
        "the same files of 1 MiB by a thread per core",
        RINGS,
        same,
    )
    .original("32,300"),
    Row::honest(
        "CX",
        MEGABYTES_PER_SECOND,
        "write, read, write 32 KiB, round 512 MiB",
        COPIES,
        exchange::<512>,
    )
    .original("22,600"),
    Row::parity(
        "CX",
        MEGABYTES_PER_SECOND,
        "write, read, write 32 KiB, round 32 MiB",
        COPIES,
        exchange::<32>,
    )
    .original("22,600"),
    cached("CWM", "sequential writes of 32 KiB, no log", "14,700", copy_cached::<192, 1>),
    Row::parity(
        "CWM-wal",
        MEGABYTES_PER_SECOND,
        "sequential writes of 32 KiB, logged and handed to the system",
        "pwrite of 32 KiB into a recycled file",
        copy_written::<192, 1>,
    )
    .original("2,200"),
    cached("CWF", "files of 10 MiB, no log", "11,000", copy_cached::<10, 16>),
    Row::parity(
        "CWF-wal",
        MEGABYTES_PER_SECOND,
        "files of 10 MiB, logged and handed to the system",
        "pwrite of 32 KiB into a recycled file",
        copy_written::<10, 16>,
    )
    .original("1,900"),
];

const RINGS: &str = "memcpy by as many threads, each to a ring of its own";
const COPIES: &str = "three memcpy of 32 KiB";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn flushed(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "pwrite of 32 KiB into a recycled file, fdatasync after each file";
    Row::honest(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const fn cached(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "memcpy of 32 KiB into memory that is new";
    Row::parity(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const WRITE: usize = 32 << 10;
const MIB: usize = 1 << 20;
const UNLIMITED: u64 = 1 << 40;

fn generation(number: usize) -> Generation {
    Generation::new(number as u64)
}

fn copy_cached<const MIBS: usize, const FILES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let (size, files) = (MIBS * MIB, context.amount(FILES));
    let bytes = Aligned::new(WRITE);
    let subject = move || {
        let cache = BlockCache::new(Options { budget_bytes: UNLIMITED });
        let time = timed(|| {
            for file in 0..files {
                for at in (0..size).step_by(WRITE) {
                    cache.write(file as u64, at as u64, black_box(&bytes), generation(at))?;
                }
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, files * size))
    };
    let from = Aligned::new(WRITE);
    let limit = move || {
        let mut to: Vec<u8> = Vec::with_capacity(files * size);
        let time = timed(|| {
            for _ in 0..files * size / WRITE {
                to.extend_from_slice(black_box(&from));
            }
            Ok(())
        })?;
        black_box(&to);
        Ok(megabytes_per_second(time, files * size))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// Writes a new strand of `size` bytes in pieces of 32 KiB; returns it and where the last write ends.
fn write_file(
    strands: &Strands,
    size: usize,
    bytes: &Bytes,
) -> anyhow::Result<(StrandId, Position)> {
    let strand = strands.mint()?;
    let mut end = strands.positions().appended;
    for at in (0..size).step_by(WRITE) {
        end = node::write(strands, strand, at as u64, bytes)?;
    }
    Ok((strand, end))
}

fn remove_file(strands: &Strands, strand: StrandId) -> anyhow::Result<Ticket> {
    Ok(strands.commit(std::mem::take(Commit::new().remove(strand)))?)
}

fn copy_durably<const MIBS: usize, const FILES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let (size, files) = (MIBS * MIB, context.amount(FILES));
    let dir = context.temp_dir()?;
    let mut raw = RecycledFile::create(&dir.path().join("raw"), files * size)?;
    let context = context.clone();
    let subject = move || {
        let dir = context.temp_dir()?;
        let strands = node::open(dir.path(), strands::Options::default())?;
        let bytes = Bytes::from(vec![0x5A; WRITE]);
        let time = timed(|| {
            (0..files).try_for_each(|_| {
                let (strand, end) = write_file(&strands, size, &bytes)?;
                strands.ticket(end).wait_durable()?;
                remove_file(&strands, strand).map(drop)
            })
        })?;
        Ok(megabytes_per_second(time, files * size))
    };
    let limit = move || {
        let time = raw.write(&[0x5A; WRITE], files * size / WRITE, size / WRITE)?;
        let _keep = &dir;
        Ok(megabytes_per_second(time, files * size))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn copy_written<const MIBS: usize, const FILES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let (size, files) = (MIBS * MIB, context.amount(FILES));
    let dir = context.temp_dir()?;
    let mut raw = RecycledFile::create(&dir.path().join("raw"), files * size)?;
    let strands = node::open(&dir.path().join("node"), strands::Options::default())?;
    let bytes = Bytes::from(vec![0x5A; WRITE]);
    let subject = move || {
        let mut written = Vec::with_capacity(files);
        let time = timed(|| {
            for _ in 0..files {
                written.push(write_file(&strands, size, &bytes)?.0);
            }
            Ok(())
        })?;
        for strand in written {
            remove_file(&strands, strand)?.wait_durable()?;
        }
        strands.pack_now()?;
        Ok(megabytes_per_second(time, files * size))
    };
    let limit = move || {
        let time = raw.write_unsynced(&[0x5A; WRITE], files * size / WRITE)?;
        let _keep = &dir;
        Ok(megabytes_per_second(time, files * size))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// Files of 1 MiB that each thread writes in one measurement.
const FILES: usize = 200;

fn same(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    concurrent(context, false)
}

fn own(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    concurrent(context, true)
}

fn concurrent(context: &Context, own: bool) -> anyhow::Result<Box<dyn Pair>> {
    let (threads, files) = (cores(), context.amount(FILES));
    let bytes = Aligned::new(WRITE);
    let subject = move || {
        let cache = BlockCache::new(Options { budget_bytes: UNLIMITED });
        let time = timed_threads(threads, |thread| {
            for file in 0..files {
                let strand = if own { thread * files + file } else { file } as u64;
                for at in (0..MIB).step_by(WRITE) {
                    cache.write(strand, at as u64, black_box(&bytes), generation(at))?;
                }
                if own {
                    cache.remove(strand);
                }
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, threads * files * MIB))
    };
    let (rings, piece) = (Rings::new(threads, threads * FILES * MIB / 4), Aligned::new(WRITE));
    let limit = move || {
        let time = rings.copy(&piece, files * MIB / WRITE)?;
        Ok(megabytes_per_second(time, threads * files * MIB))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn exchange<const MIBS: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let (size, rounds) = (MIBS * MIB, context.amount(32_768));
    let cache = BlockCache::new(Options { budget_bytes: UNLIMITED });
    let bytes = Aligned::new(WRITE);
    for at in (0..size).step_by(WRITE) {
        cache.write(1, at as u64, &bytes, generation(0))?;
    }
    let (mut to, mut gaps) = (Aligned::new(WRITE), Vec::new());
    let subject = move || {
        let time = timed(|| {
            for number in 0..rounds {
                let at = (number * WRITE % size) as u64;
                cache.write(1, at, black_box(&bytes), generation(number))?;
                cache.read(1, at, &mut to, &mut gaps);
                cache.write(1, at, black_box(&to), generation(number))?;
            }
            anyhow::ensure!(gaps.is_empty(), "all of it is there");
            Ok(())
        })?;
        Ok(megabytes_per_second(time, 3 * rounds * WRITE))
    };
    let (from, mut buffer, mut copy) =
        (Aligned::new(WRITE), Aligned::new(size), Aligned::new(WRITE));
    let limit = move || {
        let time = timed(|| {
            for number in 0..rounds {
                let place = number * WRITE % size..number * WRITE % size + WRITE;
                buffer[place.clone()].copy_from_slice(black_box(&from));
                copy.copy_from_slice(black_box(&buffer[place.clone()]));
                buffer[place].copy_from_slice(black_box(&copy));
            }
            Ok(())
        })?;
        black_box(&mut buffer);
        Ok(megabytes_per_second(time, 3 * rounds * WRITE))
    };
    Ok(Box::new(Both(subject, limit)))
}
