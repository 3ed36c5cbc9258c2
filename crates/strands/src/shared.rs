//! What the callers, the applier and the packer share, and the one place where a commit happens.

use std::collections::HashMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use block_store::BlockStore;
use bytes::Bytes;
use durable_log::{AppendError, Location, Log, WriteError};
use host::{Host, Monotonic};
use meta_store::MetaStore;
use tokio::sync::{Notify, watch};

use crate::cached::Cache;
use crate::collect::{BlockMint, Collection, Pace};
use crate::commit::{Commit, Op};
use crate::error::{CommitError, ReadError};
use crate::extents::{self, Rows};
use crate::index_checkpoint::Checkpointing;
use crate::options::Options;
use crate::overlay::{Overlay, RowChange};
use crate::owner::Ownership;
use crate::pieces::{Piece, Pieces};
use crate::recover::Recovery;
use crate::staged::Staged;
use crate::types::{Opening, Order, Position, StrandId, Table};
use crate::unsynced::Unsynced;

/// Strands that were removed and whose extents are still to be cleaned up: strand u64 BE → version u8 (1).
pub(crate) const REMOVED: Table = Table(2);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blocks: Arc<dyn BlockStore>,
    pub(crate) unsynced: Arc<Unsynced>,
    pub(crate) cache: Option<Cache>,
    pub(crate) state: RwLock<State>,
    pub(crate) recovery: Recovery,
    pub(crate) opening: Opening,
    /// Held by whoever changes extents, from reading them to the commit that replaces them; by strand,
    /// striped. Taken before the state's lock, and in order.
    extent_locks: [Mutex<()>; EXTENT_STRIPES],
    pub(crate) mint: Mutex<Mint>,
    pub(crate) block_mint: BlockMint,
    /// Wakes the packer; the flag says that somebody wants a round whatever the triggers say.
    pub(crate) pack_wanted: Mutex<bool>,
    pub(crate) pack_wake: Condvar,
    /// Set while a wish is under way, so that writers need not take the lock for each.
    pub(crate) pack_hinted: AtomicBool,
    pub(crate) checkpointing: Checkpointing,
    /// One round of packing at a time.
    pub(crate) packing: Mutex<()>,
    pub(crate) pack_stats: Mutex<PackStats>,
    /// Rounds of collection; who sets `running` has the turn.
    pub(crate) collection: Mutex<Collection>,
    pub(crate) pace: Mutex<Pace>,
    /// Payload that went into blocks of its own since the start.
    pub(crate) staged_bytes: AtomicU64,
    /// The newest root is not in the store yet.
    pub(crate) root_waits: AtomicBool,
    /// The name of the last root that the store took.
    pub(crate) root_put: Mutex<Option<String>>,
    pub(crate) ownership: Mutex<Ownership>,
    /// Told when the journal, the overlay or the disk got room.
    pub(crate) progress: Notify,
    /// The durable position, for those who wait asynchronously; `None` when there will be no more.
    pub(crate) durable: watch::Sender<Option<Position>>,
    /// Serialises applying, so that batches reach the meta store in order.
    pub(crate) applying: Mutex<()>,
    /// Why the meta store took no rows at the applier's last try.
    pub(crate) view_error: Mutex<Option<String>>,
    pub(crate) stopping: AtomicBool,
    pub(crate) disk_room: Mutex<DiskRoom>,
    /// When bytes that could not be found were last warned about.
    pub(crate) warned: Mutex<Option<Monotonic>>,
}

/// What commits change, behind one lock that is never held across I/O.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) overlay: Overlay,
    pub(crate) pieces: Pieces,
    /// Removed strands that the cleaner has not finished, and since when.
    pub(crate) removed: HashMap<StrandId, Monotonic>,
    /// When the oldest change was made that no round of packing has told of; what rounds themselves change does
    /// not count.
    pub(crate) unpacked_since: Option<Monotonic>,
    /// Counts commits that changed extents: a reader that sees the same number before and after has
    /// seen extents of one moment.
    pub(crate) extent_changes: u64,
    /// Bytes that were written to strands since the start.
    pub(crate) written_bytes: u64,
}

