//! Copies of what was written and is not known to be on stable storage.
//!
//! Each file has its changes in the order in which they were answered, each with the epoch in which the
//! server took it. Invariant: a change leaves only when a commit that was sent after it was answered
//! returned its epoch, when it is given up with an error that the file then reports, or when the file is
//! gone.
//!
//! A change of attributes is answered without an epoch and gets the last one seen before it was sent.
//! That may be too old, in which case it is sent again needlessly, but never too new.
//!
//! Not here: sending (`super::restore`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use file_tree::{Caller, Ino, SetAttr, TreeError, WriteEpoch};
use tokio::sync::{Notify, RwLock};

use crate::wire::Request;

/// What keeping one change costs besides its payload, in bytes.
const CHANGE_BYTES: usize = 256;

/// Locks that order sending again against new writes; each file uses one of them.
const ORDERS: usize = 64;

/// See the module's text.
pub(super) struct Unsynced {
    table: Mutex<Table>,
    bytes_max: usize,
    freed: Notify,
    orders: [RwLock<()>; ORDERS],
}

#[derive(Default)]
struct Table {
    files: HashMap<Ino, Kept>,
    /// Bytes kept and reserved.
    bytes: usize,
    /// Number of the next change.
    next: u64,
    /// The last epoch that the server told.
    seen: Option<WriteEpoch>,
}

#[derive(Default)]
struct Kept {
    changes: VecDeque<Change>,
    /// What a change was given up for; not reported yet.
    error: Option<TreeError>,
}

struct Change {
    number: u64,
    epoch: Option<WriteEpoch>,
    what: What,
}

/// What was changed.
#[derive(Clone, Debug)]
pub(super) enum What {
    Write { offset: u64, bytes: Bytes },
    Attr { caller: Caller, change: SetAttr },
}

/// Room for one change, given back if the change does not come about.
pub(super) struct Reserved<'a> {
    unsynced: &'a Unsynced,
    bytes: usize,
}

/// Everything before here counts as before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

impl What {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::Attr { .. } => 0,
        }
    }

    fn cost(&self) -> usize {
        self.payload_bytes() + CHANGE_BYTES
    }

    /// The request that makes this change.
    pub(super) fn request(&self, ino: Ino) -> Request {
        match self.clone() {
            Self::Write { offset, bytes } => Request::Write { ino, offset, bytes },
            Self::Attr { caller, change } => Request::SetAttr { caller, ino, change },
        }
    }
}

