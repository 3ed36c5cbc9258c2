//! The handle that services hold.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use block_store::BlockStore;
use bytes::Bytes;
use host::{Host, Space};
use meta_store::MetaStore;

use crate::admit::block_on;
use crate::collect::{self, CollectOptions, CollectRound, Collected, Collection};
use crate::commit::Commit;
use crate::error::{CollectError, CommitError, OpenError, ReadError};
use crate::options::Options;
use crate::read::{Holes, Wanted, merged_rows};
use crate::recover::{self, Recovery};
use crate::shared::{Shared, lock};
use crate::staged::Staged;
use crate::status::Status;
use crate::ticket::{Ticket, sync_error};
use crate::types::{Opening, Order, Position, Positions, StrandId, Table};
use crate::unsynced;

/// The open data path. Clones share it; the last one dropped without [`Strands::close`] leaves it as a
/// crash would.
#[derive(Clone, Debug)]
pub struct Strands {
    pub(crate) shared: Arc<Shared>,
    workers: Arc<Workers>,
}

/// The threads behind a [`Strands`]: committer, block syncers, applier, packer, checkpointer, collector.
#[derive(Debug)]
struct Workers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Strands {
    /// Most bytes in one commit, operations and payload together.
    pub const COMMIT_BYTES_MAX: u64 = 16 << 20;

    /// Recovers the journal in `dir` and starts the threads.
    ///
    /// When it returns, everything acknowledged before is there, and this opening is durable.
    pub fn open(
        host: Host,
        dir: &Path,
        meta: Arc<dyn MetaStore>,
        blocks: Arc<dyn BlockStore>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(recover::open(host, dir, meta, blocks, options)?);
        let workers = Workers { shared: Arc::clone(&shared), threads: Mutex::default() };
        workers.start("committer", |shared| shared.log.run_committer())?;
        for _ in 0..unsynced::THREADS {
            workers.start("block-sync", |shared| shared.run_block_sync())?;
        }
        workers.start("applier", |shared| shared.run_applier())?;
        workers.start("packer", |shared| shared.run_packer())?;
        workers.start("checkpointer", |shared| shared.run_checkpointer())?;
        workers.start("collector", collect::run_collector)?;
        if shared.cache.is_some() {
            workers.start("read-ahead", |shared| shared.run_read_ahead())?;
        }
        Ok(Self { shared, workers: Arc::new(workers) })
    }

    /// What the start found.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Makes everything durable, brings the view up to it and leaves the mark that makes the next start
    /// short. Commits made after this fail.
    pub fn close(&self) -> Result<(), CommitError> {
        self.workers.stop();
        let durable = self.shared.log.sync().map_err(sync_error)?;
        self.shared
            .settle_view(Position::of(durable))
            .map_err(|error| CommitError::Failed(error.to_string()))?;
        // The mark of the close makes the names in its directory durable, this one's among them.
        if let Err(error) = self.shared.checkpoint_index() {
            tracing::warn!(%error, "no checkpoint of the journal's index; the next start reads the journal");
        }
        self.shared.log.clone().close().map_err(sync_error)
    }

    /// Applies a commit: atomic, visible at once, and written when this returns, so that it survives
    /// the process. The ticket waits for a power cut's worth of durability.
    ///
    /// # Errors
    ///
    /// [`CommitError::TooLarge`] leaves everything as it was. After [`CommitError::NoSpace`] and
    /// [`CommitError::Failed`] the commit is not acknowledged, but may be seen and may survive.
    pub fn commit(&self, commit: Commit) -> Result<Ticket, CommitError> {
        let position = self.shared.commit(commit)?;
        Ok(Ticket::new(position, self.shared.log.ticket(position.offset())))
    }

    /// A ticket for everything before `up_to`, which must be a position that a commit returned or
    /// [`Strands::positions`] has shown.
    pub fn ticket(&self, up_to: Position) -> Ticket {
        Ticket::new(up_to, self.shared.log.ticket(up_to.offset()))
    }