/// Strand numbers that are reserved but not handed out.
#[derive(Debug)]
pub(crate) struct Mint {
    pub(crate) next: u64,
    pub(crate) reserved: u64,
}

/// What packing has done since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackStats {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// The checksums of commits before this one were checked.
    pub(crate) checked_before: Position,
    /// Commits that were read for that, and for the ledger.
    pub(crate) read_commits: u64,
    pub(crate) last_error: Option<PackTrouble>,
    /// Why the newest root is not in the store.
    pub(crate) root_error: Option<String>,
}

/// Why the last round of packing failed.
#[derive(Clone, Debug)]
pub(crate) struct PackTrouble {
    /// What a writer is told who waits for the journal to shrink; `None`: to wait on.
    pub(crate) answer: Option<CommitError>,
    pub(crate) why: String,
}

/// The last look at the disk, so that not every write asks.
#[derive(Debug, Default)]
pub(crate) struct DiskRoom {
    pub(crate) available_bytes: u64,
    pub(crate) reserve_bytes: u64,
    /// Payload admitted since the look.
    pub(crate) admitted_bytes: u64,
}

impl Shared {
    /// Assembles the pieces; `recover.rs` has filled `state`.
    #[expect(clippy::too_many_arguments, reason = "assembled in one place only")]
    pub(crate) fn new(
        host: Host,
        dir: PathBuf,
        options: Options,
        log: Log,
        meta: Arc<dyn MetaStore>,
        blocks: Arc<dyn BlockStore>,
        unsynced: Arc<Unsynced>,
        state: State,
        recovery: Recovery,
        opening: Opening,
        mint: Mint,
    ) -> Self {
        let durable = Position::of(log.positions().durable);
        let cache = (options.cache_bytes > 0).then(|| Cache::new(options.cache_bytes));
        let ownership = Ownership::new(&*host.random);
        Self {
            host,
            dir,
            options,
            log,
            meta,
            blocks,
            unsynced,
            cache,
            state: RwLock::new(state),
            recovery,
            opening,
            extent_locks: std::array::from_fn(|_| Mutex::new(())),
            mint: Mutex::new(mint),
            block_mint: BlockMint::new(opening.epoch),
            pack_wanted: Mutex::new(false),
            pack_wake: Condvar::new(),
            pack_hinted: AtomicBool::new(false),
            checkpointing: Checkpointing::default(),
            packing: Mutex::new(()),
            pack_stats: Mutex::default(),
            collection: Mutex::default(),
            pace: Mutex::default(),
            staged_bytes: AtomicU64::new(0),
            // As far as is known: a former run may have left one.
            root_waits: AtomicBool::new(true),
            root_put: Mutex::default(),
            ownership: Mutex::new(ownership),
            progress: Notify::new(),
            durable: watch::Sender::new(Some(durable)),
            applying: Mutex::new(()),
            view_error: Mutex::default(),
            stopping: AtomicBool::new(false),
            disk_room: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// Makes a commit visible and hands it to the operating system; returns its exclusive end.
    pub(crate) fn commit(&self, mut commit: Commit) -> Result<Position, CommitError> {
        let end = {
            let _extents = self.complete(&mut commit)?;
            self.append(commit)?
        };
        self.write_out()?;
        Ok(end)
    }

    /// Appends to the journal's memory and applies to the state, in one order.
    pub(crate) fn append(&self, mut commit: Commit) -> Result<Position, CommitError> {
        let head = commit.encode_head(crate::Strands::COMMIT_BYTES_MAX)?;
        let first = self.append_locked(&mut self.write_state(), &mut commit, &head);
        if first != Err(CommitError::NoSpace) {
            return first;
        }
        // The journal found the disk full earlier; there may be room by now.
        self.write_out()?;
        self.append_locked(&mut self.write_state(), &mut commit, &head)
    }

    /// The same under a lock that the caller holds, once. Takes the operations out of `commit` when
    /// the journal took them.
    pub(crate) fn append_locked(
        &self,
        state: &mut State,
        commit: &mut Commit,
        head: &[u8],
    ) -> Result<Position, CommitError> {
        let mut parts = Vec::with_capacity(1 + commit.ops().len());
        parts.push(head);
        parts.extend(commit.writes().map(|bytes| &bytes[..]));
        // Before the commit can be seen by a sync.
        let needed = commit.needed();
        let registered =
            (!needed.is_empty()).then(|| self.unsynced.register(needed, commit.placed_len()));
        let appended = self.log.append_parts(&parts).map_err(append_error);
        if let Some(registered) = registered {
            let at = appended.as_ref().ok().map(|appended| Position::of(appended.first));
            self.unsynced.appended(registered, at);
        }
        let appended = appended?;
        let now = self.host.clock.monotonic();
        let payload = appended.at.plus(head.len() as u64);
        let at = Position::of(appended.first);
        self.checkpointing.note(appended.at, self.options.checkpoint_every_bytes);
        state.apply(std::mem::take(commit), at, payload, now, self.cache.as_ref());
        Ok(Position::of(appended.next))
    }

    /// Hands everything appended to the operating system.
    pub(crate) fn write_out(&self) -> Result<(), CommitError> {
        self.log.write_out().map(|_| ()).map_err(write_error)
    }

    /// Adds the rows that follow from a commit's truncates, removes and placed ranges, and holds the locks that keep
    /// the extents as they were read until the guards are dropped.
    fn complete(&self, commit: &mut Commit) -> Result<Vec<MutexGuard<'_, ()>>, CommitError> {
        let staged = commit.take_staged();
        let mut truncated = Vec::new();
        let mut removed = Vec::new();
        for op in commit.ops() {
            match op {
                Op::Truncate { strand, len } => truncated.push((*strand, *len)),
                Op::Remove { strand } => removed.push(*strand),
                Op::Put { .. }
                | Op::Delete { .. }
                | Op::Write { .. }
                | Op::Packed { .. }
                | Op::Placed { .. }
                | Op::Needs { .. } => {}
            }
        }
        // Once per strand, to its shortest: what one truncate cut off, a longer one after it does not
        // bring back.
        truncated.sort_unstable();
        truncated.dedup_by_key(|(strand, _)| *strand);
        let placed = staged.iter().map(Staged::strand);
        let guards = self.lock_extents(truncated.iter().map(|(strand, _)| *strand).chain(placed));
        for (strand, len) in truncated {
            let old = extents::overlapping(self, strand, len, u64::MAX).map_err(row_error)?;
            extents::truncate(commit, strand, &old, len);
        }
        for staged in staged {
            let (strand, start) = (staged.strand(), staged.start());
            let end = start + staged.len() as u64;
            let old = extents::overlapping(self, strand, start, end).map_err(row_error)?;
            extents::replace(commit, strand, &old, staged.extents());
            for needs in staged.needs() {
                commit.push(needs);
            }
            // Kept until the commit is made, so that its blocks stay in flight until then.
            commit.stage(staged);
        }
        for strand in removed {
            commit.put(REMOVED, removed_key(strand), Bytes::from_static(&[REMOVED_VERSION]));
        }
        Ok(guards)
    }

    /// Takes the extent locks of these strands, in order, each once.
    pub(crate) fn lock_extents(
        &self,
        strands: impl Iterator<Item = StrandId>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = strands.map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|stripe| lock(&self.extent_locks[stripe])).collect()
    }

