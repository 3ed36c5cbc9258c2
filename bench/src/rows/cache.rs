//! The block cache: writes, reads, coverage, listing, marking, evicting. Nothing here touches a disk.
//!
//! Each row's parity variant does the work of the original's benchmark of that name, on at most 512 MiB:
//! the original let some of them grow until memory ended. The honest variants:
//!
//! - **CW**, sequential writes of one file, **CM**, of many in turn: a cache of 256 MiB that has been in use
//!   for a while, in which what is written is marked as saved piece by piece, so that writing evicts.
//!   Parity: an unlimited cache that is empty at first, so that its memory comes from the allocator inside
//!   the time. Limit: copying the same pieces to the same places of a buffer.
//! - **CWC**, writes by a thread per core: each has files of its own. Parity: all write the same places of
//!   the same files. Limit: copying by as many threads, each to a ring of its own.
//! - **CR**, sequential reads: of 512 MiB, more than any processor's cache. Parity: of 64 MiB. Limit:
//!   copying the same out of one buffer.
//! - **CO**, reads of what n overlapping writes left: as many bytes as were written. Parity: 32 KiB, also of
//!   fewer. Limit: copying as many hot bytes.
//! - **CCOV**, is a range here: of pieces that lack a byte each, so that it has to be looked at. Parity: of
//!   full pieces. Limit: testing as many bits, as words.
//! - **CD**, list of dirty pieces of a strand: neighbours, among 10,000 clean pieces of others. Parity: 64 MiB
//!   apart, nothing else. Limit: copying and sorting as many entries.
//! - **CMU**, mark a piece as saved: each is dirty. Parity: one of 100 whose name is put together first, dirty
//!   at its first turn only. Limit: finding a number in a map and changing its value.
//! - **CEV**, evict 1 MiB: filled up again before each time. Parity: not filled up, so that nearly all find
//!   nothing. Limit: freeing as much memory as the honest one does.
//!
//! Counts of bytes are 10^6. The originals' figures are from an Apple M1 Max with ten cores.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use block_cache::{BlockCache, Generation, Options, PIECE_BYTES, PieceId};

