//! The block cache in the data path: bytes of blocks that were read or packed lately.
//!
//! It holds nothing but copies of what lies in blocks, all of it clean: a write makes it forget the range,
//! within the commit that makes the write visible ([`crate::shared::State::apply`]), and a read asks the
//! journal's index first. So what it knows of a range is what the extents say, or nothing.
//!
//! Bytes come in by fills, which begin before it is looked up where the bytes are: what is committed in
//! between ends them. A read looks into the journal before, to see what it needs, and again after. Three bring: a
//! read that had to fetch, the packer (which has the bytes in hand, and brings only what is newest, so that a round
//! does not drive out everything else), and read-ahead.
//!
//! A large read is kept only when it is made again soon (`large.rs`), so that who reads all of a large strand once
//! drives out nobody's pages; a reader that goes on where it stopped is read ahead for (`ahead.rs`); where bytes lie
//! is remembered for as long as nothing moves (`known.rs`).
//!
//! Nothing here ever waits for room or reports a full cache: only what is nowhere else would have to, and
//! there is no such thing; a commit is in the journal before it is visible.
//!
//! Invariant: locks of the cache are taken last, below the state's.

mod ahead;
mod known;
mod large;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use block_cache::{BlockCache, Fill, GapKind, PieceId};

use self::ahead::ReadAhead;
use self::known::KnownExtents;
use self::large::LargeReads;
use crate::read::Wanted;
use crate::types::StrandId;

/// What there is to see of the block cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// [`crate::Options::cache_bytes`].
    pub budget_bytes: u64,
    /// Memory that it takes, bookkeeping included.
    pub allocated_bytes: u64,
    /// Pieces of 4 MiB of which something is here.
    pub pieces: usize,
    /// Pieces that made way for others since the start.
    pub evicted_pieces: u64,
    /// Bytes that reads found here since the start.
    pub hit_bytes: u64,
    /// Bytes that reads had to fetch from blocks since the start.
    pub miss_bytes: u64,
    /// Bytes that were fetched before a sequential reader asked for them, since the start.
    pub ahead_bytes: u64,
}

/// The cache, what reads it has seen, and who is read ahead for.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: BlockCache,
    known: KnownExtents,
    large: LargeReads,
    ahead: ReadAhead,
    hit_bytes: AtomicU64,
    miss_bytes: AtomicU64,
    ahead_bytes: AtomicU64,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            blocks: BlockCache::new(block_cache::Options { budget_bytes }),
            known: KnownExtents::new(),
            large: LargeReads::new(budget_bytes),
            ahead: ReadAhead::default(),
            hit_bytes: AtomicU64::new(0),
            miss_bytes: AtomicU64::new(0),
            ahead_bytes: AtomicU64::new(0),
        }
    }

    /// Knows nothing of a range from now on.
    pub(crate) fn forget(&self, strand: StrandId, range: Range<u64>) {
        self.blocks.forget(strand.get(), range);
    }

    /// Whether any byte near `start..end` is here: before memory is set aside for reading it.
    pub(crate) fn holds_some(&self, strand: StrandId, start: u64, end: u64) -> bool {
        self.blocks.holds_some(strand.get(), start..end)
    }

    /// Copies what is here of `start..` into `to` and returns the ranges that are not here, in order.
    pub(crate) fn read(&self, strand: StrandId, start: u64, to: &mut [u8]) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        self.blocks.read(strand.get(), start, to, &mut gaps);
        gaps.retain(|gap| gap.kind == GapKind::Cold);
        gaps.into_iter().map(|gap| gap.range).collect()
    }

    /// Begins to fill the pieces that these ranges of a strand touch, as far as there is room.
    pub(crate) fn fills(
        &self,
        strand: StrandId,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Vec<Fill<'_>> {
        let mut fills = Vec::new();
        ranges.for_each(|range| self.begin_fills(&mut fills, strand, range));
        fills
    }

    /// The same for a range behind those that `fills` were begun for.
    pub(crate) fn begin_fills<'c>(
        &'c self,
        fills: &mut Vec<Fill<'c>>,
        strand: StrandId,
        range: Range<u64>,
    ) {
        if range.is_empty() {
            return;
        }
        let last = PieceId::at(strand.get(), range.end - 1);
        let mut id = PieceId::at(strand.get(), range.start);
        while id.index <= last.index {
            if fills.last().is_none_or(|fill| fill.id() != id) {
                fills.extend(self.blocks.fill(id));
            }
            id.index += 1;
        }
    }

    /// Whether what a read fetches from blocks is to be kept here.
    pub(crate) fn admits(&self, wanted: &Wanted) -> bool {
        self.large.admits(wanted.strand, wanted.start, wanted.len.into())
    }

    /// Where bytes are that were looked up lately.
    pub(crate) fn known(&self) -> &KnownExtents {
        &self.known
    }

    /// Counts bytes of a read that were here, and those that had to be fetched.
    pub(crate) fn count(&self, hit_bytes: u64, miss_bytes: u64) {
        self.hit_bytes.fetch_add(hit_bytes, Ordering::Relaxed);
        self.miss_bytes.fetch_add(miss_bytes, Ordering::Relaxed);
    }

    /// Most bytes that a round of packing brings.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.blocks.stats().budget_bytes / 2
    }

    pub(crate) fn status(&self) -> CacheStatus {
        let stats = self.blocks.stats();
        CacheStatus {
            budget_bytes: stats.budget_bytes,
            allocated_bytes: stats.allocated_bytes,
            pieces: stats.pieces,
            evicted_pieces: stats.evicted_pieces,
            hit_bytes: self.hit_bytes.load(Ordering::Relaxed),
            miss_bytes: self.miss_bytes.load(Ordering::Relaxed),
            ahead_bytes: self.ahead_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Bytes of a piece of which fewer are not worth the bookkeeping of their own piece in the cache.
pub(crate) const WORTH_BYTES: u32 = 1 << 10;