    /// Waits until a commit with `payload_bytes` of strand bytes may go ahead: call it before taking
    /// locks of your own, once per change. Changes without payload (deletes) pass also on a full disk.
    ///
    /// # Errors
    ///
    /// [`CommitError::NoSpace`] below the disk's reserve; [`CommitError::Overloaded`] when it has waited for
    /// [`Options::admit_patience`]; [`CommitError::Failed`] when storage failed.
    pub async fn admit(&self, payload_bytes: usize) -> Result<(), CommitError> {
        self.shared.admit(payload_bytes).await
    }

    /// [`Strands::admit`] for a thread that may block.
    pub fn admit_blocking(&self, payload_bytes: usize) -> Result<(), CommitError> {
        block_on(self.shared.admit(payload_bytes))
    }

    /// Whether a write of so many bytes should be staged ([`Strands::stage`]) rather than journalled.
    pub fn should_stage(&self, payload_bytes: usize) -> bool {
        self.shared.should_stage(payload_bytes)
    }

    /// Puts large payload into blocks of its own, for [`Commit::place`]: it never passes the journal. When this returns
    /// it survives the process; a power cut, too, if its writer waits for a sync, and if not, when its commit does. Where
    /// the store takes no block, the journal will get it.
    ///
    /// Without a sync it waits while too much of such payload is not durable. The work is done on a thread for
    /// blocking work; call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`CommitError::NoSpace`] when the disk has no room for it; [`CommitError::Failed`] when storage failed. Nothing
    /// was changed.
    pub async fn stage(
        &self,
        strand: StrandId,
        offset: u64,
        bytes: Bytes,
        waits_for_sync: bool,
    ) -> Result<Staged, CommitError> {
        let shared = Arc::clone(&self.shared);
        let stage = move || shared.stage(strand, offset, bytes, !waits_for_sync);
        let staged = tokio::task::spawn_blocking(stage).await;
        staged.unwrap_or_else(|error| Err(CommitError::Failed(error.to_string())))
    }

