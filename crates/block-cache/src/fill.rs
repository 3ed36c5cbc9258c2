//! Filling: bytes that were read elsewhere come into the cache without undoing what happened meanwhile.
//!
//! Between the moment at which a reader learns where cold bytes are and the moment at which it has them,
//! the strand may be written, cut or punched. A [`Fill`] begins before the reader looks: it pins the piece,
//! so that writes made meanwhile cannot be evicted and are found in the way of older bytes; a cut, a hole
//! or a forget made meanwhile ends the fill's right to bring anything.

use crate::budget::Purse;
use crate::cache::BlockCache;
use crate::types::PieceId;

/// The right to bring older bytes into one piece. Begin it before looking where they are.
#[derive(Debug)]
#[must_use = "a fill brings bytes, and pins its piece until it is dropped"]
pub struct Fill<'a> {
    cache: &'a BlockCache,
    id: PieceId,
    /// What the piece's entry, which stays while it is pinned, had when the fill began.
    epoch: u64,
}

impl BlockCache {
    /// Begins to fill a piece; nothing if there is no room even for its bookkeeping.
    pub fn fill(&self, id: PieceId) -> Option<Fill<'_>> {
        let epoch = self.with_room(|purse| self.pin(id, purse))?;
        Some(Fill { cache: self, id, epoch })
    }

    /// Tries something that needs memory, making room for what it misses; nothing if there is none.
    fn with_room<R>(&self, mut attempt: impl FnMut(&mut Purse<'_>) -> Result<R, u64>) -> Option<R> {
        let mut purse = Purse::empty(&self.budget);
        let result = loop {
            match attempt(&mut purse) {
                Ok(result) => break Some(result),
                Err(_) if self.waiters.any() => break None,
                Err(missing) if self.make_room(missing, &mut purse) => {}
                Err(_) => break None,
            }
        };
        drop(purse);
        self.hand_on();
        result
    }

    fn pin(&self, id: PieceId, purse: &mut Purse<'_>) -> Result<u64, u64> {
        let stamp = self.tick();
        let shard = self.shard(id);
        let mut table = shard.lock();
        if table.find(id).is_none() {
            purse.fill_to(table.quote(1))?;
        }
        let slot = table.find_or_add(id, stamp, purse);
        let entry = table.entry_mut(slot);
        entry.stamp = stamp;
        entry.pins += 1;
        Ok(entry.epoch)
    }
}

impl Fill<'_> {
    /// The piece that it fills.
    pub fn id(&self) -> PieceId {
        self.id
    }

    /// Brings bytes that lie at `offset` of the strand, as far as they are in this piece. Only what is
    /// cold takes them, and they are clean. Returns how many were taken: none if the strand was cut,
    /// punched or forgotten since the fill began, or if there is no room for them.
    pub fn bring(&self, offset: u64, bytes: &[u8]) -> u64 {
        let range = self.id.range();
        let from = range.start.saturating_sub(offset).min(bytes.len() as u64);
        let to = range.end.saturating_sub(offset).min(bytes.len() as u64);
        let (Ok(skip), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else { return 0 };
        if skip >= end {
            return 0;
        }
        let local = u32::try_from(offset + from - range.start).expect("within a piece");
        let bytes = &bytes[skip..end];
        self.cache.with_room(|purse| self.try_bring(local, bytes, purse)).unwrap_or(0)
    }

    fn try_bring(&self, local: u32, bytes: &[u8], purse: &mut Purse<'_>) -> Result<u64, u64> {
        let len = u32::try_from(bytes.len()).expect("within a piece");
        let shard = self.cache.shard(self.id);
        let mut table = shard.lock();
        let Some(slot) = table.find(self.id) else { return Ok(0) };
        let entry = table.entry_mut(slot);
        if entry.epoch != self.epoch {
            return Ok(0);
        }
        purse.fill_to(entry.piece.quote(&(local..local + len)))?;
        Ok(u64::from(entry.piece.fill(local, bytes, purse)))
    }
}

impl Drop for Fill<'_> {
    fn drop(&mut self) {
        self.cache.change_in(self.cache.shard(self.id), |table, purse| {
            let Some(slot) = table.find(self.id) else { return };
            table.entry_mut(slot).pins -= 1;
            table.settle(slot, purse);
        });
        self.cache.hand_on();
    }
}
