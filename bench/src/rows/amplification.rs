//! How many bytes are written to the disk for each byte of payload: journal, blocks, meta store and all else, until
//! everything lies in blocks.
//!
//! Counted by the system for this process (`write_bytes` of `/proc/self/io`: memory of the page cache that
//! became dirty, some of it larger than what was written, so that less reaches the disk).
//!
//! - **WAMP-seq**: a file of 1 GiB on a volume, 1 MiB at a time, synced at its end. **WAMP-seq-synced**: on a
//!   volume that answers when a write is durable. **WAMP-seq-256M**: a file that the journal takes whole.
//! - **WAMP-records**: 16 KiB at the end of eight strands in turn, every 64th waited for: what a topic's
//!   batches come to.
//! - **WAMP-random4k**: 4 KiB at random places of a strand of 512 MiB in blocks, every 32nd waited for. Beside it,
//!   what it comes to with a round of collection as it runs in the background.
//! - **WAMP-random4k-long**: the same on a strand of 64 MiB, four times as much in all, with such a round after each
//!   16 MiB. Beside it, how many times the bytes that live are stored in the end.
//! - **WAMP-small**: files of 10 KiB on a volume, every 32nd synced.
//!
//! Limit: the same written to plain files, synced as often.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use strands::{CollectOptions, Options, StrandId};
use volume::Durability;

use crate::files::Files;
use crate::limits::disk::{RecycledFile, drop_cached};
use crate::measure::{Both, Context, Pair};
use crate::node::{self, Column, Node};
use crate::random::Random;
use crate::rows::{Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 7] = [
    row("WAMP-seq", "a file of 1 GiB, 1 MiB at a time, synced at its end", |context| {
        sequential(context, context.amount(1024), Durability::Written)
    }),
    row("WAMP-seq-synced", "the same, each write answered when durable", |context| {
        sequential(context, context.amount(1024), Durability::Synced)
    }),
    row("WAMP-seq-256M", "a file of 192 MiB, 1 MiB at a time, synced at its end", |context| {
        sequential(context, context.amount(192), Durability::Written)
    }),
    row("WAMP-records", "16 KiB at the end of 8 strands in turn", records),
    row("WAMP-random4k", "4 KiB at random places of 512 MiB", random),
    row("WAMP-random4k-long", "64 MiB overwritten four times, collected meanwhile", long),
    row("WAMP-small", "files of 10 KiB on a volume", small),
];

