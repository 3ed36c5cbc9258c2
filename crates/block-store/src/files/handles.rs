//! Open files of recently read blocks, with their checksums, so that a read is one `pread`.
//!
//! Invariant: no handle of a block is kept that was deleted before its file was opened or while it was:
//! `keep` refuses when any delete happened since the caller looked at `deletes`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::File;

use super::pages::Pages;
use crate::BlockName;
use crate::format::{Chunks, Footer};

/// Most files kept open.
const HANDLES_MAX: usize = 128;

/// An open block.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: Arc<dyn File>,
    pub(super) chunks: Chunks,
    pub(super) pages: Pages,
}

impl Handle {
    pub(super) fn new(file: Arc<dyn File>, footer: Footer) -> Self {
        let pages = Pages::new(footer.payload_len());
        Self { file, chunks: footer.into_chunks(), pages }
    }
}

/// The handles, the least recently used of which gives way.
#[derive(Debug, Default)]
pub(super) struct Handles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the tick of its last use.
    kept: HashMap<BlockName, (Arc<Handle>, u64)>,
    tick: u64,
    deletes: u64,
}

impl Handles {
    pub(super) fn find(&self, name: BlockName) -> Option<Arc<Handle>> {
        let mut state = self.state();
        state.tick += 1;
        let tick = state.tick;
        let (handle, used) = state.kept.get_mut(&name)?;
        *used = tick;
        Some(Arc::clone(handle))
    }

    /// Changes with each delete.
    pub(super) fn deletes(&self) -> u64 {
        self.state().deletes
    }

    pub(super) fn keep(&self, name: BlockName, handle: Arc<Handle>, deletes: u64) {
        let mut state = self.state();
        if state.deletes != deletes {
            return;
        }
        if state.kept.len() >= HANDLES_MAX {
            let oldest =
                state.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| *name);
            oldest.and_then(|name| state.kept.remove(&name));
        }
        state.tick += 1;
        let tick = state.tick;
        state.kept.insert(name, (handle, tick));
    }

    pub(super) fn forget(&self, name: BlockName) {
        let mut state = self.state();
        state.deletes += 1;
        state.kept.remove(&name);
    }

    /// The lock is held for bookkeeping only, so a poisoned one is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