use crate::limits::memory::{Aligned, Rings};
use crate::measure::{
    Both, Context, Pair, cores, megabytes_per_second, micros, nanos_each, timed, timed_threads,
};
use crate::rows::{MEGABYTES_PER_SECOND, MICROS, Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 50] = [
    honest_write("CW4", "4 KiB", "11,000", write::<{ 4 << 10 }, 1>),
    parity_write("CW4", "4 KiB", "11,000", write_fresh::<{ 4 << 10 }, 1>),
    honest_write("CW16", "16 KiB", "14,100", write::<{ 16 << 10 }, 1>),
    parity_write("CW16", "16 KiB", "14,100", write_fresh::<{ 16 << 10 }, 1>),
    honest_write("CW32", "32 KiB", "14,300", write::<{ 32 << 10 }, 1>),
    parity_write("CW32", "32 KiB", "14,300", write_fresh::<{ 32 << 10 }, 1>),
    honest_write("CW64", "64 KiB", "15,300", write::<{ 64 << 10 }, 1>),
    parity_write("CW64", "64 KiB", "15,300", write_fresh::<{ 64 << 10 }, 1>),
    honest_write("CW128", "128 KiB", "15,800", write::<{ 128 << 10 }, 1>),
    parity_write("CW128", "128 KiB", "15,800", write_fresh::<{ 128 << 10 }, 1>),
    honest_write("CM10", "32 KiB to 10 files in turn", "8,200", write::<WRITE, 10>),
    parity_write("CM10", "32 KiB to 10 files in turn", "8,200", write_fresh::<WRITE, 10>),
    honest_write("CM100", "32 KiB to 100 files in turn", "8,200", write::<WRITE, 100>),
    parity_write("CM100", "32 KiB to 100 files in turn", "8,200", write_fresh::<WRITE, 100>),
    honest_write("CM1000", "32 KiB to 1,000 files in turn", "8,200", write::<WRITE, 1000>),
    parity_write("CM1000", "32 KiB to 1,000 files in turn", "8,200", write_fresh::<WRITE, 1000>),
    Row::honest(
        "CWC",
        MEGABYTES_PER_SECOND,
        "writes of 32 KiB by a thread per core, own files",
        RINGS,
        own_files,
    ),
    Row::parity(
        "CWC",
        MEGABYTES_PER_SECOND,
        "writes of 32 KiB by a thread per core, same files",
        RINGS,
        same_files,
    )
    .original("67,900"),
    honest_read("CR4", "4 KiB", read::<{ 4 << 10 }, LARGE>),
    parity_read("CR4", "4 KiB", "22,900", read::<{ 4 << 10 }, SMALL>),
    honest_read("CR32", "32 KiB", read::<{ 32 << 10 }, LARGE>),
    parity_read("CR32", "32 KiB", "29,400", read::<{ 32 << 10 }, SMALL>),
    honest_read("CR64", "64 KiB", read::<{ 64 << 10 }, LARGE>),
    parity_read("CR64", "64 KiB", "30,300", read::<{ 64 << 10 }, SMALL>),
    honest_read("CR128", "128 KiB", read::<{ 128 << 10 }, LARGE>),
    parity_read("CR128", "128 KiB", "29,900", read::<{ 128 << 10 }, SMALL>),
    honest_overlap("CO1", "1 write", overlap::<1, false>),
    parity_overlap("CO1", "1 write", "57,800", overlap::<1, true>),
    honest_overlap("CO5", "5 writes", overlap::<5, false>),
    parity_overlap("CO5", "5 writes", "58,200", overlap::<5, true>),
    honest_overlap("CO10", "10 writes", overlap::<10, false>),
    parity_overlap("CO10", "10 writes", "61,700", overlap::<10, true>),
    honest_overlap("CO25", "25 writes", overlap::<25, false>),
    parity_overlap("CO25", "25 writes", "58,600", overlap::<25, true>),
    honest_overlap("CO50", "50 writes", overlap::<50, false>),
    parity_overlap("CO50", "50 writes", "59,100", overlap::<50, true>),
    Row::honest(
        "CCOV",
        NANOS_PER_QUERY,
        "are 32 KiB here, of pieces that are not full",
        BITS,
        covered::<false>,
    ),
    Row::parity("CCOV", NANOS_PER_QUERY, "are 32 KiB here, of full pieces", BITS, covered::<true>)
        .original("369 ns"),
    honest_list("CD1", "1 dirty piece", list::<1, false>),
    parity_list("CD1", "1 dirty piece", "126 ns", list::<1, true>),
    honest_list("CD10", "10 dirty pieces", list::<10, false>),
    parity_list("CD10", "10 dirty pieces", "1,100 ns", list::<10, true>),
    honest_list("CD100", "100 dirty pieces", list::<100, false>),
    parity_list("CD100", "100 dirty pieces", "12,500 ns", list::<100, true>),
    Row::honest("CMU", NANOS_PER_MARK, "mark a dirty piece as saved", MAP, mark),
    Row::parity(
        "CMU",
        NANOS_PER_MARK,
        "put a name together, mark one of 100 pieces as saved",
        MAP,
        mark_named,
    )
    .original("78 ns"),
    Row::honest("CEV", MICROS, "evict 1 MiB of 1,000 files of 32 KiB", FREE, evict),
    Row::parity(
        "CEV",
        MICROS,
        "evict 1 MiB of 1,000 files of 32 KiB, mostly gone",
        FREE,
        evict_mostly_empty,
    )
    .original("146 us"),
    Row::honest(
        "CM1000-CW32",
        MEGABYTES_PER_SECOND,
        "writes of 32 KiB to 1,000 files in turn",
        "the same to one file",
        many_against_one,
    )
    .pairs(9),
    Row::honest(
        "CSMALL",
        NANOS_PER_FILE,
        "write a file of 10 KiB and remove it",
        "copying 10 KiB",
        small_file,
    ),
];

