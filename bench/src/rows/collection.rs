//! Collection: which blocks does nobody need, and their deletion.
//!
//! The original asked a list in memory about each block; here a round reads every extent, makes durable what it
//! has seen, and lists the store.
//!
//! - **G10**, **G100**, **G1000**, **G100k**: a round over so many blocks of 1 KiB in memory, of which nobody
//!   needs half. Parity: only looking. Honest: deleting them; they are put again before each time. A round that
//!   deletes also writes to the ledger, and one in some hundred finds what that has written before. Limit: a set
//!   of the live names built, each name of a sorted map looked up in it, the dead ones removed.
//! - **GX**: the same as G1000, by file. **GM**: as G100k only looking, by block; limit: as much of 10,000 blocks,
//!   so that a ratio of 1 says that the work grows as the blocks do.
//! - **GS3**: as G1000 in a bucket, in the three modes of `bucket.rs`. Limit: listing and deleting as many objects
//!   by a plain client.
//! - **GP**: parsing the name of a block. Limit: parsing three numbers of its length.

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::time::Duration;

use anyhow::Context as _;
use block_store::BlockName;
use bytes::Bytes;
use strands::{CollectOptions, Commit, Options};

use crate::bucket::Bucket;
use crate::measure::{Both, Context, Pair, micros, nanos_each, timed};
use crate::node::{Column, Node};
use crate::rows::{MICROS, Row, Unit};

/// The rows of this file.
pub(crate) const ROWS: [Row; 14] = [
    round("G10", "10 blocks, half of them dead", collect::<10, true>),
    look("G10", "10 blocks, half of them dead", "~15 us", collect::<10, false>),
    round("G100", "100 blocks, half of them dead", collect::<100, true>),
    look("G100", "100 blocks, half of them dead", "~120 us", collect::<100, false>),
    round("G1000", "1,000 blocks, half of them dead", collect::<1000, true>),
    look("G1000", "1,000 blocks, half of them dead", "~1,200 us", collect::<1000, false>),
    round("G100k", "100,000 blocks, half of them dead", collect::<100_000, true>).pairs(3),
    look("G100k", "100,000 blocks, half of them dead", "", collect::<100_000, false>).pairs(3),
    Row::parity(
        "GP",
        NANOS_PER_NAME,
        "parse the name of a block",
        "three hexadecimal numbers of its length parsed",
        parse,
    )
    .original("34.6 ns"),
    Row::honest("GX", NANOS_PER_FILE, "a round over 1,000 blocks, by block", MAP, by_block::<true>),
    Row::parity("GX", NANOS_PER_FILE, "a look at 1,000 blocks, by block", MAP, by_block::<false>)
        .original("~1,200 ns"),
    Row::honest(
        "GM",
        NANOS_PER_FILE,
        "a look at 100,000 blocks, by block",
        "the same of 10,000 blocks",
        linear,
    )
    .pairs(3),
    Row::honest("GS3", MICROS, "a round over 1,000 blocks in a bucket", REQUESTS, |context| {
        bucket(context, true)
    })
    .original("2-5 s (a guess)")
    .pairs(3),
    Row::parity("GS3", MICROS, "a look at 1,000 blocks in a bucket", REQUESTS, |context| {
        bucket(context, false)
    })
    .original("2-5 s (a guess)")
    .pairs(3),
];

const NANOS_PER_NAME: Unit = Unit { name: "ns/name" };
const NANOS_PER_FILE: Unit = Unit { name: "ns/file" };
const MAP: &str = "names in a map looked up in a set, the dead removed";
const REQUESTS: &str = "listing, and deleting as many objects, by a plain client";

type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

const fn round(id: &'static str, what: &'static str, prepare: Prepare) -> Row {
    Row::honest(id, MICROS, what, MAP, prepare)
}

const fn look(
    id: &'static str,
    what: &'static str,
    original: &'static str,
    prepare: Prepare,
) -> Row {
    Row::parity(id, MICROS, what, MAP, prepare).original(original)
}

const FILE: usize = 1024;

/// Blocks of which every second is needed.
struct Store {
    node: Node,
    blocks: usize,
    bytes: Bytes,
}

impl Store {
    fn fill(context: &Context, column: Column, blocks: usize) -> anyhow::Result<Self> {
        let options = Options { collect_every: None, ..Options::default() };
        let node = Node::open(context, column, options)?;
        let store = Self { node, blocks, bytes: Bytes::from(vec![0x5A; FILE]) };
        let strands = &store.node.strands;
        for _ in 0..blocks / 2 {
            let strand = strands.mint()?;
            let staged = strands.stage_blocking(strand, 0, store.bytes.clone())?;
            anyhow::ensure!(staged.is_in_blocks(), "the store takes blocks");
            strands.admit_blocking(FILE)?;
            let mut commit = Commit::new();
            commit.place(strand, 0, staged);
            let _written = strands.commit(commit)?;
        }
        strands.ticket(strands.positions().appended).wait_durable()?;
        store.add_dead()?;
        Ok(store)
    }

    /// Puts the blocks that nobody needs.
    fn add_dead(&self) -> anyhow::Result<()> {
        let strand = self.node.strands.mint()?;
        for _ in 0..self.blocks - self.blocks / 2 {
            drop(self.node.strands.stage_blocking(strand, 0, self.bytes.clone())?);
        }
        self.node.upload_all()
    }

