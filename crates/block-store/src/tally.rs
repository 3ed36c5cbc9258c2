//! How much a store holds that cannot be asked: as of the last complete listing, and what changed since.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Usage;

/// The count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Changes since a listing began can make it wrong for a while, so it may even be negative.
    blocks: i64,
    bytes: i64,
    /// All changes so far.
    changed: Changed,
}

/// Where a listing began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changed {
    blocks: i64,
    bytes: i64,
}

impl Tally {
    pub(crate) fn added(&self, bytes: u64) {
        self.change(1, signed(bytes));
    }

    pub(crate) fn removed(&self, bytes: u64) {
        self.change(-1, -signed(bytes));
    }

    /// Blocks went whose sizes nobody asked for; taken for average ones.
    pub(crate) fn removed_some(&self, blocks: u64) {
        let usage = self.usage();
        let bytes = usage.bytes.checked_div(usage.blocks).unwrap_or(0).saturating_mul(blocks);
        self.change(-signed(blocks), -signed(bytes));
    }

    fn change(&self, blocks: i64, bytes: i64) {
        let mut state = self.state();
        state.blocks += blocks;
        state.bytes += bytes;
        state.changed.blocks += blocks;
        state.changed.bytes += bytes;
    }

    /// To be called before a listing begins.
    pub(crate) fn count(&self) -> Changed {
        self.state().changed
    }

    /// A listing that began at `since` found `usage`.
    pub(crate) fn counted(&self, since: Changed, usage: Usage) {
        let mut state = self.state();
        state.blocks = signed(usage.blocks) + state.changed.blocks - since.blocks;
        state.bytes = signed(usage.bytes) + state.changed.bytes - since.bytes;
    }

    pub(crate) fn usage(&self) -> Usage {
        let state = self.state();
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Usage { blocks: unsigned(state.blocks), bytes: unsigned(state.bytes) }
    }

    /// Plain counting only, so a poisoned lock guards whole numbers.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
