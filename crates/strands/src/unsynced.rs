//! Blocks that commits name and that are not durable yet.
//!
//! Large payload that nobody waits for is put into a block without a sync, and its commit is made at once; the commit
//! says which blocks it needs (`needs`, `commit.rs`). The journal asks here before it becomes durable past such a
//! commit, and this syncs the blocks. So a durable position, in memory or on disk, never passes a block that is not.
//!
//! Threads of their own sync blocks as soon as commits name them, so that whoever waits for a small sync finds
//! little left to do; and who writes more waits while too many bytes are not durable.
//!
//! A block that cannot be synced cannot be repaired from the journal, which does not have its bytes. So the first
//! failure is final: the journal fails with it.
//!
//! At an opening each commit that is not known to be durable is looked at (`Unsynced::recovered`): the first whose
//! block is torn or gone ends the journal there.
//!
//! Invariant: a commit's blocks are registered before the commit is appended, and taken out when they are durable.
//!
//! Lock: `state` is taken below all locks of the journal and of [`crate::shared::State`], and never held during I/O.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use block_store::{BlockName, BlockStore, SyncError};
use durable_log::{BeforeSync, Offset, Record};

use crate::commit::{self, RawOp};
use crate::error::CommitError;
use crate::shared::{Shared, lock};
use crate::types::Position;

/// How many threads sync blocks: two, because of syncs of single files one can use what the other waits for.
pub(crate) const THREADS: usize = 2;

/// About how much a thread syncs at once: small enough that both have work, and that room is given back soon.
const BATCH_BYTES: u64 = 8 << 20;

/// After so many bytes of blocks the journal is synced too, so that little has to be looked at after a crash.
const JOURNAL_EVERY_BYTES: u64 = 32 << 20;

/// A commit that was cut off at the start, because a block that it needs did not survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBlock {
    /// The first commit that is gone.
    pub position: Position,
    /// The block.
    pub block: String,
    /// What was found instead of it.
    pub why: String,
}

/// The blocks of one commit.
#[derive(Debug)]
struct Entry {
    names: Vec<BlockName>,
    bytes: u64,
    /// The commit; none while it is being appended.
    at: Option<Position>,
    /// Somebody is at it.
    syncing: bool,
}

impl Entry {
    /// Whether a journal that is durable up to `end` may hold the commit.
    fn is_below(&self, end: Position) -> bool {
        self.at.is_none_or(|at| at < end)
    }
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    bytes: u64,
    /// Bytes of blocks that were synced since the threads last synced the journal.
    ahead: u64,
    failed: Option<Arc<str>>,
    stopping: bool,
    lost: Option<LostBlock>,
}

/// The blocks that are not durable yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    blocks: Arc<dyn BlockStore>,
    bytes_max: u64,
    /// How long who writes on waits for room.
    patience: Duration,
    state: Mutex<State>,
    /// There are more blocks, fewer, or a failure.
    news: Condvar,
}

/// Names an entry until its commit is appended or not.
#[derive(Debug)]
pub(crate) struct Registered(u64);

impl Unsynced {
    pub(crate) fn new(blocks: Arc<dyn BlockStore>, bytes_max: u64, patience: Duration) -> Self {
        Self { blocks, bytes_max, patience, state: Mutex::default(), news: Condvar::new() }
    }

    /// A commit is about to be appended that needs these blocks, of so many bytes of payload.
    pub(crate) fn register(&self, names: Vec<BlockName>, bytes: u64) -> Registered {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        state.bytes += bytes;
        state.entries.insert(id, Entry { names, bytes, at: None, syncing: false });
        Registered(id)
    }

    /// The commit is appended at `at`, or was not taken.
    pub(crate) fn appended(&self, Registered(id): Registered, at: Option<Position>) {
        let mut state = lock(&self.state);
        match (at, state.entries.get_mut(&id)) {
            (Some(at), Some(entry)) => entry.at = Some(at),
            // A sync was faster.
            (Some(_), None) => {}
            (None, _) => {
                state.remove(&[id]);
            }
        }
        drop(state);
        self.news.notify_all();
    }

    /// Bytes that commits have put into blocks that are not durable.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    /// What the opening found.
    pub(crate) fn lost(&self) -> Option<LostBlock> {
        lock(&self.state).lost.clone()
    }

    /// Waits until there is room for more blocks that nobody waits for, but not for ever: a disk may hang.
    pub(crate) fn wait_room(&self) -> Result<(), CommitError> {
        let full = |state: &mut State| {
            state.bytes >= self.bytes_max && state.failed.is_none() && !state.stopping
        };
        let waited = self.news.wait_timeout_while(lock(&self.state), self.patience, full);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.failed {
            None if waited.timed_out() => {
                let why = "large writes wait for the disk to sync those before them".to_owned();
                Err(CommitError::Overloaded { waited: self.patience, why })
            }
            Some(why) => Err(CommitError::Failed(why.to_string())),
            None if state.stopping => Err(CommitError::Failed("the server is stopping".to_owned())),
            None => Ok(()),
        }
    }

