//! Minting the names of blocks, and which of them are in flight: minted, but neither committed nor given up.
//!
//! A block is written before the rows that name it are committed, so for a while it looks as if nobody
//! needed it. Its maker holds a [`MintedBlock`] from before the block exists until after the commit.
//!
//! Invariant: a name of this opening that is neither in flight nor at or above the next counter, both
//! looked at in one step ([`BlockMint::look`]), is committed or will never be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use block_store::BlockName;

use crate::commit::DOMAIN;
use crate::shared::lock;

/// Mints the names of the blocks of one opening.
#[derive(Clone, Debug)]
pub(crate) struct BlockMint {
    epoch: u64,
    counters: Arc<Mutex<Counters>>,
}

#[derive(Debug, Default)]
struct Counters {
    next: u64,
    in_flight: BTreeSet<u64>,
}

/// A name that is in flight until this is dropped: hold it until the rows that name the block are
/// committed.
#[derive(Debug)]
pub(crate) struct MintedBlock {
    name: BlockName,
    counters: Arc<Mutex<Counters>>,
}

/// What was in flight at one moment.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    epoch: u64,
    next: u64,
    counters: BTreeSet<u64>,
}

impl BlockMint {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, counters: Arc::default() }
    }

    /// A name that never was.
    pub(crate) fn mint(&self) -> MintedBlock {
        let mut counters = lock(&self.counters);
        let counter = counters.next;
        counters.next += 1;
        counters.in_flight.insert(counter);
        let name = BlockName { domain: DOMAIN, epoch: self.epoch, counter };
        MintedBlock { name, counters: Arc::clone(&self.counters) }
    }

    /// What is in flight now.
    pub(crate) fn look(&self) -> InFlight {
        let counters = lock(&self.counters);
        InFlight { epoch: self.epoch, next: counters.next, counters: counters.in_flight.clone() }
    }
}

impl MintedBlock {
    pub(crate) fn name(&self) -> BlockName {
        self.name
    }
}

impl Drop for MintedBlock {
    fn drop(&mut self) {
        lock(&self.counters).in_flight.remove(&self.name.counter);
    }
}

impl InFlight {
    /// Whether a name of this opening or an earlier one was on its way, or not minted yet.
    pub(crate) fn holds(&self, name: BlockName) -> bool {
        name.epoch == self.epoch
            && (name.counter >= self.next || self.counters.contains(&name.counter))
    }

    /// Whether a later opening minted the name: then this one no longer owns the store.
    pub(crate) fn is_later(&self, name: BlockName) -> bool {
        name.epoch > self.epoch
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a name is in flight exactly from its minting until its guard goes.

    use super::*;

    #[test]
    fn a_name_is_in_flight_from_its_minting_until_its_guard_goes() {
        let mint = BlockMint::new(7);
        let before = mint.look();
        let (one, two) = (mint.mint(), mint.mint());
        let names = [one.name(), two.name()];
        assert!(names.iter().all(|name| before.holds(*name)), "not minted when it was looked");
        assert!(names.iter().all(|name| mint.look().holds(*name)));
        drop(one);
        assert_eq!(names.map(|name| mint.look().holds(name)), [false, true]);
        drop(two);
        assert_eq!(names.map(|name| mint.look().holds(name)), [false, false]);
        assert!(!mint.look().holds(BlockName { epoch: 6, ..mint.mint().name() }));
        assert!(mint.look().is_later(BlockName { epoch: 8, ..names[0] }));
    }
}
