//! Reading ahead, for readers that go on where they stopped.
//!
//! The store hears which blocks come next ([`BlockStore::hint`]), some pieces ahead: a directory has the system
//! fetch them, a bucket's are downloaded. Who reads in small steps also finds the next piece of 4 MiB in the cache:
//! one thread brings it. Who reads in large steps takes the bytes from the store as fast as from here.
//!
//! [`BlockStore::hint`]: block_store::BlockStore::hint

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};

use block_cache::{PIECE_BYTES, PieceId};
use block_store::BlockName;

use super::Cache;
use super::large::LARGE_BYTES;
use crate::error::ReadError;
use crate::extents;
use crate::read::{FetchError, Holes, Wanted};
use crate::shared::{Shared, lock};
use crate::types::StrandId;

/// Strands whose readers are remembered, by number.
const READERS: usize = 64;
/// Bytes read without a jump that make a sequential reader.
const SEQUENTIAL_BYTES: u64 = 256 << 10;
/// How many pieces ahead the store is told what comes.
const HINTED_PIECES: u64 = 4;
/// Blocks that it is told of at once, at most: a strand in small fragments is not read ahead far.
const HINTED_BLOCKS_MAX: usize = 16;
/// Orders that wait for the thread.
const ORDERS_MAX: usize = 8;
const _: () = assert!(PIECE_BYTES == block_store::BLOCK_BYTES_MAX, "read ahead by whole blocks");

/// Who is read ahead for.
#[derive(Debug)]
pub(super) struct ReadAhead {
    readers: Mutex<[Reader; READERS]>,
    orders: Mutex<VecDeque<Order>>,
    wake: Condvar,
}

/// A strand that is read, perhaps from front to end.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    strand: u64,
    /// Where the last read ended.
    next: u64,
    /// Bytes read without a jump.
    run_bytes: u64,
    /// The piece after the last one that is to be brought.
    brought: u64,
    /// The piece after the last one that the store was told of.
    hinted: u64,
}

/// What is to be read ahead of a strand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    strand: u64,
    /// Pieces that the store is to be told of.
    hint: Range<u64>,
    /// The piece that is to be brought.
    bring: Option<u64>,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self {
            readers: Mutex::new([Reader::default(); READERS]),
            orders: Mutex::default(),
            wake: Condvar::new(),
        }
    }
}

impl Cache {
    /// Notes a read that needed what lies in blocks; a reader that goes on where it stopped is read ahead for.
    pub(crate) fn note_read(&self, strand: StrandId, start: u64, end: u64) {
        let strand = strand.get();
        let order = {
            let mut readers = lock(&self.ahead.readers);
            let slot = usize::try_from(strand % READERS as u64).expect("below their number");
            readers[slot].goes_on(strand, start, end)
        };
        if let Some(order) = order {
            let mut orders = lock(&self.ahead.orders);
            // Who is far behind gets nothing ahead; it reads for itself.
            if orders.len() < ORDERS_MAX {
                orders.push_back(order);
                self.ahead.wake.notify_one();
            }
        }
    }

    /// Lets the thread that reads ahead see that the server stops.
    pub(crate) fn wake_to_stop(&self) {
        drop(lock(&self.ahead.orders));
        self.ahead.wake.notify_all();
    }
}

impl Reader {
    /// Notes a read; what is to be read ahead, if anything is.
    fn goes_on(&mut self, strand: u64, start: u64, end: u64) -> Option<Order> {
        if self.strand != strand || self.next != start {
            *self = Self { strand, next: end, ..Self::default() };
            return None;
        }
        self.next = end;
        self.run_bytes += end - start;
        if self.run_bytes < SEQUENTIAL_BYTES {
            return None;
        }
        let next = PieceId::at(strand, end).index + 1;
        let hint = self.hinted.max(next)..next + HINTED_PIECES;
        self.hinted = self.hinted.max(hint.end);
        let bring = (end - start < LARGE_BYTES && next >= self.brought).then_some(next);
        self.brought = bring.map_or(self.brought, |index| index + 1);
        (bring.is_some() || !hint.is_empty()).then_some(Order { strand, hint, bring })
    }
}

