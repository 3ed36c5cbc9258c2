//! The block cache in the data path: bytes of blocks that were read or packed lately.
//!
//! It holds nothing but copies of what lies in blocks, all of it clean: a write makes it forget the range,
//! within the commit that makes the write visible ([`crate::shared::State::apply`]), and a read asks the
//! journal's index first. So what it knows of a range is what the extents say, or nothing.
//!
//! Bytes come in by fills, which begin before it is looked up where the bytes are: what is committed in
//! between ends them. Three bring: a read that had to fetch, the packer (which has the bytes in hand, and
//! brings only what is newest, so that a round does not drive out everything else), and read-ahead.
//!
//! Nothing here ever waits for room or reports a full cache: only what is nowhere else would have to, and
//! there is no such thing; a commit is in the journal before it is visible.
//!
//! Invariant: locks of the cache are taken last, below the state's.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use block_cache::{BlockCache, Fill, GapKind, PIECE_BYTES, PieceId};

use crate::read::{FetchError, Holes};
use crate::shared::{Shared, lock};
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

/// The cache, and who is read ahead for.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: BlockCache,
    readers: Mutex<[Reader; READERS]>,
    ahead: Mutex<VecDeque<PieceId>>,
    wake: Condvar,
    hit_bytes: AtomicU64,
    miss_bytes: AtomicU64,
    ahead_bytes: AtomicU64,
}

/// A strand that is read, perhaps from front to end.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    strand: u64,
    /// Where the last read ended.
    next: u64,
    /// Bytes read without a jump.
    run_bytes: u64,
    /// The piece after the last one that was asked for.
    asked: u64,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            blocks: BlockCache::new(block_cache::Options { budget_bytes }),
            readers: Mutex::new([Reader::default(); READERS]),
            ahead: Mutex::default(),
            wake: Condvar::new(),
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
        let mut fills: Vec<Fill<'_>> = Vec::new();
        for range in ranges.filter(|range| !range.is_empty()) {
            let last = PieceId::at(strand.get(), range.end - 1);
            let mut id = PieceId::at(strand.get(), range.start);
            while id.index <= last.index {
                if fills.last().is_none_or(|fill| fill.id() != id) {
                    fills.extend(self.blocks.fill(id));
                }
                id.index += 1;
            }
        }
        fills
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

    /// Notes that blocks were read; a reader that goes on where it stopped gets the next piece ahead.
    pub(crate) fn note_read(&self, strand: StrandId, start: u64, end: u64) {
        let strand = strand.get();
        let wanted = {
            let mut readers = lock(&self.readers);
            let slot = usize::try_from(strand % READERS as u64).expect("below their number");
            readers[slot].goes_on(strand, start, end)
        };
        if let Some(id) = wanted {
            let mut ahead = lock(&self.ahead);
            // Who is far behind gets nothing ahead; it reads for itself.
            if ahead.len() < AHEAD_MAX {
                ahead.push_back(id);
                self.wake.notify_one();
            }
        }
    }

    /// Lets the thread that reads ahead see that the server stops.
    pub(crate) fn wake_to_stop(&self) {
        drop(lock(&self.ahead));
        self.wake.notify_all();
    }
}

impl Reader {
    /// Notes a read; the piece that should be read ahead, if one should.
    fn goes_on(&mut self, strand: u64, start: u64, end: u64) -> Option<PieceId> {
        if self.strand != strand || self.next != start {
            *self = Self { strand, next: end, run_bytes: 0, asked: 0 };
            return None;
        }
        self.next = end;
        self.run_bytes += end - start;
        let piece = PieceId::at(strand, end);
        if self.run_bytes < SEQUENTIAL_BYTES || piece.index + 1 < self.asked {
            return None;
        }
        let index = self.asked.max(piece.index + 1);
        self.asked = index + 1;
        Some(PieceId { strand, index })
    }
}

impl Shared {
    /// Body of the thread that reads ahead.
    pub(crate) fn run_read_ahead(&self) {
        let Some(cache) = &self.cache else { return };
        while let Some(id) = self.next_ahead(cache) {
            if let Err(error) = self.read_ahead(cache, id) {
                // Whoever needs the bytes will be told.
                tracing::debug!(%error, "reading ahead failed");
            }
        }
    }

    fn next_ahead(&self, cache: &Cache) -> Option<PieceId> {
        let mut ahead = lock(&cache.ahead);
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            if let Some(id) = ahead.pop_front() {
                return Some(id);
            }
            ahead = cache.wake.wait(ahead).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Brings what of a piece lies in blocks and is not here.
    fn read_ahead(&self, cache: &Cache, id: PieceId) -> Result<(), crate::error::ReadError> {
        let strand = StrandId::from_raw(id.strand);
        let end = self.end(strand)?.min(id.range().end);
        let Some(len) = end.checked_sub(id.start()).and_then(|len| u32::try_from(len).ok()) else {
            return Ok(());
        };
        if len == 0 || cache.blocks.is_covered(id.strand, id.start()..end) {
            return Ok(());
        }
        let fills = cache.fills(strand, std::iter::once(id.start()..end));
        let plan = self.plan_read(strand, id.start(), len, Holes::Zeros)?;
        let fetched = plan.fetch_blocks(&self.blocks, &fills).map_err(FetchError::into_inner)?;
        cache.ahead_bytes.fetch_add(fetched, Ordering::Relaxed);
        Ok(())
    }
}

/// Bytes of a piece of which fewer are not worth the bookkeeping of their own piece in the cache.
pub(crate) const WORTH_BYTES: u32 = 1 << 10;
/// Strands whose readers are remembered, by number.
const READERS: usize = 64;
/// Bytes read without a jump that make a sequential reader.
const SEQUENTIAL_BYTES: u64 = 256 << 10;
/// Pieces that wait for being read ahead.
const AHEAD_MAX: usize = 8;
const _: () = assert!(PIECE_BYTES == block_store::BLOCK_BYTES_MAX, "read ahead by whole blocks");
