//! Blocks on their way to the store and back: in memory (`-mem`), in a directory (`-dir`), in a bucket (`-s3`,
//! in the three modes of `bucket.rs`).
//!
//! The original's "flush" started uploads and waited for none, so its figures are those of a copy in memory.
//!
//! - **TU**: a new file of 4 MiB, written and flushed. **TF**: of 2 MiB (the original counted 4). **TC**: four
//!   of 4 MiB by four threads at once. **TL16**, **TL64**: of so many MiB, in writes of 32 KiB.
//!   Parity: written when the time ends, uploads begin in the background and are not waited for. Honest: each
//!   file is waited for until the store has it: synced in the directory, answered for by the bucket. Limit of the
//!   honest ones: 4 MiB copied to new memory; the recipe of a durable file done plainly (temporary file, write,
//!   sync, rename, sync of the folder) for each 4 MiB; a put of 4 MiB by the bucket's plain client, as many at a
//!   time as the row has blocks under way. Limit of the parity ones: the copy, or `pwrite` into a recycled file.
//! - **TL16-dir-flush**, **TL64-dir-flush**: the flush that clients wait for: durable, some of it in the journal.
//! - **TS32**, **TS64**: writes of 32 KiB and 64 KiB, one after the other, to one file, with uploads beside them.
//!   Honest: until the store has all of it.
//! - **TD**: 4 MiB read through the data path, which has none of it in memory. Parity: four blocks that do not
//!   exist are asked for ahead with each, as the original did. Limit: a copy out of memory; `pread` of files;
//!   a get by the plain client.
//! - **TUB-dir**, **TDB-dir**: the same of the block store alone, each block made before the time begins.
//!
//! A data path is made anew for each measurement, except of what reads.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::thread;

use block_store::{Block, BlockBuilder, BlockName, BlockStore, Directory, Piece};
use bytes::Bytes;
use host::Host;
use strands::{Options, StrandId};

use crate::bucket::Bucket;
use crate::limits::disk::{RecycledFile, put_file};
use crate::limits::memory::Aligned;
use crate::measure::{Both, Context, Pair, megabytes_per_second, timed};
use crate::node::{self, Column, Node};
use crate::random::Random;
use crate::rows::{MEGABYTES_PER_SECOND, Row};

/// Rows in memory, in a directory and in a bucket, parity and honest of each.
macro_rules! columns {
    ($id:literal, $load:ident, $parity:literal, $honest:literal, [$mem:literal, $dir:literal, $s3:literal]) => {
        [
            parity(concat!($id, "-mem"), $parity, MEMORY_LIMIT, $mem, |context| {
                upload(context, Column::Memory, $load, Wait::Never)
            }),
            honest(concat!($id, "-mem"), $honest, MEMORY_LIMIT, |context| {
                upload(context, Column::Memory, $load, Wait::Stored)
            }),
            parity(concat!($id, "-dir"), $parity, WRITE_LIMIT, $dir, |context| {
                upload(context, Column::Directory, $load, Wait::Never)
            }),
            honest(concat!($id, "-dir"), $honest, FILE_LIMIT, |context| {
                upload(context, Column::Directory, $load, Wait::Stored)
            }),
            parity(concat!($id, "-s3"), $parity, WRITE_LIMIT, $s3, |context| {
                upload(context, Column::S3, $load, Wait::Never)
            }),
            honest(concat!($id, "-s3"), $honest, BUCKET_LIMIT, |context| {
                upload(context, Column::S3, $load, Wait::Stored)
            }),
        ]
    };
}

/// A file of 4 MiB, written and flushed.
pub(crate) const UPLOAD_ROWS: [Row; 6] = columns!(
    "TU",
    ONE_BLOCK,
    "write a file of 4 MiB, its upload not waited for",
    "write a file of 4 MiB, until the store has it",
    ["3,962", "1,164", "~64"]
);

/// A file of half a block.
pub(crate) const PARTIAL_ROWS: [Row; 6] = columns!(
    "TF",
    PARTIAL,
    "write a file of 2 MiB, its upload not waited for, 4 MiB counted",
    "write a file of 2 MiB, until the store has it",
    ["11,675", "3,059", "~100"]
);