impl Shared {
    /// Body of the thread that reads ahead.
    pub(crate) fn run_read_ahead(&self) {
        let Some(cache) = &self.cache else { return };
        while let Some(order) = self.next_order(cache) {
            if let Err(error) = self.read_ahead(cache, &order) {
                // Whoever needs the bytes will be told.
                tracing::debug!(%error, "reading ahead failed");
            }
        }
    }

    fn next_order(&self, cache: &Cache) -> Option<Order> {
        let mut orders = lock(&cache.ahead.orders);
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            if let Some(order) = orders.pop_front() {
                return Some(order);
            }
            orders =
                cache.ahead.wake.wait(orders).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn read_ahead(&self, cache: &Cache, order: &Order) -> Result<(), ReadError> {
        let strand = StrandId::from_raw(order.strand);
        let end = self.end(strand)?;
        let coming = self.coming_blocks(cache, order, end)?;
        if !coming.is_empty() {
            self.blocks.hint(&coming);
        }
        let Some(index) = order.bring else { return Ok(()) };
        let id = PieceId { strand: order.strand, index };
        let end = end.min(id.range().end);
        let len = end.checked_sub(id.start()).and_then(|len| u32::try_from(len).ok());
        let Some(len) = len.filter(|len| *len > 0) else { return Ok(()) };
        if cache.blocks.is_covered(id.strand, id.start()..end) {
            return Ok(());
        }
        let wanted = Wanted { strand, start: id.start(), len, holes: Holes::Zeros };
        let plan = self.plan_read(wanted, Some(cache))?;
        let fetched = plan.fetch_blocks(&self.blocks).map_err(FetchError::into_inner)?;
        cache.ahead_bytes.fetch_add(fetched, Ordering::Relaxed);
        Ok(())
    }

    /// The blocks of the pieces that come next, as far as their bytes are not here, in the order in which they will
    /// be read.
    fn coming_blocks(
        &self,
        cache: &Cache,
        order: &Order,
        end: u64,
    ) -> Result<Vec<BlockName>, ReadError> {
        let mut names = Vec::new();
        for index in order.hint.clone() {
            let piece = PieceId { strand: order.strand, index }.range();
            let piece = piece.start..piece.end.min(end);
            if piece.is_empty() || cache.blocks.is_covered(order.strand, piece.clone()) {
                continue;
            }
            let strand = StrandId::from_raw(order.strand);
            for extent in extents::overlapping(self, strand, piece.start, piece.end)? {
                if names.len() < HINTED_BLOCKS_MAX && !names.contains(&extent.block) {
                    names.push(extent.block);
                }
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: who goes on is read ahead for, each piece once. Method: reads in order, by hand.

    use super::*;

    const MIB: u64 = 1 << 20;

    fn orders(reads: impl Iterator<Item = (u64, u64)>) -> Vec<(Range<u64>, Option<u64>)> {
        let mut reader = Reader::default();
        let orders = reads.filter_map(|(start, end)| reader.goes_on(7, start, end));
        orders.map(|order| (order.hint, order.bring)).collect()
    }

    #[test]
    fn small_steps_bring_each_next_piece_once_and_the_store_hears_of_four() {
        let step = 128 << 10;
        let got = orders((0..64).map(|n| (n * step, (n + 1) * step)));
        assert_eq!(got, [(1..5, Some(1)), (5..6, Some(2)), (6..7, Some(3))]);
    }

    #[test]
    fn large_steps_are_only_told_to_the_store() {
        let got = orders((0..10).map(|n| (n * MIB, (n + 1) * MIB)));
        assert_eq!(got, [(1..5, None), (5..6, None), (6..7, None)]);
    }

    #[test]
    fn jumps_are_not_read_ahead_for() {
        assert_eq!(orders((0..64).map(|n| (n * 3 * MIB, n * 3 * MIB + MIB))), []);
    }
}