    pub(crate) fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest version of one row.
    pub(crate) fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if let Some(version) = self.read_state().overlay.find(table, key) {
            return Ok(version.value.clone());
        }
        let stored = self.meta.get(meta_store::Table(table.0), key)?;
        stored.map(|stored| stored_value(&stored)).transpose()
    }
}

impl Rows for Shared {
    fn rows(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        crate::read::merged_rows(self, table, range, order, limit)
    }
}

impl State {
    /// Applies a commit that the journal has taken. `payload`: where its first payload byte lies.
    ///
    /// The cache hears of it here, in the order of commits: from now on it knows nothing of what changed,
    /// and a fill that began before brings nothing.
    fn apply(
        &mut self,
        commit: Commit,
        at: Position,
        payload: Location,
        now: Monotonic,
        cache: Option<&Cache>,
    ) {
        let mut payload = payload;
        self.extent_changes += u64::from(commit.changes_extents());
        if commit.changes_what_users_see() {
            self.unpacked_since.get_or_insert(now);
        }
        for op in commit.into_ops() {
            match op {
                Op::Put { table, key, value } => {
                    self.overlay.push(at, RowChange { table, key, value: Some(value) });
                }
                Op::Delete { table, key } => {
                    self.overlay.push(at, RowChange { table, key, value: None })
                }
                Op::Write { strand, offset, bytes } => {
                    let len = u32::try_from(bytes.len()).expect("a commit is below 4 GiB");
                    if let Some(cache) = cache {
                        cache.forget(strand, offset..offset + u64::from(len));
                    }
                    self.pieces.write(strand, offset, Piece { len, at: payload, written: at });
                    payload = payload.plus(len.into());
                    self.written_bytes += u64::from(len);
                }
                Op::Truncate { strand, len } => {
                    if let Some(cache) = cache {
                        cache.forget(strand, len..u64::MAX);
                    }
                    self.pieces.truncate(strand, len);
                }
                Op::Remove { strand } => {
                    if let Some(cache) = cache {
                        cache.forget(strand, 0..u64::MAX);
                    }
                    self.pieces.remove(strand);
                    self.removed.insert(strand, now);
                }
                Op::Packed { strand, start, len, before } => {
                    self.pieces.packed(strand, start, len, Position::new(before));
                }
                Op::Placed { strand, start, len } => {
                    if let Some(cache) = cache {
                        cache.forget(strand, start..start + u64::from(len));
                    }
                    self.pieces.packed(strand, start, len, at);
                    self.written_bytes += u64::from(len);
                }
                Op::Needs { .. } => {}
            }
        }
    }
}

