//! Loads that the originals did not measure and that decide how a store does in use.
//!
//! Through the data path on a directory; the strand that is read and changed is 512 MiB, in blocks, and four
//! times the cache. Its limits are the same calls on one plain file, whose pages the system has at hand, except
//! where the page cache is emptied first.
//!
//! - **L-write-4k**: 4 KiB at random places, durable at the end. **L-overwrite**: 32 KiB one after the other over
//!   what lies in blocks, durable at the end. **L-partial**: 512 B into each of the blocks, none of them at hand,
//!   durable at the end; what lies beside them is read again outside of the time.
//! - **L-read-4k**: 4 KiB at random places. **L-cold**: 1 MiB one after the other, nothing in the page cache.
//! - **L-mixed**: a thread per core, 4 KiB at random places, seven reads to three writes.
//! - **L-small**: files of 10 KiB made, written and closed on a volume, durable at the end. Limit: the same in a
//!   folder of the disk, its file system synced.
//! - **L-full**: four threads write 32 KiB pieces while the store takes a block in 40 ms and the journal may hold
//!   64 MiB: until the store has all. A write that fails fails the row. Limit: as many blocks put into that store.

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use block_store::{
    Block, BlockBuilder, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Memory,
    Objects, Piece, PutError, ReadError, Usage,
};
use bytes::Bytes;
use strands::{Options, StrandId};
use volume::Durability;

use crate::files::Files;
use crate::limits::disk::{RecycledFile, drop_cached};
use crate::limits::memory::Aligned;
use crate::measure::{
    Both, Context, Pair, cores, megabytes_per_second, per_second, timed, timed_threads,
};
use crate::node::{self, Column, Node};
use crate::random::Random;
use crate::rows::{MEGABYTES_PER_SECOND, READS_PER_SECOND, Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 8] = [
    Row::honest(
        "L-write-4k",
        WRITES_PER_SECOND,
        "write 4 KiB at random places of 512 MiB, durable at the end",
        "the same pwrite, fdatasync at the end",
        write_randomly,
    ),
    Row::honest(
        "L-read-4k",
        READS_PER_SECOND,
        "read 4 KiB at random places of 512 MiB",
        "the same pread, in the page cache",
        read_randomly,
    ),
    Row::honest(
        "L-overwrite",
        MEGABYTES_PER_SECOND,
        "write 32 KiB over what lies in blocks, durable at the end",
        "the same pwrite, fdatasync at the end",
        overwrite,
    ),
    Row::honest(
        "L-partial",
        WRITES_PER_SECOND,
        "write 512 B into each block, none of them at hand, durable at the end",
        "the same pwrite, fdatasync at the end",
        write_partly,
    ),
    Row::honest(
        "L-cold",
        MEGABYTES_PER_SECOND,
        "read 1 MiB one after the other, nothing in the page cache",
        "the same pread, nothing in the page cache",
        read_cold,
    ),
    Row::honest(
        "L-mixed",
        OPERATIONS_PER_SECOND,
        "7 reads to 3 writes of 4 KiB at random places, a thread per core",
        "the same pread and pwrite",
        mixed,
    ),
    Row::honest(
        "L-small",
        FILES_PER_SECOND,
        "make, write and close files of 10 KiB, durable at the end",
        "the same in a folder of the disk, its file system synced",
        small_files,
    ),
    Row::honest(
        "L-full",
        MEGABYTES_PER_SECOND,
        "4 threads write faster than the store takes blocks, until it has all",
        "as many blocks put into that store",
        overrun,
    )
    .pairs(3),
];

const WRITES_PER_SECOND: Unit = Unit { name: "writes/s" };
const OPERATIONS_PER_SECOND: Unit = Unit { name: "operations/s" };
const FILES_PER_SECOND: Unit = Unit { name: "files/s" };

const MIB: usize = 1 << 20;
const BLOCK: usize = 4 * MIB;
const PAGE: usize = 4096;
/// Blocks of the strand that is read and changed.
const BLOCKS: usize = 128;