/// Four files at once.
pub(crate) const CONCURRENT_ROWS: [Row; 6] = columns!(
    "TC",
    FOUR_FILES,
    "4 threads write a file of 4 MiB each, uploads not waited for",
    "4 threads write a file of 4 MiB each, until the store has it",
    ["2,940", "796", "~150"]
);

/// A file of four blocks, in small writes.
pub(crate) const LARGE_16_ROWS: [Row; 6] = columns!(
    "TL16",
    LARGE_16,
    "write a file of 16 MiB by 32 KiB, uploads not waited for",
    "write a file of 16 MiB by 32 KiB, until the store has it",
    ["1,865", "1,221", "~100"]
);

/// A file of sixteen blocks, in small writes.
pub(crate) const LARGE_64_ROWS: [Row; 6] = columns!(
    "TL64",
    LARGE_64,
    "write a file of 64 MiB by 32 KiB, uploads not waited for",
    "write a file of 64 MiB by 32 KiB, until the store has it",
    ["1,736", "808", ""]
);

/// One long file.
pub(crate) const SEQUENTIAL_32_ROWS: [Row; 6] = columns!(
    "TS32",
    SEQUENTIAL_32,
    "writes of 32 KiB to one file, uploads beside them",
    "writes of 32 KiB to one file, until the store has all",
    ["2,348", "3,676", ""]
);

/// The same in larger writes.
pub(crate) const SEQUENTIAL_64_ROWS: [Row; 6] = columns!(
    "TS64",
    SEQUENTIAL_64,
    "writes of 64 KiB to one file, uploads beside them",
    "writes of 64 KiB to one file, until the store has all",
    ["7,384", "", ""]
);

/// Reads, the store alone, and flushes.
pub(crate) const ROWS: [Row; 10] = [
    parity("TD-mem", READ_AHEAD, COPY_OUT, "7,185", |context| {
        download(context, Column::Memory, true)
    }),
    honest("TD-mem", READ, COPY_OUT, |context| download(context, Column::Memory, false)),
    parity("TD-dir", READ_AHEAD, PREAD, "2,743", |context| {
        download(context, Column::Directory, true)
    }),
    honest("TD-dir", READ, PREAD, |context| download(context, Column::Directory, false)),
    parity("TD-s3", READ_AHEAD, GET, "~200", |context| download(context, Column::S3, true)),
    honest("TD-s3", READ, GET, |context| download(context, Column::S3, false)),
    honest("TL16-dir-flush", "write 16 MiB by 32 KiB, until durable", FILE_LIMIT, |context| {
        upload(context, Column::Directory, LARGE_16, Wait::Durable)
    }),
    honest("TL64-dir-flush", "write 64 MiB by 32 KiB, until durable", FILE_LIMIT, |context| {
        upload(context, Column::Directory, LARGE_64, Wait::Durable)
    }),
    honest("TUB-dir", PUT_BLOCK, FILE_LIMIT, put_blocks),
    honest("TDB-dir", READ_BLOCK, PREAD, read_blocks),
];

const READ: &str = "read 4 MiB that are not in memory, through the data path";
const READ_AHEAD: &str = "the same, 4 blocks that do not exist asked for ahead";
const PUT_BLOCK: &str = "put a block of 4 MiB into the block store";
const READ_BLOCK: &str = "read a block of 4 MiB from the block store";
const MEMORY_LIMIT: &str = "the same copied to new memory";
const WRITE_LIMIT: &str = "pwrite of the same pieces into a recycled file";
const FILE_LIMIT: &str = "for each 4 MiB a file: written, synced, renamed, its folder synced";
const BUCKET_LIMIT: &str = "puts of as many bytes by a plain client";
const COPY_OUT: &str = "as many bytes copied to new memory";
const PREAD: &str = "pread of 4 MiB files";
const GET: &str = "get of the same objects by a plain client";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn honest(
    id: &'static str,
    what: &'static str,
    limit: &'static str,
    prepare: Prepare,
) -> Row {
    Row::honest(id, MEGABYTES_PER_SECOND, what, limit, prepare)
}

const fn parity(
    id: &'static str,
    what: &'static str,
    limit: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MEGABYTES_PER_SECOND, what, limit, prepare).original(original)
}

const MIB: usize = 1 << 20;
const BLOCK: usize = 4 * MIB;