pub(crate) fn removed_key(strand: StrandId) -> Vec<u8> {
    strand.get().to_be_bytes().to_vec()
}

/// A row's value as the meta store keeps it: the commit that wrote it before the value itself.
pub(crate) fn stamped(at: Position, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(8 + value.len());
    stored.extend_from_slice(&at.get().to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

/// The value within a stored row.
pub(crate) fn stored_value(stored: &Bytes) -> Result<Bytes, ReadError> {
    value_within(stored).map(|value| stored.slice_ref(value))
}

/// The same, borrowed.
pub(crate) fn value_within(stored: &[u8]) -> Result<&[u8], ReadError> {
    let short = || ReadError::Failed("a row of the meta store is too short".to_owned());
    stored.get(8..).ok_or_else(short)
}

/// A lock whose data is whole at any time, so that a panic elsewhere does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn row_error(error: ReadError) -> CommitError {
    CommitError::Failed(error.to_string())
}

fn stripe(strand: StrandId) -> usize {
    usize::try_from(strand.get() % EXTENT_STRIPES as u64).expect("below the number of stripes")
}

fn append_error(error: AppendError) -> CommitError {
    match error {
        AppendError::TooLarge { size, limit } => CommitError::TooLarge { size, limit },
        AppendError::NoSpace => CommitError::NoSpace,
        AppendError::Truncating => CommitError::Failed("the journal's end is being cut".to_owned()),
        AppendError::Closed => CommitError::Failed("the server is stopping".to_owned()),
        error @ AppendError::Replaced => CommitError::Failed(error.to_string()),
        AppendError::Failed { why } => CommitError::Failed(why.to_string()),
    }
}

fn write_error(error: WriteError) -> CommitError {
    match error {
        WriteError::NoSpace => CommitError::NoSpace,
        error @ WriteError::Replaced => CommitError::Failed(error.to_string()),
        WriteError::Failed { why } => CommitError::Failed(why.to_string()),
    }
}

const EXTENT_STRIPES: usize = 64;
const REMOVED_VERSION: u8 = 1;