/// A strand that lies in blocks, and a plain file of its size.
struct Settled {
    node: Node,
    strand: StrandId,
    size: usize,
    raw: File,
}

impl Settled {
    fn new(context: &Context) -> anyhow::Result<Self> {
        let size = context.amount(BLOCKS).max(4) * BLOCK;
        let options = Options { cache_bytes: (size / 4) as u64, ..Options::default() };
        let node = Node::open(context, Column::Directory, options)?;
        let strand = node.strands.mint()?;
        for at in (0..size).step_by(BLOCK) {
            node::write_to_stay(&node.strands, strand, at as u64, &filled(at, BLOCK))?;
        }
        node.strands.ticket(node.strands.positions().appended).wait_durable()?;
        let path = node.dir().join("raw");
        drop(RecycledFile::create(&path, size)?);
        let raw = File::options().read(true).write(true).open(path)?;
        Ok(Self { node, strand, size, raw })
    }

    /// Writes `bytes` to each of `places`, durable at the end.
    fn write(&self, places: &[usize], bytes: &Bytes) -> anyhow::Result<Duration> {
        let strands = &self.node.strands;
        timed(|| {
            for at in places {
                node::write(strands, self.strand, *at as u64, bytes)?;
            }
            Ok(strands.ticket(strands.positions().appended).wait_durable()?)
        })
    }

    fn write_raw(&self, places: &[usize], bytes: &Bytes) -> anyhow::Result<Duration> {
        timed(|| {
            for at in places {
                self.raw.write_all_at(bytes, *at as u64)?;
            }
            Ok(self.raw.sync_data()?)
        })
    }

    fn read(&self, places: &[usize], len: usize) -> anyhow::Result<Duration> {
        timed(|| {
            for at in places {
                let bytes = self.node.strands.read_blocking(
                    self.strand,
                    *at as u64,
                    u32::try_from(len)?,
                )?;
                anyhow::ensure!(black_box(bytes).len() == len, "all of it is read");
            }
            Ok(())
        })
    }

    fn read_raw(&self, places: &[usize], len: usize) -> anyhow::Result<Duration> {
        let mut to = Aligned::new(len);
        timed(|| {
            for at in places {
                self.raw.read_exact_at(&mut to, *at as u64)?;
                black_box(&mut to);
            }
            Ok(())
        })
    }

    /// So many places at random, each the beginning of a page.
    fn places(&self, seed: u64, count: usize) -> Vec<usize> {
        let pages = Random::new(seed).below_each(self.size / PAGE, count);
        pages.into_iter().map(|page| page * PAGE).collect()
    }
}

/// Bytes by which a block is told from others.
fn filled(at: usize, len: usize) -> Bytes {
    vec![(at / BLOCK % 251).to_le_bytes()[0]; len].into()
}

fn write_randomly(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let count = context.amount(32_768);
    let settled = Arc::new(Settled::new(context)?);
    let (places, bytes) = (settled.places(7, count), Bytes::from(vec![0xA5; PAGE]));
    let (raw, raw_places, raw_bytes) = (Arc::clone(&settled), places.clone(), bytes.clone());
    let subject = move || {
        let time = settled.write(&places, &bytes)?;
        // What this has left in the journal is no part of the next time.
        settled.node.store_all()?;
        Ok(per_second(time, count))
    };
    let limit = move || Ok(per_second(raw.write_raw(&raw_places, &raw_bytes)?, count));
    Ok(Box::new(Both(subject, limit)))
}

fn read_randomly(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let count = context.amount(100_000);
    let settled = Arc::new(Settled::new(context)?);
    let places = settled.places(7, count);
    let (raw, raw_places) = (Arc::clone(&settled), places.clone());
    let subject = move || Ok(per_second(settled.read(&places, PAGE)?, count));
    let limit = move || Ok(per_second(raw.read_raw(&raw_places, PAGE)?, count));
    Ok(Box::new(Both(subject, limit)))
}