    /// Ends the threads, and the wait for room.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.news.notify_all();
    }

    /// Syncs what is there as soon as it is, until it is stopped; says from time to time that the journal should be
    /// synced as well.
    fn sync_ahead(&self, sync_journal: impl Fn()) {
        let mut state = lock(&self.state);
        while !state.stopping && state.failed.is_none() {
            let taken = state.take(BATCH_BYTES, |_| true);
            if taken.is_empty() {
                state = self.wait(state);
                continue;
            }
            state = self.sync_taken(state, &taken);
            let is_far = state.ahead >= JOURNAL_EVERY_BYTES && state.failed.is_none();
            if is_far {
                state.ahead = 0;
                drop(state);
                sync_journal();
                state = lock(&self.state);
            }
        }
    }

    /// Syncs the blocks of entries that were taken, and takes those out.
    fn sync_taken<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        taken: &[u64],
    ) -> MutexGuard<'a, State> {
        let of_entry = |id| state.entries.get(id).map_or(&[][..], |entry| &entry.names);
        let names: Vec<_> = taken.iter().flat_map(of_entry).copied().collect();
        drop(state);
        // A panic must not leave entries that nobody is at and everybody waits for.
        let synced = catch_unwind(AssertUnwindSafe(|| self.blocks.sync(&names)));
        let synced = synced.map_or_else(
            |_| Err("syncing it panicked".to_owned()),
            |synced| synced.map_err(|error| error.to_string()),
        );
        let mut state = lock(&self.state);
        match synced {
            Ok(()) => state.ahead += state.remove(taken),
            Err(error) => {
                tracing::error!(%error, "a block could not be synced; the journal ends before it");
                state.failed.get_or_insert_with(|| error.into());
            }
        }
        self.news.notify_all();
        state
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.news.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes entries that nobody is at, the oldest first, until they have so many bytes.
    fn take(&mut self, bytes_max: u64, wanted: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (id, entry) in &mut self.entries {
            if bytes >= bytes_max {
                break;
            }
            if !entry.syncing && wanted(entry) {
                entry.syncing = true;
                bytes += entry.bytes;
                taken.push(*id);
            }
        }
        taken
    }

    /// Takes entries out, and says how many bytes they had.
    fn remove(&mut self, ids: &[u64]) -> u64 {
        let bytes =
            ids.iter().filter_map(|id| self.entries.remove(id)).map(|entry| entry.bytes).sum();
        self.bytes -= bytes;
        bytes
    }
}

impl BeforeSync for Unsynced {
    fn before_sync(&self, end: Offset) -> io::Result<()> {
        let end = Position::of(end);
        let mut state = lock(&self.state);
        loop {
            if let Some(why) = &state.failed {
                return Err(io::Error::other(why.to_string()));
            }
            let taken = state.take(u64::MAX, |entry| entry.is_below(end));
            if !taken.is_empty() {
                state = self.sync_taken(state, &taken);
            } else if state.entries.values().any(|entry| entry.is_below(end)) {
                state = self.wait(state);
            } else {
                return Ok(());
            }
        }
    }

    fn recovered(&self, record: &Record<'_>) -> io::Result<bool> {
        let mut needed = Vec::new();
        let decoded = commit::decode(record.bytes, |op| {
            if let RawOp::Needs { block } = op {
                needed.push(block);
            }
        });
        // What cannot be read is refused by who replays it.
        if decoded.is_err() {
            return Ok(true);
        }
        for block in needed {
            match self.blocks.sync(&[block]) {
                Ok(()) => {}
                Err(SyncError::NotWhole(error)) => {
                    let position = Position::of(record.offset);
                    tracing::warn!(%position, %error, "a block was not synced and did not survive; its commit and all after it are cut off");
                    let (block, why) = (block.to_string(), error.to_string());
                    lock(&self.state).lost = Some(LostBlock { position, block, why });
                    return Ok(false);
                }
                Err(error @ (SyncError::Unreadable(_) | SyncError::Io { .. })) => {
                    return Err(io::Error::other(error));
                }
            }
        }
        Ok(true)
    }
}

impl Shared {
    /// Body of a thread that syncs blocks.
    pub(crate) fn run_block_sync(&self) {
        self.unsynced.sync_ahead(|| {
            // Its error reaches who waits for the journal.
            if let Err(error) = self.log.sync() {
                tracing::debug!(%error, "the journal could not be synced ahead");
            }
        });
    }

    /// Waits until more large payload may be written that nobody waits for.
    pub(crate) fn wait_unsynced_room(&self) -> Result<(), CommitError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(CommitError::Failed("the server is stopping".to_owned()));
        }
        self.unsynced.wait_room()
    }
}