/// What is written.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Bytes of a file.
    file: usize,
    /// Bytes of a write.
    piece: usize,
    /// Each writes files of its own.
    threads: usize,
    /// How many files each thread writes in a measurement, in memory and in a directory. To a bucket, an eighth.
    files: usize,
    /// Bytes that the original counted for a file.
    counted: usize,
}

const ONE_BLOCK: Load = Load { file: BLOCK, piece: BLOCK, threads: 1, files: 64, counted: BLOCK };
const PARTIAL: Load = Load { file: 2 * MIB, piece: 2 * MIB, ..ONE_BLOCK };
const FOUR_FILES: Load = Load { threads: 4, files: 16, ..ONE_BLOCK };
const LARGE_16: Load =
    Load { file: 16 * MIB, piece: 32 << 10, threads: 1, files: 16, counted: 16 * MIB };
const LARGE_64: Load = Load { file: 64 * MIB, files: 8, counted: 64 * MIB, ..LARGE_16 };
const SEQUENTIAL_32: Load = Load { file: 256 * MIB, files: 1, counted: 256 * MIB, ..LARGE_16 };
const SEQUENTIAL_64: Load = Load { piece: 64 << 10, ..SEQUENTIAL_32 };

/// How long each file is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Not at all; uploads go on in the background.
    Never,
    /// Until it survives a power cut.
    Durable,
    /// Until the store has it.
    Stored,
}

impl Load {
    /// The part of it that this run does in a measurement.
    fn share(self, context: &Context, column: Column) -> Self {
        let eighth = if column == Column::S3 { 8 } else { 1 };
        if self.files == 1 {
            let pieces = context.amount(self.file / self.piece) / eighth;
            let file = pieces.max(1) * self.piece;
            return Self { file, counted: file, ..self };
        }
        Self { files: (context.amount(self.files) / eighth).max(1), ..self }
    }

    fn bytes(self, wait: Wait) -> usize {
        let of_file = if wait == Wait::Never { self.counted } else { self.file };
        self.threads * self.files * of_file
    }

    /// Sizes of the blocks that a file becomes.
    fn blocks(self) -> impl Iterator<Item = usize> {
        (0..self.file).step_by(BLOCK).map(move |at| (self.file - at).min(BLOCK))
    }
}

fn upload(
    context: &Context,
    column: Column,
    load: Load,
    wait: Wait,
) -> anyhow::Result<Box<dyn Pair>> {
    let load = load.share(context, column);
    let limit = upload_limit(context, column, load, wait)?;
    let piece = noise(load.piece);
    let context = context.clone();
    let subject = move || {
        let node = Node::open(&context, column, options(wait))?;
        let time = timed(|| {
            in_threads(load.threads, || {
                (0..load.files).try_for_each(|_| write_file(&node, load, wait, &piece))
            })
        })?;
        Ok(megabytes_per_second(time, load.bytes(wait)))
    };
    Ok(Box::new(Both(subject, limit)))
}

/// Where nothing is waited for, packing begins early, as the original's uploads did.
fn options(wait: Wait) -> Options {
    let mut options = Options::default();
    if wait == Wait::Never {
        options.log.segment_bytes = 16 << 20;
        options.pack_after_bytes = 32 << 20;
    }
    options
}

fn write_file(node: &Node, load: Load, wait: Wait, piece: &Bytes) -> anyhow::Result<()> {
    let strands = &node.strands;
    let strand = strands.mint()?;
    let mut end = strands.positions().appended;
    for at in (0..load.file).step_by(load.piece) {
        let write = if wait == Wait::Never { node::write } else { node::write_to_stay };
        end = write(strands, strand, at as u64, piece)?;
    }
    if wait != Wait::Never {
        strands.ticket(end).wait_durable()?;
    }
    if wait == Wait::Stored { node.store_all() } else { Ok(()) }
}

type Figure = Box<dyn FnMut() -> anyhow::Result<f64>>;

fn upload_limit(
    context: &Context,
    column: Column,
    load: Load,
    wait: Wait,
) -> anyhow::Result<Figure> {
    match (column, wait) {
        (Column::Memory, _) => Ok(copy_to_new(load, wait)),
        (Column::Directory | Column::S3, Wait::Never) => write_plainly(context, load),
        (Column::Directory, Wait::Durable | Wait::Stored) => put_files(context, load),
        (Column::S3, Wait::Durable | Wait::Stored) => put_objects(load),
    }
}

