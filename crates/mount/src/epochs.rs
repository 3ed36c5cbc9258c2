//! Notices when a tree has lost writes that an `fsync` is to make safe.
//!
//! A tree that sends again by itself (the client half of `remote`) shows one epoch for ever. Any other
//! tells a loss by another epoch; the bytes are gone from here then, so that the `fsync` has to fail.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use file_tree::{Ino, Stability, WriteEpoch, Written};

/// For each file, the epoch of its writes since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<HashMap<Ino, Writes>>);

/// The writes of one file since its last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// All in this epoch.
    In(WriteEpoch),
    /// In several, so that some may be lost.
    Mixed,
}

impl Epochs {
    /// A write was answered.
    pub(crate) fn wrote(&self, ino: Ino, written: &Written) {
        if written.stability == Stability::Durable {
            return;
        }
        let now = Writes::In(written.epoch);
        self.add(ino, now);
    }

    /// Takes a file's writes, which the commit that is about to be made answers for.
    pub(crate) fn take(&self, ino: Ino) -> Option<Writes> {
        self.map().remove(&ino)
    }

    /// Adds writes that are not answered for yet.
    pub(crate) fn add(&self, ino: Ino, writes: Writes) {
        let mut map = self.map();
        let known = map.entry(ino).or_insert(writes);
        if *known != writes {
            *known = Writes::Mixed;
        }
    }

    /// The kernel has dropped the file, so nobody is left to ask.
    pub(crate) fn forget(&self, ino: Ino) {
        self.map().remove(&ino);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Ino, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
