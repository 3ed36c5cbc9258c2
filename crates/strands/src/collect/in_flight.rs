//! Minting the names of blocks, and which of them are in flight: minted, but neither committed nor given up.
//!
//! A block is written before the rows that name it are committed, so for a while it looks as if nobody
//! needed it. Its maker holds a [`MintedBlock`] from before the block exists until after the commit.
//!
//! Invariant: a name of this opening that is neither in flight nor at or above the next counter is
//! committed or will never be.

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