fn copy_to_new(load: Load, wait: Wait) -> Figure {
    let from = noise(load.piece);
    Box::new(move || {
        let time = timed(|| {
            in_threads(load.threads, || {
                let mut files = Vec::new();
                for _ in 0..load.files {
                    let mut file: Vec<u8> = Vec::with_capacity(load.file);
                    for _ in 0..load.file / load.piece {
                        file.extend_from_slice(black_box(&from));
                    }
                    files.push(file);
                }
                black_box(&files);
                Ok(())
            })
        })?;
        Ok(megabytes_per_second(time, load.bytes(wait)))
    })
}

fn write_plainly(context: &Context, load: Load) -> anyhow::Result<Figure> {
    let dir = context.temp_dir()?;
    let bytes = load.threads * load.files * load.file;
    let mut raw = RecycledFile::create(&dir.path().join("raw"), bytes)?;
    let piece = noise(load.piece);
    Ok(Box::new(move || {
        let time = raw.write_unsynced(&piece, bytes / load.piece)?;
        let _keep = &dir;
        Ok(megabytes_per_second(time, load.bytes(Wait::Never)))
    }))
}

fn put_files(context: &Context, load: Load) -> anyhow::Result<Figure> {
    let dir = context.temp_dir()?;
    let block = noise(BLOCK);
    Ok(Box::new(move || {
        let place = dir.path().join("blocks");
        fs::create_dir(&place)?;
        let time = timed(|| {
            in_threads(load.threads, || {
                let thread = thread::current().id();
                for file in 0..load.files {
                    for (number, size) in load.blocks().enumerate() {
                        let name = format!("{thread:?}-{file}-{number}");
                        put_file(&place, &name, &block[..size])?;
                    }
                }
                Ok(())
            })
        })?;
        fs::remove_dir_all(&place)?;
        Ok(megabytes_per_second(time, load.bytes(Wait::Stored)))
    }))
}

fn put_objects(load: Load) -> anyhow::Result<Figure> {
    let bucket = Bucket::open()?;
    let sizes: Vec<usize> = load.blocks().collect();
    let block = noise(sizes.first().copied().unwrap_or(BLOCK));
    let at_once = (load.threads * sizes.len()).min(AT_ONCE);
    Ok(Box::new(move || {
        let time = timed(|| {
            for file in 0..load.files {
                let names = 0..load.threads * sizes.len();
                let names: Vec<_> = names.map(|number| format!("{file}/{number}")).collect();
                bucket.put_all(&names, &block, at_once)?;
            }
            Ok(())
        })?;
        bucket.clear("")?;
        Ok(megabytes_per_second(time, load.bytes(Wait::Stored)))
    }))
}

/// Uploads that the product has under way at most, by default.
const AT_ONCE: usize = 12;

/// Files of 4 MiB that are read in one measurement.
const READS: usize = 64;

fn download(context: &Context, column: Column, ask_ahead: bool) -> anyhow::Result<Box<dyn Pair>> {
    let share = if column == Column::S3 { READS / 8 } else { READS };
    let count = context.amount(share).max(2);
    // Half of what is read in turn: nothing of it is still there when it is read again.
    let options = Options { cache_bytes: (count * BLOCK / 2) as u64, ..Options::default() };
    let node = Node::open(context, column, options)?;
    let files: Vec<StrandId> = (0..count).map(|_| upload_one(&node)).collect::<Result<_, _>>()?;
    node.upload_all()?;
    let subject = move || {
        let before = node.downloads();
        let time = timed(|| {
            for (number, file) in files.iter().enumerate() {
                if ask_ahead {
                    node.blocks.hint(&strangers(number as u64));
                }
                let bytes = node.strands.read_blocking(*file, 0, BLOCK as u32)?;
                anyhow::ensure!(black_box(bytes).len() == BLOCK, "all of it is read");
            }
            Ok(())
        })?;
        if let (Some(before), Some(after)) = (before, node.downloads()) {
            anyhow::ensure!(after - before >= count as u64, "blocks came from the bucket");
        }
        Ok(megabytes_per_second(time, count * BLOCK))
    };
    Ok(Box::new(Both(subject, download_limit(context, column, count)?)))
}