const NANOS_PER_QUERY: Unit = Unit { name: "ns/query" };
const NANOS_PER_LIST: Unit = Unit { name: "ns/list" };
const NANOS_PER_MARK: Unit = Unit { name: "ns/mark" };
const NANOS_PER_FILE: Unit = Unit { name: "ns/file" };

const RINGS: &str = "memcpy by as many threads, each to a ring of its own";
const BITS: &str = "testing 512 bits as words";
const MAP: &str = "finding a number in a map and changing its value";
const FREE: &str = "freeing 1 MiB in pieces of 32 KiB";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest_write(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "memcpy of the same into 256 MiB, touched";
    Row::honest(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const fn parity_write(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    let limit = "memcpy of the same into 512 MiB, touched";
    Row::parity(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const fn honest_read(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, MEGABYTES_PER_SECOND, what, "memcpy out of 512 MiB", prepare)
}

const fn parity_read(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MEGABYTES_PER_SECOND, what, "memcpy out of 64 MiB", prepare).original(original)
}

const fn honest_overlap(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, MEGABYTES_PER_SECOND, what, "memcpy of as many hot bytes", prepare)
}

const fn parity_overlap(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MEGABYTES_PER_SECOND, what, "memcpy of 32 KiB, hot", prepare).original(original)
}

const fn honest_list(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, NANOS_PER_LIST, what, "copying and sorting as many entries", prepare)
}

const fn parity_list(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, NANOS_PER_LIST, what, "copying and sorting as many entries", prepare)
        .original(original)
}

const WRITE: usize = 32 << 10;
const SMALL: usize = 64 << 20;
const LARGE: usize = 512 << 20;
/// What a cache that evicts may hold, and what its limit copies into.
const BUDGET: usize = 256 << 20;
const UNLIMITED: u64 = 1 << 40;
const PIECE: usize = PIECE_BYTES as usize;

fn cache(budget_bytes: u64) -> BlockCache {
    BlockCache::new(Options { budget_bytes })
}

/// A generation for the n-th operation.
fn nth(number: usize) -> Generation {
    Generation::new(number as u64)
}

/// Where the n-th write of `size` bytes goes when files take turns: file and offset.
fn turn(number: usize, files: usize, size: usize) -> (u64, u64) {
    ((number % files) as u64, (number / files * size) as u64)
}

/// Writes into a cache that has been full for a while.
fn write<const SIZE: usize, const FILES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let writes = context.amount(2 * LARGE / SIZE);
    let cache = cache(BUDGET as u64);
    let mut steady = Steady { cache, files: FILES, size: SIZE, next: 0, bytes: Aligned::new(SIZE) };
    steady.write(2 * BUDGET / SIZE)?;
    let mut buffer = Aligned::new(BUDGET);
    let limit = move || {
        let time = copy_in(&mut buffer, writes, FILES, SIZE)?;
        Ok(megabytes_per_second(time, writes * SIZE))
    };
    let subject = move || Ok(megabytes_per_second(steady.write(writes)?, writes * SIZE));
    Ok(Box::new(Both(subject, limit)))
}

/// Writes to files in turn, marking what was written as saved when a piece is full.
struct Steady {
    cache: BlockCache,
    files: usize,
    size: usize,
    next: usize,
    bytes: Aligned,
}

impl Steady {
    fn write(&mut self, writes: usize) -> anyhow::Result<Duration> {
        timed(|| {
            for number in self.next..self.next + writes {
                let (file, offset) = turn(number, self.files, self.size);
                self.cache.write(file, offset, black_box(&self.bytes), nth(number))?;
                let id = PieceId::at(file, offset);
                // With many files, what can be dirty at once is less than a piece of each.
                let ended = id.range().end == offset + self.size as u64;
                if ended || self.files > 10 {
                    self.cache.mark_saved(id, nth(number));
                }
            }
            self.next += writes;
            Ok(())
        })
    }
}

