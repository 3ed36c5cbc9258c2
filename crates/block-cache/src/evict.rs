//! Making room: the piece that was used longest ago goes first, if nothing of it is dirty or pinned.
//!
//! Each shard says how old its oldest evictable piece can be at most. The shard that says the smallest is
//! asked for the truth; if another one now says something smaller, that one is asked. So the order is that
//! of the whole cache, while only one shard is locked at a time.

use std::sync::atomic::Ordering;

use crate::budget::Purse;
use crate::cache::{BlockCache, SHARDS};
use crate::table::Stamp;

impl BlockCache {
    /// Evicts pieces, longest unused first, until at least `bytes` of memory are free that were not, or
    /// nothing more may be evicted. Returns how many bytes became free.
    pub fn evict(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(more) = self.evict_one() else { break };
            freed += more;
        }
        self.hand_on();
        freed
    }

    /// Puts `missing` more bytes into the purse, if eviction can find them. No shard is locked.
    pub(crate) fn make_room(&self, missing: u64, purse: &mut Purse<'_>) -> bool {
        let wanted = purse.left() + missing;
        if wanted > self.budget.takable() {
            return false;
        }
        loop {
            if purse.fill_to(wanted).is_ok() {
                return true;
            }
            self.budget.trim_pool(missing);
            if purse.fill_to(wanted).is_ok() {
                return true;
            }
            if self.evict_one().is_none() {
                return false;
            }
        }
    }

    /// Evicts the piece that was used longest ago. Returns how much memory it had.
    fn evict_one(&self) -> Option<u64> {
        let shards = self.shards();
        // Each turn learns the truth about one shard; with others at work it may take some more.
        for turn in 0.. {
            let stamps = || shards.iter().map(|shard| shard.oldest.load(Ordering::SeqCst));
            let (stamp, place) =
                stamps().zip(0_usize..).min().filter(|(stamp, _)| *stamp < Stamp::MAX)?;
            let shard = &shards[place];
            let mut table = shard.lock();
            let found = table.oldest();
            shard.publish(&table);
            let Some((oldest, slot)) = found else { continue };
            let is_first = oldest == stamp || stamps().all(|other| oldest <= other);
            if is_first || turn > 2 * SHARDS {
                let mut purse = Purse::empty(&self.budget);
                table.remove(slot, &mut purse);
                shard.publish(&table);
                self.evicted_pieces.fetch_add(1, Ordering::Relaxed);
                return Some(purse.freed());
            }
        }
        None
    }
}