fn overwrite(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const PIECE: usize = 32 << 10;
    let settled = Arc::new(Settled::new(context)?);
    let count = (settled.size / 4) / PIECE;
    let places: Vec<_> = (0..count).map(|number| number * PIECE).collect();
    let bytes = Bytes::from(vec![0xA5; PIECE]);
    let (raw, raw_places, raw_bytes) = (Arc::clone(&settled), places.clone(), bytes.clone());
    let subject = move || {
        let time = settled.write(&places, &bytes)?;
        settled.node.store_all()?;
        Ok(megabytes_per_second(time, count * PIECE))
    };
    let limit =
        move || Ok(megabytes_per_second(raw.write_raw(&raw_places, &raw_bytes)?, count * PIECE));
    Ok(Box::new(Both(subject, limit)))
}

fn write_partly(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const PIECE: usize = 512;
    /// Where in a block, and how often.
    const AT: usize = 100_000;
    const EACH: usize = 16;
    let settled = Arc::new(Settled::new(context)?);
    let blocks = settled.size / BLOCK;
    let places: Vec<_> = (0..EACH * blocks)
        .map(|number| number % blocks * BLOCK + AT + number / blocks * 10_000)
        .collect();
    let (count, bytes) = (places.len(), Bytes::from(vec![0xA5; PIECE]));
    let (raw, raw_places, raw_bytes) = (Arc::clone(&settled), places.clone(), bytes.clone());
    let subject = move || {
        let time = settled.write(&places, &bytes)?;
        settled.node.store_all()?;
        for at in &places {
            let read = settled.node.strands.read_blocking(settled.strand, *at as u64 - 1, 514)?;
            let (old, new) = (filled(*at, 1)[0], &read[1..513]);
            let kept = read[0] == old && read[513] == old && new.iter().all(|byte| *byte == 0xA5);
            anyhow::ensure!(kept, "what lies beside a write stays as it was");
        }
        Ok(per_second(time, count))
    };
    let limit = move || Ok(per_second(raw.write_raw(&raw_places, &raw_bytes)?, count));
    Ok(Box::new(Both(subject, limit)))
}

fn read_cold(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let settled = Arc::new(Settled::new(context)?);
    let size = settled.size;
    let places: Vec<_> = (0..size).step_by(MIB).collect();
    let (raw, raw_places) = (Arc::clone(&settled), places.clone());
    let subject = move || {
        drop_all_cached(&settled.node.dir().join("blocks"))?;
        Ok(megabytes_per_second(settled.read(&places, MIB)?, size))
    };
    let limit = move || {
        drop_cached(&raw.node.dir().join("raw"))?;
        Ok(megabytes_per_second(raw.read_raw(&raw_places, MIB)?, size))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn drop_all_cached(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_all_cached(&entry.path())?;
        } else {
            drop_cached(&entry.path())?;
        }
    }
    Ok(())
}