impl Unsynced {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            table: Mutex::default(),
            bytes_max,
            freed: Notify::new(),
            orders: std::array::from_fn(|_| RwLock::new(())),
        }
    }

    /// Held for reading while a change is sent and recorded, for writing while changes are sent again.
    pub(super) fn order(&self, ino: Ino) -> &RwLock<()> {
        let slots = u64::try_from(ORDERS).expect("a small constant");
        &self.orders[usize::try_from(ino.0 % slots).expect("below a small constant")]
    }

    /// Room for a change, if there is any. One that is larger than everything fits when it is alone.
    pub(super) fn try_reserve(&self, payload_bytes: usize) -> Option<Reserved<'_>> {
        let bytes = payload_bytes + CHANGE_BYTES;
        let mut table = self.table();
        if table.bytes > 0 && table.bytes + bytes > self.bytes_max {
            return None;
        }
        table.bytes += bytes;
        Some(Reserved { unsynced: self, bytes })
    }

    /// Completes when room is given back after this call.
    pub(super) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Whether it is time to make room.
    pub(super) fn is_half_full(&self) -> bool {
        self.table().bytes > self.bytes_max / 2
    }

    /// The last epoch that the server told, to record with a change that is about to be sent.
    pub(super) fn seen(&self) -> Option<WriteEpoch> {
        self.table().seen
    }

    /// The server told its epoch, or (`None`) is another one whose epoch is not known yet.
    pub(super) fn see(&self, epoch: Option<WriteEpoch>) {
        self.table().seen = epoch;
    }

    /// Keeps a change that was answered.
    pub(super) fn record(
        &self,
        ino: Ino,
        reserved: Reserved<'_>,
        epoch: Option<WriteEpoch>,
        what: What,
    ) {
        let mut table = self.table();
        let table = &mut *table;
        let number = table.next;
        table.next += 1;
        table.seen = epoch.or(table.seen);
        let kept = table.files.entry(ino).or_default();
        if let What::Attr { change: SetAttr { size: Some(size), .. }, .. } = what {
            table.bytes -= kept.forget_beyond(size);
            self.freed.notify_waiters();
        }
        kept.changes.push_back(Change { number, epoch, what });
        // The room is now the change's.
        std::mem::forget(reserved);
    }

    /// Everything recorded so far.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.table().next)
    }

    /// A commit sent after `mark` returned `epoch`: forgets the file's changes before the mark, unless
    /// one of them was taken in another epoch. Returns whether all is well.
    pub(super) fn settle(&self, ino: Ino, mark: Mark, epoch: WriteEpoch) -> bool {
        let mut table = self.table();
        table.seen = Some(epoch);
        let Some(kept) = table.files.get_mut(&ino) else { return true };
        let before = kept.changes.partition_point(|change| change.number < mark.0);
        if kept.changes.range(..before).any(|change| change.epoch != Some(epoch)) {
            return false;
        }
        let freed = kept.changes.drain(..before).map(|change| change.what.cost()).sum();
        self.free(&mut table, ino, freed);
        true
    }

    /// What must be sent again if the server is in `epoch`: all from the first change of another one on.
    pub(super) fn suspects(&self, ino: Ino, epoch: WriteEpoch) -> Vec<(u64, What)> {
        let table = self.table();
        let Some(kept) = table.files.get(&ino) else { return Vec::new() };
        let changes = kept.changes.iter().skip_while(|change| change.epoch == Some(epoch));
        changes.map(|change| (change.number, change.what.clone())).collect()
    }

    /// Change `number` was taken again, in `epoch`.
    pub(super) fn resent(&self, ino: Ino, number: u64, epoch: WriteEpoch) {
        let mut table = self.table();
        let Some(kept) = table.files.get_mut(&ino) else { return };
        if let Ok(at) = kept.changes.binary_search_by_key(&number, |change| change.number) {
            kept.changes[at].epoch = Some(epoch);
        }
    }

    /// Gives up all changes of a file.
    pub(super) fn give_up(&self, ino: Ino) {
        let mut table = self.table();
        let Some(kept) = table.files.get_mut(&ino) else { return };
        let freed = kept.changes.drain(..).map(|change| change.what.cost()).sum();
        self.free(&mut table, ino, freed);
    }

    /// Leaves an error for the file's next commit or flush.
    pub(super) fn report(&self, ino: Ino, error: TreeError) {
        self.table().files.entry(ino).or_default().error = Some(error);
    }

    /// Takes the error that was left for a file.
    pub(super) fn take_error(&self, ino: Ino) -> Option<TreeError> {
        let mut table = self.table();
        let error = table.files.get_mut(&ino)?.error.take();
        self.free(&mut table, ino, 0);
        error
    }

    /// Files with changes, the one with the oldest change first.
    pub(super) fn files(&self) -> Vec<(Ino, usize)> {
        let table = self.table();
        let first = |kept: &Kept| kept.changes.front().map(|change| change.number);
        let mut files: Vec<_> = table
            .files
            .iter()
            .filter_map(|(ino, kept)| Some((first(kept)?, *ino, kept.cost())))
            .collect();
        files.sort_unstable_by_key(|(first, ..)| *first);
        files.into_iter().map(|(_, ino, bytes)| (ino, bytes)).collect()
    }

    /// Bytes after which the oldest files are committed without being asked.
    pub(super) fn half(&self) -> usize {
        self.bytes_max / 2
    }

    /// Gives `bytes` back and drops the file's entry if nothing is left in it.
    fn free(&self, table: &mut Table, ino: Ino, bytes: usize) {
        table.bytes -= bytes;
        if table.files.get(&ino).is_some_and(|kept| kept.changes.is_empty() && kept.error.is_none())
        {
            table.files.remove(&ino);
        }
        self.freed.notify_waiters();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn cost(&self) -> usize {
        self.changes.iter().map(|change| change.what.cost()).sum()
    }

    /// Forgets writes that a change of size to `size` has cut away; returns the bytes freed.
    fn forget_beyond(&mut self, size: u64) -> usize {
        let before = self.cost();
        self.changes
            .retain(|change| !matches!(change.what, What::Write { offset, .. } if offset >= size));
        before - self.cost()
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.unsynced.table().bytes -= self.bytes;
        self.unsynced.freed.notify_waiters();
    }
}