    /// [`Strands::stage`] for a thread that may block and waits for the sync.
    pub fn stage_blocking(
        &self,
        strand: StrandId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Staged, CommitError> {
        self.shared.stage(strand, offset, bytes, false)
    }

    /// [`Strands::stage`] for a thread that may block and does not wait for a sync.
    pub fn stage_unsynced_blocking(
        &self,
        strand: StrandId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Staged, CommitError> {
        self.shared.stage(strand, offset, bytes, true)
    }

    /// A strand that never was. Its number is durable no later than any commit that uses it.
    pub fn mint(&self) -> Result<StrandId, CommitError> {
        self.shared.mint().map(StrandId::from_raw)
    }

    /// The value of a row, as of all commits so far.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.shared.row(table, key)
    }

    /// At most `limit` rows of a range, keys and values, as of all commits so far.
    pub fn rows(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        merged_rows(&self.shared, table, range, order, limit)
    }

    /// Exactly `len` bytes of a strand from `offset`; what was never written is zeros.
    ///
    /// What neither the journal nor the cache holds is looked for on a thread for blocking work; call it within a
    /// tokio runtime.
    pub async fn read(&self, strand: StrandId, offset: u64, len: u32) -> Result<Bytes, ReadError> {
        self.read_wanted(Wanted { strand, start: offset, len, holes: Holes::Zeros }).await
    }

    /// The same of a strand that was written without gaps: a hole is an error, not zeros.
    pub async fn read_dense(
        &self,
        strand: StrandId,
        offset: u64,
        len: u32,
    ) -> Result<Bytes, ReadError> {
        self.read_wanted(Wanted { strand, start: offset, len, holes: Holes::Refuse }).await
    }

    /// [`Strands::read`] for a thread that may block.
    pub fn read_blocking(
        &self,
        strand: StrandId,
        offset: u64,
        len: u32,
    ) -> Result<Bytes, ReadError> {
        self.shared.read(Wanted { strand, start: offset, len, holes: Holes::Zeros })
    }

    /// [`Strands::read_dense`] for a thread that may block.
    pub fn read_dense_blocking(
        &self,
        strand: StrandId,
        offset: u64,
        len: u32,
    ) -> Result<Bytes, ReadError> {
        self.shared.read(Wanted { strand, start: offset, len, holes: Holes::Refuse })
    }

    /// One past the last byte of a strand that was written and not cut since.
    pub fn end(&self, strand: StrandId) -> Result<u64, ReadError> {
        self.shared.end(strand)
    }

    /// How far the journal has come.
    pub fn positions(&self) -> Positions {
        self.shared.positions()
    }

    /// Resolves to the durable position once it is beyond `seen`; `None` when there will be no more.
    pub async fn wait_durable_beyond(&self, seen: Position) -> Option<Position> {
        let mut durable = self.shared.durable.subscribe();
        let reached =
            durable.wait_for(|durable| durable.is_none_or(|durable| durable > seen)).await;
        reached.ok().and_then(|durable| *durable)
    }

    /// Which opening of the data directory this is.
    pub fn opening(&self) -> Opening {
        self.shared.opening
    }

    /// Names the time between two moments at which unsynced writes may have been lost: changes with
    /// every run of the operating system and every failed sync.
    ///
    /// Not with every start: what was written survives the process, and a client that sent its unsynced
    /// writes again after a mere restart could put them over what another client has synced since.
    pub fn write_epoch(&self) -> u64 {
        (self.shared.opening.system_runs << 24)
            | self.shared.log.stats().failed_syncs.min(0xff_ffff)
    }

    /// The machine that this runs on.
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Room on the disk, less the reserve that writers may not use.
    pub fn space(&self) -> std::io::Result<Space> {
        let space = self.shared.host.disk.space(&self.shared.dir)?;
        let reserve = self.shared.options.reserve_on(space.total_bytes);
        Ok(Space { available_bytes: space.available_bytes.saturating_sub(reserve), ..space })
    }

    /// A look at everything, for people and metrics.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Packs everything that the journal holds now, and trims it. Blocks until done.
    pub fn pack_now(&self) -> Result<(), CommitError> {
        self.shared.pack_round().map_err(|error| error.answer())
    }

    /// Takes the turn of the next round of collection.
    ///
    /// # Errors
    ///
    /// [`CollectError::Busy`] while another round runs.
    pub fn start_collecting(&self, options: CollectOptions) -> Result<CollectRound, CollectError> {
        collect::start(&self.shared, options)
    }

    /// Runs a round of collection. Blocks until done.
    ///
    /// # Errors
    ///
    /// After a [`CollectError`] nothing was deleted.
    pub fn collect(&self, options: CollectOptions) -> Result<Collected, CollectError> {
        self.start_collecting(options)?.run()
    }

    /// What collection is doing and has done.
    pub fn collection(&self) -> Collection {
        self.shared.collection()
    }

    /// The same, with a checkpoint of the rows, so that a restore has little to read.
    pub fn checkpoint_now(&self) -> Result<(), CommitError> {
        self.shared.pack_with_checkpoint(true).map_err(|error| error.answer())
    }

    async fn read_wanted(&self, wanted: Wanted) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.shared.read_at_hand(wanted)? {
            return Ok(bytes);
        }
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || shared.read(wanted)).await;
        read.unwrap_or_else(|error| Err(ReadError::Failed(error.to_string())))
    }
}

impl Workers {
    fn start(&self, name: &str, body: fn(&Arc<Shared>)) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        let thread = host::spawn(name, move || body(&shared))
            .map_err(|error| OpenError::Io { what: "starting a thread", error })?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Under the lock, so that a thread that is about to wait sees the flag or gets the call.
        drop(lock(&self.shared.pack_wanted));
        self.shared.pack_wake.notify_all();
        self.shared.checkpointing.stop();
        self.shared.progress.notify_waiters();
        self.shared.unsynced.stop();
        if let Some(cache) = &self.shared.cache {
            cache.wake_to_stop();
        }
        self.shared.log.stop_committer();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the data path panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}