fn mixed(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let (threads, count) = (cores(), context.amount(20_000));
    let settled = Arc::new(Settled::new(context)?);
    let places: Vec<_> =
        (0..threads).map(|thread| settled.places(11 + thread as u64, count)).collect();
    let bytes = Bytes::from(vec![0xA5; PAGE]);
    let (raw, raw_places, raw_bytes) = (Arc::clone(&settled), places.clone(), bytes.clone());
    let subject = move || {
        let time = timed_threads(threads, |thread| {
            for (number, at) in places[thread].iter().enumerate() {
                let at = *at as u64;
                if number % 10 < 7 {
                    let strands = &settled.node.strands;
                    black_box(strands.read_blocking(settled.strand, at, PAGE as u32)?);
                } else {
                    node::write(&settled.node.strands, settled.strand, at, &bytes)?;
                }
            }
            Ok(())
        })?;
        settled.node.store_all()?;
        Ok(per_second(time, threads * count))
    };
    let limit = move || {
        let time = timed_threads(threads, |thread| {
            let mut to = Aligned::new(PAGE);
            for (number, at) in raw_places[thread].iter().enumerate() {
                if number % 10 < 7 {
                    raw.raw.read_exact_at(&mut to, *at as u64)?;
                } else {
                    raw.raw.write_all_at(&raw_bytes, *at as u64)?;
                }
            }
            Ok(())
        })?;
        Ok(per_second(time, threads * count))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn small_files(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let count = context.amount(10_000);
    let bytes = Bytes::from(vec![0xA5; 10 << 10]);
    let (raw_bytes, raw_context) = (bytes.clone(), context.clone());
    let context = context.clone();
    let subject = move || {
        let node = Node::open(&context, Column::Directory, Options::default())?;
        let files = Files::new(&node.strands, Durability::Written)?;
        let time = timed(|| {
            let mut last = None;
            for number in 0..count {
                last = Some(files.write(&format!("file-{number}"), &bytes, 1)?);
            }
            last.map_or(Ok(()), |last| files.sync(last))
        })?;
        Ok(per_second(time, count))
    };
    let limit = move || {
        let dir = raw_context.temp_dir()?;
        let time = timed(|| {
            for number in 0..count {
                fs::write(dir.path().join(format!("file-{number}")), &raw_bytes)?;
            }
            Ok(rustix::fs::syncfs(File::open(dir.path())?)?)
        })?;
        Ok(per_second(time, count))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// A store that takes one block at a time, and its time for it.
#[derive(Debug)]
struct Slow {
    store: Memory,
    pause: Duration,
    turn: Mutex<()>,
}

impl Slow {
    fn new() -> Self {
        Self { store: Memory::new(), pause: Duration::from_millis(40), turn: Mutex::new(()) }
    }
}

impl BlockStore for Slow {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let _one_at_a_time = self.turn.lock().expect("nobody panics while putting");
        thread::sleep(self.pause);
        self.store.put(block)
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        self.store.read(name, range)
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        self.store.footer(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        self.store.delete(name)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        self.store.list(visit)
    }

    fn objects(&self) -> &dyn Objects {
        self.store.objects()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

fn overrun(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const THREADS: usize = 4;
    const PIECE: usize = 32 << 10;
    let writes = context.amount(256 * MIB / PIECE / THREADS);
    let size = THREADS * writes * PIECE;
    let context = context.clone();
    let subject = move || {
        let mut options = Options {
            pack_after_bytes: 32 << 20,
            journal_bytes_max: 64 << 20,
            ..Options::default()
        };
        options.log.segment_bytes = 8 << 20;
        let dir = context.temp_dir()?;
        let strands = node::open_on(dir.path(), Arc::new(Slow::new()), options)?;
        let (bytes, errors) = (Bytes::from(vec![0xA5; PIECE]), AtomicU64::new(0));
        let time = timed(|| {
            timed_threads(THREADS, |_| {
                let strand = strands.mint()?;
                for number in 0..writes {
                    let at = (number * PIECE) as u64;
                    if node::write(&strands, strand, at, &bytes).is_err() {
                        errors.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            })?;
            Ok(strands.pack_now()?)
        })?;
        let errors = errors.into_inner();
        anyhow::ensure!(errors == 0, "{errors} of {} writes failed", THREADS * writes);
        Ok(megabytes_per_second(time, size))
    };
    let limit = move || {
        let store = Slow::new();
        let time = timed(|| {
            for counter in 0..size.div_ceil(BLOCK) as u64 {
                let mut builder = BlockBuilder::new();
                let piece = Piece { strand: 1, start: 0, generation: 1, len: BLOCK as u32 };
                builder.add(piece, &[&filled(0, BLOCK)])?;
                store.put(&builder.finish(BlockName { domain: 1, epoch: 1, counter }))?;
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, size))
    };
    Ok(Box::new(Both(subject, limit)))
}