/// Writes into a cache that is empty at first.
fn write_fresh<const SIZE: usize, const FILES: usize>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let writes = context.amount(LARGE / SIZE);
    let bytes = Aligned::new(SIZE);
    let subject = move || {
        let cache = cache(UNLIMITED);
        let time = timed(|| {
            for number in 0..writes {
                let (file, offset) = turn(number, FILES, SIZE);
                if FILES > 1 {
                    black_box(format!("file-{file}"));
                }
                cache.write(file, offset, black_box(&bytes), nth(number))?;
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, writes * SIZE))
    };
    let mut buffer = Aligned::new(LARGE);
    let limit = move || {
        let time = copy_in(&mut buffer, writes, FILES, SIZE)?;
        Ok(megabytes_per_second(time, writes * SIZE))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// Copies as the writes go: each file has its part of the buffer, written round and round.
fn copy_in(
    buffer: &mut [u8],
    writes: usize,
    files: usize,
    size: usize,
) -> anyhow::Result<Duration> {
    let bytes = Aligned::new(size);
    let part = buffer.len() / files / size * size;
    timed(|| {
        for number in 0..writes {
            let at = number % files * part + number / files * size % part;
            buffer[at..at + size].copy_from_slice(black_box(&bytes));
        }
        black_box(buffer);
        Ok(())
    })
}

/// The same files at the same places, by all threads.
fn same_files(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    concurrent(context, |_, number| turn(number, 100, WRITE))
}

/// Files of each thread's own.
fn own_files(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    concurrent(context, |thread, number| {
        let (file, offset) = turn(number, 100, WRITE);
        (file + 100 * thread as u64, offset)
    })
}

fn concurrent(
    context: &Context,
    place: fn(usize, usize) -> (u64, u64),
) -> anyhow::Result<Box<dyn Pair>> {
    let (threads, writes) = (cores(), context.amount(32_768));
    // Written round and round over half of what all are to hold.
    let distinct = writes.min(BUDGET / WRITE / threads);
    let cache = cache(UNLIMITED);
    let bytes = Aligned::new(WRITE);
    let subject = move || {
        let time = timed_threads(threads, |thread| {
            for number in 0..writes {
                let (file, offset) = place(thread, number % distinct);
                black_box(format!("file-{file}"));
                cache.write(file, offset, black_box(&bytes), nth(number))?;
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, threads * writes * WRITE))
    };
    let (rings, piece) = (Rings::new(threads, BUDGET), Aligned::new(WRITE));
    let limit = move || {
        let time = rings.copy(&piece, writes)?;
        Ok(megabytes_per_second(time, threads * writes * WRITE))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn read<const SIZE: usize, const FROM: usize>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let reads = context.amount(2 * LARGE / SIZE);
    let cache = cache(UNLIMITED);
    for at in (0..FROM).step_by(WRITE) {
        cache.write(1, at as u64, &[0x5A; WRITE], nth(1))?;
    }
    let (mut to, mut gaps) = (Aligned::new(SIZE), Vec::new());
    let subject = move || {
        let time = timed(|| {
            for number in 0..reads {
                cache.read(1, (number * SIZE % FROM) as u64, &mut to, &mut gaps);
                black_box(&mut to);
            }
            anyhow::ensure!(gaps.is_empty(), "all of it is there");
            Ok(())
        })?;
        Ok(megabytes_per_second(time, reads * SIZE))
    };
    let (buffer, mut copy) = (Aligned::new(FROM), Aligned::new(SIZE));
    let limit = move || {
        let time = timed(|| {
            for number in 0..reads {
                let at = number * SIZE % FROM;
                copy.copy_from_slice(black_box(&buffer[at..at + SIZE]));
                black_box(&mut copy);
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, reads * SIZE))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn overlap<const WRITES: usize, const ALL: bool>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let reads = context.amount(200_000);
    let cache = cache(UNLIMITED);
    for number in 0..WRITES {
        cache.write(1, (number * 2048) as u64, &[0x5A; 4096], nth(number))?;
    }
    let len = if ALL { WRITE } else { WRITE.min((WRITES + 1) * 2048) };
    let (mut to, mut gaps) = (Aligned::new(len), Vec::new());
    let subject = move || {
        let time = timed(|| {
            for _ in 0..reads {
                cache.read(1, 0, &mut to, &mut gaps);
                black_box(&mut to);
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, reads * len))
    };
    let (from, mut copy) = (Aligned::new(len), Aligned::new(len));
    let limit = move || {
        let time = timed(|| {
            for _ in 0..reads {
                copy.copy_from_slice(black_box(&from));
                black_box(&mut copy);
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, reads * len))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn covered<const FULL: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let queries = context.amount(4_000_000);
    let cache = cache(UNLIMITED);
    cache.write(1, 0, &vec![0x5A; SMALL], nth(1))?;
    if !FULL {
        for at in (PIECE..=SMALL).step_by(PIECE) {
            cache.forget(1, at as u64 - 1..at as u64);
        }
    }
    let range = |number: usize| {
        let at = number * 4096 % SMALL;
        at as u64..(at + WRITE).min(SMALL) as u64
    };
    let subject = move || {
        let time = timed(|| {
            for number in 0..queries {
                black_box(cache.is_covered(1, range(number)));
            }
            Ok(())
        })?;
        Ok(nanos_each(time, queries))
    };
    let words = vec![u64::MAX; SMALL / 64 / 64];
    let limit = move || {
        let time = timed(|| {
            for number in 0..queries {
                let range = range(number);
                let (from, to) = (range.start as usize / 4096, range.end as usize / 4096);
                black_box(words[from..to].iter().all(|word| *word == u64::MAX));
            }
            Ok(())
        })?;
        Ok(nanos_each(time, queries))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn list<const COUNT: usize, const APART: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let lists = context.amount(40_000);
    let cache = cache(UNLIMITED);
    let step = if APART { SMALL } else { PIECE };
    for number in 0..COUNT {
        cache.write(1, (number * step) as u64, &[0x5A; WRITE], nth(number))?;
    }
    if !APART {
        for strand in 2..10_002 {
            cache.write(strand, 0, &[0x5A; 1024], nth(1))?;
            cache.mark_saved(PieceId::at(strand, 0), nth(1));
        }
    }
    let mut found = Vec::new();
    cache.dirty_of(1, &mut found);
    let (entries, mut sorted) = (found.clone(), found.clone());
    let subject = move || {
        let time = timed(|| {
            for _ in 0..lists {
                cache.dirty_of(1, &mut found);
                black_box(&mut found);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, lists))
    };
    let limit = move || {
        let time = timed(|| {
            for _ in 0..lists {
                sorted.clone_from(black_box(&entries));
                sorted.sort_unstable_by_key(|piece| (piece.oldest, piece.id));
                black_box(&mut sorted);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, lists))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// Pieces that are marked in one burst: few enough to be found in the processor's cache.
const BURST: usize = 1000;

fn mark(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let bursts = context.amount(400);
    let cache = cache(UNLIMITED);
    let mut number = 0;
    let subject = move || {
        let mut time = Duration::ZERO;
        for _ in 0..bursts {
            number += 1;
            for strand in 0..BURST as u64 {
                cache.write(strand, 0, &[0x5A; 1024], nth(number))?;
            }
            time += timed(|| {
                for strand in 0..BURST as u64 {
                    black_box(cache.mark_saved(PieceId::at(strand, 0), nth(number)));
                }
                Ok(())
            })?;
        }
        Ok(nanos_each(time, bursts * BURST))
    };
    Ok(Box::new(Both(subject, find_in_map(bursts, BURST))))
}

fn mark_named(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let rounds = context.amount(20_000);
    let subject = move || {
        let cache = cache(UNLIMITED);
        for strand in 0..100 {
            cache.write(strand, 0, &[0x5A; 1024], nth(1))?;
        }
        let time = timed(|| {
            for number in 0..rounds * 100 {
                let strand = (number % 100) as u64;
                black_box(format!("file-{strand}"));
                black_box(cache.mark_saved(PieceId::at(strand, 0), nth(1)));
            }
            Ok(())
        })?;
        Ok(nanos_each(time, rounds * 100))
    };
    Ok(Box::new(Both(subject, find_in_map(rounds, 100))))
}

fn find_in_map(rounds: usize, keys: usize) -> impl FnMut() -> anyhow::Result<f64> {
    let mut map: HashMap<u64, usize> = (0..keys as u64).map(|key| (key, 0)).collect();
    move || {
        let time = timed(|| {
            for round in 0..rounds {
                for key in 0..keys as u64 {
                    if let Some(value) = map.get_mut(&black_box(key)) {
                        *value = round;
                    }
                }
            }
            Ok(())
        })?;
        Ok(nanos_each(time, rounds * keys))
    }
}

const FILES: u64 = 1000;
const MIB: usize = 1 << 20;

/// Writes and marks files, those of them that are not there.
fn fill_up(cache: &BlockCache, files: Range<u64>) -> anyhow::Result<()> {
    for strand in files {
        cache.write(strand, 0, &[0x5A; WRITE], nth(1))?;
        cache.mark_saved(PieceId::at(strand, 0), nth(1));
    }
    Ok(())
}

fn evict(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let times = context.amount(500);
    let cache = cache(UNLIMITED);
    fill_up(&cache, 0..FILES)?;
    let mut next = FILES;
    let subject = move || {
        let mut time = Duration::ZERO;
        for _ in 0..times {
            let before = cache.stats().evicted_pieces;
            time += timed(|| {
                black_box(cache.evict(MIB as u64));
                Ok(())
            })?;
            let files = next..next + (cache.stats().evicted_pieces - before);
            next = files.end;
            fill_up(&cache, files)?;
        }
        Ok(micros(time) / times as f64)
    };
    Ok(Box::new(Both(subject, free(times))))
}

fn evict_mostly_empty(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let times = context.amount(10_000);
    let subject = move || {
        let cache = cache(UNLIMITED);
        fill_up(&cache, 0..FILES)?;
        let time = timed(|| {
            for _ in 0..times {
                black_box(cache.evict(MIB as u64));
            }
            Ok(())
        })?;
        Ok(micros(time) / times as f64)
    };
    Ok(Box::new(Both(subject, free(times.min(500)))))
}

fn free(times: usize) -> impl FnMut() -> anyhow::Result<f64> {
    let file = || vec![0x5A_u8; WRITE];
    let mut files: VecDeque<Vec<u8>> = (0..FILES).map(|_| file()).collect();
    move || {
        let mut time = Duration::ZERO;
        for _ in 0..times {
            time += timed(|| {
                drop(files.drain(..MIB / WRITE));
                Ok(())
            })?;
            files.extend((0..MIB / WRITE).map(|_| file()));
        }
        Ok(micros(time) / times as f64)
    }
}

/// Two caches that have been full for a while: 1,000 files against one.
fn many_against_one(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let writes = context.amount(LARGE / WRITE);
    let mut sides = [1000, 1].map(|files| Steady {
        cache: cache(BUDGET as u64),
        files,
        size: WRITE,
        next: 0,
        bytes: Aligned::new(WRITE),
    });
    for side in &mut sides {
        side.write(2 * BUDGET / WRITE)?;
    }
    let [mut many, mut one] = sides;
    let rate = move |time| megabytes_per_second(time, writes * WRITE);
    Ok(Box::new(Both(move || Ok(rate(many.write(writes)?)), move || Ok(rate(one.write(writes)?)))))
}

fn small_file(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let files = context.amount(200_000);
    let cache = cache(UNLIMITED);
    let bytes = Aligned::new(10 << 10);
    let subject = move || {
        let time = timed(|| {
            for strand in 0..files as u64 {
                cache.write(strand, 0, black_box(&bytes), nth(1))?;
                cache.remove(strand);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, files))
    };
    let (from, mut to) = (Aligned::new(10 << 10), Aligned::new(10 << 10));
    let limit = move || {
        let time = timed(|| {
            for _ in 0..files {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, files))
    };
    Ok(Box::new(Both(subject, limit)))
}
