//! What is dirty: listing it, and noting that it is safe elsewhere.
//!
//! A page of 4 KiB is dirty from the first write on. To save a piece, take it from the list with its newest
//! generation, read its dirty ranges, store them, and mark that generation as saved. What was written
//! meanwhile has a newer generation, and its pages stay dirty, however late or often the mark comes.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::cache::BlockCache;
use crate::table::Entry;
use crate::types::{Generation, PieceId};

/// A piece that holds bytes which are not saved elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyPiece {
    /// Which one.
    pub id: PieceId,
    /// The write that it has been dirty since.
    pub oldest: Generation,
    /// The newest write to it: what to mark as saved after saving what is there now.
    pub newest: Generation,
    /// How many pages of 4 KiB are dirty, some of them perhaps in part.
    pub pages: u32,
}

/// What marking a piece as saved has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// All of it is saved: it may be evicted.
    Clean,
    /// Newer writes are not.
    StillDirty,
    /// It is not here.
    Absent,
}

/// How full the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// [`crate::Options::budget_bytes`].
    pub budget_bytes: u64,
    /// Bytes of memory that are allocated or set aside.
    pub allocated_bytes: u64,
    /// Of these, free buffers that are kept for the next writer.
    pub pooled_bytes: u64,
    /// Pieces of which anything is here.
    pub pieces: usize,
    /// Of these, the dirty ones.
    pub dirty_pieces: usize,
    /// Pieces that were evicted since the start.
    pub evicted_pieces: u64,
    /// Writers that wait for room.
    pub waiting: usize,
}

impl BlockCache {
    /// Lists up to `most` dirty pieces of all strands into `found`, those that have been dirty longest
    /// first. Costs time in proportion to all dirty pieces.
    pub fn dirty(&self, most: usize, found: &mut Vec<DirtyPiece>) {
        found.clear();
        for shard in self.shards() {
            found.extend(shard.lock().dirty().map(DirtyPiece::of));
        }
        if found.len() > most {
            found.select_nth_unstable_by_key(most, DirtyPiece::order);
            found.truncate(most);
        }
        found.sort_unstable_by_key(DirtyPiece::order);
    }

    /// Lists the dirty pieces of one strand into `found`, those that have been dirty longest first.
    pub fn dirty_of(&self, strand: u64, found: &mut Vec<DirtyPiece>) {
        found.clear();
        for shard in self.shards() {
            let table = shard.lock();
            if table.dirty_len() > 0 {
                let entries = table.chain(strand).map(|slot| table.entry(slot));
                found.extend(entries.filter(|entry| entry.piece.is_dirty()).map(DirtyPiece::of));
            }
        }
        // Of one strand, so that this is the whole order, and quicker.
        found.sort_unstable_by_key(|dirty| {
            u128::from(dirty.oldest.get()) << 64 | u128::from(dirty.id.index)
        });
    }

    /// Puts the dirty ranges of a piece into `ranges`, as offsets in the strand, and says which generation
    /// to mark as saved once the bytes that [`Self::read`] gives for them from now on are safe.
    pub fn dirty_ranges(&self, id: PieceId, ranges: &mut Vec<Range<u64>>) -> Option<Generation> {
        ranges.clear();
        let table = self.shard(id).lock();
        let piece = &table.entry(table.find(id)?).piece;
        let mut at = 0;
        while let Some(run) = piece.next_dirty(at) {
            let (start, end) = (id.start() + u64::from(run.start), id.start() + u64::from(run.end));
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
            at = run.end;
        }
        piece.is_dirty().then(|| piece.newest())
    }

    /// Notes that every write to a piece up to `generation` is safe elsewhere. Later ones stay dirty.
    pub fn mark_saved(&self, id: PieceId, generation: Generation) -> Saved {
        let saved = self.change_in(self.shard(id), |table, purse| {
            let Some(slot) = table.find(id) else { return Saved::Absent };
            let entry = table.entry_mut(slot);
            if entry.piece.is_dirty() {
                entry.piece.save(generation);
                let is_dirty = entry.piece.is_dirty();
                table.settle(slot, purse);
                if is_dirty { Saved::StillDirty } else { Saved::Clean }
            } else {
                Saved::Clean
            }
        });
        self.hand_on();
        saved
    }

    /// How full the cache is, shard by shard, so not quite of one moment while others work.
    pub fn stats(&self) -> Stats {
        let (mut pieces, mut dirty_pieces) = (0, 0);
        for shard in self.shards() {
            let table = shard.lock();
            pieces += table.len();
            dirty_pieces += table.dirty_len();
        }
        Stats {
            budget_bytes: self.budget.limit(),
            allocated_bytes: self.budget.allocated(),
            pooled_bytes: self.budget.pooled(),
            pieces,
            dirty_pieces,
            evicted_pieces: self.evicted_pieces.load(Ordering::Relaxed),
            waiting: self.waiters.len(),
        }
    }
}

impl DirtyPiece {
    fn of(entry: &Entry) -> Self {
        let piece = &entry.piece;
        Self {
            id: entry.id(),
            oldest: piece.oldest(),
            newest: piece.newest(),
            pages: piece.dirty_pages(),
        }
    }

    fn order(&self) -> (Generation, PieceId) {
        (self.oldest, self.id)
    }
}