fn upload_one(node: &Node) -> anyhow::Result<StrandId> {
    let strand = node.strands.mint()?;
    let end = node::write_to_stay(&node.strands, strand, 0, &noise(BLOCK))?;
    node.strands.ticket(end).wait_durable()?;
    Ok(strand)
}

/// Names of four blocks that never were.
fn strangers(number: u64) -> [BlockName; 4] {
    let name = |next| BlockName { domain: u32::MAX, epoch: u64::MAX, counter: 4 * number + next };
    [name(0), name(1), name(2), name(3)]
}

fn download_limit(context: &Context, column: Column, count: usize) -> anyhow::Result<Figure> {
    match column {
        Column::Memory => Ok(copy_out(count)),
        Column::Directory => read_files(context, count),
        Column::S3 => {
            let bucket = Bucket::open()?;
            let names: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            bucket.put_all(&names, &noise(BLOCK), AT_ONCE)?;
            Ok(Box::new(move || {
                let time = timed(|| bucket.get_all(&names))?;
                Ok(megabytes_per_second(time, count * BLOCK))
            }))
        }
    }
}

fn copy_out(count: usize) -> Figure {
    let from: Vec<_> = (0..count).map(|_| Aligned::new(BLOCK)).collect();
    Box::new(move || {
        let time = timed(|| {
            for file in &from {
                black_box(file.to_vec());
            }
            Ok(())
        })?;
        Ok(megabytes_per_second(time, count * BLOCK))
    })
}

fn read_files(context: &Context, count: usize) -> anyhow::Result<Figure> {
    let dir = context.temp_dir()?;
    let mut files = Vec::new();
    for number in 0..count {
        let name = number.to_string();
        put_file(dir.path(), &name, &noise(BLOCK))?;
        files.push(File::open(dir.path().join(name))?);
    }
    let mut to = Aligned::new(BLOCK);
    Ok(Box::new(move || {
        let time = timed(|| {
            for file in &files {
                file.read_exact_at(&mut to, 0)?;
                black_box(&mut to);
            }
            Ok(())
        })?;
        let _keep = &dir;
        Ok(megabytes_per_second(time, count * BLOCK))
    }))
}

fn put_blocks(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let load = ONE_BLOCK.share(context, Column::Directory);
    let limit = upload_limit(context, Column::Directory, load, Wait::Stored)?;
    let blocks: Vec<Block> =
        (0..load.files).map(|number| block(number as u64)).collect::<Result<_, _>>()?;
    let context = context.clone();
    let subject = move || {
        let dir = context.temp_dir()?;
        let store = Directory::open(&Host::real(), &dir.path().join("blocks"))?;
        let time = timed(|| Ok(blocks.iter().try_for_each(|block| store.put(block))?))?;
        Ok(megabytes_per_second(time, blocks.len() * BLOCK))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn read_blocks(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let count = context.amount(READS);
    let limit = download_limit(context, Column::Directory, count)?;
    let dir = context.temp_dir()?;
    let store = Directory::open(&Host::real(), &dir.path().join("blocks"))?;
    let mut names = Vec::new();
    for number in 0..count as u64 {
        let block = block(number)?;
        store.put(&block)?;
        names.push(block.name());
    }
    let subject = move || {
        let time = timed(|| {
            for name in &names {
                black_box(store.read(*name, 0..BLOCK as u32)?);
            }
            Ok(())
        })?;
        let _keep = &dir;
        Ok(megabytes_per_second(time, count * BLOCK))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn block(number: u64) -> anyhow::Result<Block> {
    let mut builder = BlockBuilder::new();
    let piece = Piece { strand: number + 1, start: 0, generation: 1, len: BLOCK as u32 };
    builder.add(piece, &[&noise(BLOCK)])?;
    Ok(builder.finish(BlockName { domain: 1, epoch: 1, counter: number }))
}

/// Does `work` on so many threads; one of them does it on this one.
fn in_threads(threads: usize, work: impl Fn() -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    if threads == 1 {
        return work();
    }
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?
        })
    })
}

/// Bytes that nothing can make smaller.
fn noise(len: usize) -> Bytes {
    let mut random = Random::new(len as u64);
    let words = (0..len.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes());
    words.take(len).collect::<Vec<_>>().into()
}