const WRITTEN: Unit = Unit { name: "B/B" };

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn row(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, WRITTEN, what, "the same to plain files, synced as often", prepare).pairs(3)
}

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// Bytes that this process has made the system write so far.
fn written() -> anyhow::Result<u64> {
    let io = fs::read_to_string("/proc/self/io").context("read /proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("the system counts written bytes")?.trim().parse()?)
}

/// What `work` makes the system write, for each byte of so much payload.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes are far below 2^52")]
fn amplification(payload: usize, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let before = written()?;
    work()?;
    Ok((written()? - before) as f64 / payload as f64)
}

fn sequential(
    context: &Context,
    mibs: usize,
    durability: Durability,
) -> anyhow::Result<Box<dyn Pair>> {
    let piece = Bytes::from(vec![0x5A; MIB]);
    let (raw_context, raw_piece, context) = (context.clone(), piece.clone(), context.clone());
    let subject = move || {
        let node = Node::open(&context, Column::Directory, Options::default())?;
        let files = Files::new(&node.strands, durability)?;
        amplification(mibs * MIB, || {
            let file = files.write("file", &piece, mibs)?;
            files.sync(file)?;
            node.store_all()
        })
    };
    let limit = move || {
        let dir = raw_context.temp_dir()?;
        amplification(mibs * MIB, || {
            let file = File::create(dir.path().join("file"))?;
            for number in 0..mibs {
                file.write_all_at(&raw_piece, (number * MIB) as u64)?;
            }
            Ok(file.sync_all()?)
        })
    };
    Ok(Box::new(Both(subject, limit)))
}

const STRANDS: usize = 8;

fn records(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const BATCH: usize = 16 << 10;
    const SYNC_EVERY: usize = 64;
    let count = context.amount(128 * MIB / BATCH);
    let bytes = Bytes::from(vec![0x5A; BATCH]);
    let (raw_context, raw_bytes, context) = (context.clone(), bytes.clone(), context.clone());
    let subject = move || {
        let node = Node::open(&context, Column::Directory, Options::default())?;
        let strands = &node.strands;
        let topics: Vec<_> = (0..STRANDS).map(|_| strands.mint()).collect::<Result<_, _>>()?;
        amplification(count * BATCH, || {
            for number in 0..count {
                let at = (number / STRANDS * BATCH) as u64;
                let end = node::write(strands, topics[number % STRANDS], at, &bytes)?;
                if number % SYNC_EVERY == 0 {
                    strands.ticket(end).wait_durable()?;
                }
            }
            node.store_all()
        })
    };
    let limit = move || {
        let dir = raw_context.temp_dir()?;
        let open = |number: usize| File::create(dir.path().join(number.to_string()));
        let topics: Vec<_> = (0..STRANDS).map(open).collect::<Result<_, _>>()?;
        amplification(count * BATCH, || {
            for number in 0..count {
                let at = (number / STRANDS * BATCH) as u64;
                topics[number % STRANDS].write_all_at(&raw_bytes, at)?;
                if number % SYNC_EVERY == 0 || number + STRANDS >= count {
                    topics[number % STRANDS].sync_data()?;
                }
            }
            Ok(())
        })
    };
    Ok(Box::new(Both(subject, limit)))
}

/// 4 KiB at random places.
struct Scattered {
    context: Context,
    size: usize,
    places: Vec<usize>,
    bytes: Bytes,
    /// Writes between two rounds of collection; `None`: one when all is measured.
    collect_every: Option<usize>,
    also: (&'static str, f64),
}

fn random(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let size = context.amount(128).max(4) * 4 * MIB;
    Ok(Box::new(Scattered::new(context, size, context.amount(16_384), None)))
}

fn long(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let size = context.amount(16).max(4) * 4 * MIB;
    Ok(Box::new(Scattered::new(context, size, 4 * size / PAGE, Some(size / PAGE / 4))))
}

impl Scattered {
    const SYNC_EVERY: usize = 32;

    fn new(context: &Context, size: usize, writes: usize, collect_every: Option<usize>) -> Self {
        let pages = Random::new(7).below_each(size / PAGE, writes);
        Self {
            context: context.clone(),
            size,
            places: pages.into_iter().map(|page| page * PAGE).collect(),
            bytes: Bytes::from(vec![0xA5; PAGE]),
            collect_every,
            also: ("", 0.0),
        }
    }

    fn payload(&self) -> usize {
        self.places.len() * PAGE
    }

    fn overwrite(&self, node: &Node, strand: StrandId) -> anyhow::Result<()> {
        for (number, at) in self.places.iter().enumerate() {
            let end = node::write(&node.strands, strand, *at as u64, &self.bytes)?;
            if number % Self::SYNC_EVERY == 0 {
                node.strands.ticket(end).wait_durable()?;
            }
            if self.collect_every.is_some_and(|every| (number + 1).is_multiple_of(every)) {
                node.store_all()?;
                collect(node)?;
            }
        }
        node.store_all()
    }
}

/// A round as in the background, on blocks of any age.
fn collect(node: &Node) -> anyhow::Result<()> {
    let options = CollectOptions { grace: Duration::ZERO, ..CollectOptions::default() };
    let collected = node.strands.collect(options)?;
    anyhow::ensure!(collected.errors == 0, "{:?}", collected.first_error);
    Ok(())
}

impl Pair for Scattered {
    #[expect(clippy::cast_precision_loss, reason = "counts of bytes are far below 2^52")]
    fn subject(&mut self) -> anyhow::Result<f64> {
        let options = Options { collect_every: None, ..Options::default() };
        let node = Node::open(&self.context, Column::Directory, options)?;
        let (strands, strand) = (&node.strands, node.strands.mint()?);
        let block = Bytes::from(vec![0x5A; 4 * MIB]);
        for at in (0..self.size).step_by(block.len()) {
            node::write_to_stay(strands, strand, at as u64, &block)?;
        }
        strands.ticket(strands.positions().appended).wait_durable()?;
        let written = amplification(self.payload(), || self.overwrite(&node, strand))?;
        self.also = match self.collect_every {
            Some(_) => ("stored/needed", node.blocks.usage().bytes as f64 / self.size as f64),
            None => {
                let collected = amplification(self.payload(), || collect(&node))?;
                ("with-collection/(B/B)", written + collected)
            }
        };
        Ok(written)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let dir = self.context.temp_dir()?;
        let path = dir.path().join("raw");
        drop(RecycledFile::create(&path, self.size)?);
        // What it left in the page cache are large pieces, each of which counts whole.
        drop_cached(&path)?;
        let file = File::options().write(true).open(path)?;
        amplification(self.payload(), || {
            for (number, at) in self.places.iter().enumerate() {
                file.write_all_at(&self.bytes, *at as u64)?;
                if number % Self::SYNC_EVERY == 0 {
                    file.sync_data()?;
                }
            }
            Ok(file.sync_data()?)
        })
    }

    fn also(&mut self) -> Vec<(&'static str, f64)> {
        vec![self.also]
    }
}

fn small(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const FILE: usize = 10 << 10;
    const SYNC_EVERY: usize = 32;
    let count = context.amount(10_000);
    let bytes = Bytes::from(vec![0x5A; FILE]);
    let (raw_context, raw_bytes, context) = (context.clone(), bytes.clone(), context.clone());
    let subject = move || {
        let node = Node::open(&context, Column::Directory, Options::default())?;
        let files = Files::new(&node.strands, Durability::Written)?;
        amplification(count * FILE, || {
            for number in 0..count {
                let file = files.write(&format!("file-{number}"), &bytes, 1)?;
                if number % SYNC_EVERY == 0 || number + 1 == count {
                    files.sync(file)?;
                }
            }
            node.store_all()?;
            Ok(node.strands.close()?)
        })
    };
    let limit = move || {
        let dir = raw_context.temp_dir()?;
        amplification(count * FILE, || {
            for number in 0..count {
                fs::write(dir.path().join(format!("file-{number}")), &raw_bytes)?;
                if number % SYNC_EVERY == 0 || number + 1 == count {
                    rustix::fs::syncfs(File::open(dir.path())?)?;
                }
            }
            Ok(())
        })
    };
    Ok(Box::new(Both(subject, limit)))
}