    /// Runs a round, and puts again what it deleted.
    fn collect(&self, delete: bool) -> anyhow::Result<Duration> {
        let options =
            CollectOptions { dry_run: !delete, grace: Duration::ZERO, ..CollectOptions::default() };
        let mut collected = None;
        let time = timed(|| {
            collected = Some(self.node.strands.collect(options)?);
            Ok(())
        })?;
        let collected = collected.context("a round has an outcome")?;
        let dead = (self.blocks - self.blocks / 2) as u64;
        let (found, deleted) = (collected.dead_blocks, collected.deleted_blocks);
        // A round that deletes leaves a root behind it, and from time to time what older roots needed is dead too.
        let is_right = if delete { found >= dead && deleted == found } else { found == dead };
        anyhow::ensure!(is_right, "a round finds the {dead} dead blocks: {collected:?}");
        if delete {
            self.add_dead()?;
        }
        Ok(time)
    }

    /// The mean of several rounds.
    fn collect_often(&self, rounds: usize, delete: bool) -> anyhow::Result<Duration> {
        let times = (0..rounds).map(|_| self.collect(delete)).sum::<anyhow::Result<Duration>>()?;
        Ok(times / u32::try_from(rounds)?)
    }
}

/// Rounds of one measurement: more of those that are soon over.
fn rounds(context: &Context, blocks: usize) -> usize {
    context.amount((20_000 / blocks).clamp(1, 400))
}

fn collect<const BLOCKS: usize, const DELETE: bool>(
    context: &Context,
) -> anyhow::Result<Box<dyn Pair>> {
    let rounds = rounds(context, BLOCKS);
    let store = Store::fill(context, Column::Memory, BLOCKS)?;
    let subject = move || Ok(micros(store.collect_often(rounds, DELETE)?));
    let names = names(BLOCKS);
    let limit = move || Ok(micros(sweep_map(&names, rounds, DELETE)?));
    Ok(Box::new(Both(subject, limit)))
}

fn by_block<const DELETE: bool>(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const BLOCKS: usize = 1000;
    let rounds = rounds(context, BLOCKS);
    let store = Store::fill(context, Column::Memory, BLOCKS)?;
    let subject = move || Ok(nanos_each(store.collect_often(rounds, DELETE)?, BLOCKS));
    let names = names(BLOCKS);
    let limit = move || Ok(nanos_each(sweep_map(&names, rounds, DELETE)?, BLOCKS));
    Ok(Box::new(Both(subject, limit)))
}

fn linear(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    const MANY: usize = 100_000;
    const FEW: usize = 10_000;
    let (many, few) =
        (Store::fill(context, Column::Memory, MANY)?, Store::fill(context, Column::Memory, FEW)?);
    let rounds = context.amount(10);
    Ok(Box::new(Both(
        move || Ok(nanos_each(many.collect_often(rounds, false)?, MANY)),
        move || Ok(nanos_each(few.collect_often(10 * rounds, false)?, FEW)),
    )))
}

fn names(count: usize) -> Vec<BlockName> {
    let name = |counter| BlockName { domain: 1, epoch: 1, counter };
    (0..count as u64).map(name).collect()
}

/// What a round comes to when everything is at hand.
fn sweep_map(names: &[BlockName], rounds: usize, delete: bool) -> anyhow::Result<Duration> {
    let mut times = Duration::ZERO;
    for _ in 0..rounds {
        let mut store: BTreeMap<BlockName, u64> = names.iter().map(|name| (*name, 1)).collect();
        times += timed(|| {
            let live: HashSet<BlockName> = names.iter().step_by(2).copied().collect();
            let dead: Vec<_> = store.keys().copied().filter(|name| !live.contains(name)).collect();
            if delete {
                for name in &dead {
                    store.remove(name);
                }
            }
            black_box((&dead, &store));
            Ok(())
        })?;
    }
    Ok(times / u32::try_from(rounds)?)
}

fn parse(context: &Context) -> anyhow::Result<Box<dyn Pair>> {
    let count = context.amount(2_000_000);
    let name = BlockName { domain: 1, epoch: 0x12_3456, counter: 0xABC_DEF0 }.to_string();
    let text = name.clone();
    let subject = move || {
        let time = timed(|| {
            for _ in 0..count {
                black_box(black_box(text.as_str()).parse::<BlockName>()?);
            }
            Ok(())
        })?;
        Ok(nanos_each(time, count))
    };
    let limit = move || {
        let time = timed(|| {
            for _ in 0..count {
                let name = black_box(name.as_str());
                for part in [&name[..8], &name[9..25], &name[26..]] {
                    black_box(u64::from_str_radix(part, 16)?);
                }
            }
            Ok(())
        })?;
        Ok(nanos_each(time, count))
    };
    Ok(Box::new(Both(subject, limit)))
}

fn bucket(context: &Context, delete: bool) -> anyhow::Result<Box<dyn Pair>> {
    let blocks = context.amount(1000).max(2);
    let store = Store::fill(context, Column::S3, blocks)?;
    let subject = move || Ok(micros(store.collect(delete)?));
    let bucket = Bucket::open()?;
    let (bytes, at_once) = (Bytes::from(vec![0x5A; FILE]), 12);
    let names: Vec<_> = (0..blocks).map(|number| format!("{number:08}")).collect();
    bucket.put_all(&names, &bytes, at_once)?;
    let limit = move || {
        let time = timed(|| {
            let mut listed = bucket.list("")?;
            anyhow::ensure!(listed.len() == blocks, "all objects are listed");
            if delete {
                bucket.delete(listed.split_off(blocks / 2))?;
            }
            Ok(())
        })?;
        if delete {
            bucket.put_all(&names[blocks / 2..], &bytes, at_once)?;
        }
        Ok(micros(time))
    };
    Ok(Box::new(Both(subject, limit)))
}
