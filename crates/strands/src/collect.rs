//! Collection: finds the blocks that nobody needs any more and gives their room back.
//!
//! A round, one at a time, in this order:
//!
//! 1. look which blocks are in flight (`in_flight.rs`): minted, and not committed yet;
//! 2. **mark** (`mark.rs`): read every extent; what they name is live. Also live is what the store's roots
//!    name;
//! 3. wait until all that the mark has seen is durable: bytes that a truncate gave up are needed again if
//!    a power cut takes the truncate back;
//! 4. make sure that the store is still ours;
//! 5. list the store: a block that is not live, was not in flight, and is older than the grace period is
//!    dead. Names that were minted after step 1 are not looked at;
//! 6. if any is dead: see to it that the newest root in the store is newer than the mark, so that a node that is
//!    restored from it needs none of them. (What only the root before needs is not kept: a node that is restored
//!    from that one says so when such bytes are read.) Then **sweep** (`sweep.rs`): delete the dead, a batch at a time;
//! 7. **rewrite** (`crate::compact`): blocks of which little lives, those first that give back most for what is moved;
//!    then strands that lie in many small parts. In the background only as much as was earned (`pace.rs`), and only
//!    strands that nobody writes to. What that leaves behind is dead in the next round.
//!
//! Any failure before the sweep ends the round, with nothing deleted.
//!
//! Why a dead block stays dead: extents only ever name blocks that were in flight, and names are never
//! used again. Why the mark misses none although it reads page after page while commits go on: an extent that
//! is changed keeps its key or moves to a higher one, so it is met at its old or at its new place.
//!
//! A read that was planned before may still look for a block that is gone: it plans again (`crate::read`).

mod best;
mod in_flight;
mod live_blocks;
mod mark;
mod pace;
mod sweep;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use block_store::BlockName;

use crate::compact::{Candidates, Rewriting};
use crate::error::{CollectError, CommitError};
use crate::owner::TakeError;
use crate::pack::PackError;
use crate::shared::{Shared, lock};
use crate::ticket::sync_error;
use crate::types::Position;

pub(crate) use in_flight::{BlockMint, MintedBlock};
pub(crate) use mark::{STRETCH_BYTES, Stretch};
pub(crate) use pace::Pace;

use in_flight::InFlight;
use mark::Live;

/// What a round of collection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// Only look; change nothing.
    pub dry_run: bool,
    /// Blocks younger than this are left alone.
    pub grace: Duration,
    /// How much is rewritten.
    pub effort: Effort,
    /// Most payload that is rewritten in a round; 0 for none.
    pub rewrite_bytes_max: u64,
    /// Strands that lie in many parts are in peace when they were not written to for so long, as far as is known: nothing
    /// is when the server has not run for so long.
    pub cold: Duration,
}

/// How much a round of collection rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// At most a byte for each two that were written since the first start, and of what lies in many parts only what
    /// is in peace. When the disk is short of room and the blocks lie on it, all blocks of which little lives.
    Paced,
    /// Everything that is worth it.
    Full,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            grace: Duration::from_secs(60 * 60),
            effort: Effort::Paced,
            rewrite_bytes_max: 4 << 30,
            cold: Duration::from_secs(60 * 60),
        }
    }
}

/// What a round of collection found and did. Bytes of blocks count their headers and footers; bytes of
/// strands do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Extents that were read.
    pub marked_extents: u64,
    /// Blocks that extents name.
    pub live_blocks: u64,
    /// Bytes of strands that extents name.
    pub live_bytes: u64,
    /// Blocks in the store.
    pub stored_blocks: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Blocks that nobody needs and that are old enough.
    pub dead_blocks: u64,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Dead blocks that were deleted.
    pub deleted_blocks: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Blocks that nobody needs, kept because they are younger than the grace period.
    pub young_blocks: u64,
    /// Their bytes.
    pub young_bytes: u64,
    /// Blocks that extents name and that the store does not have. `strandline fsck` says which.
    pub missing_blocks: u64,
    /// Blocks of which less than half lives.
    pub sparse_blocks: u64,
    /// Stretches of 4 MiB of a strand that lie in more than 64 parts.
    pub scattered_stretches: u64,
    /// Bytes of strands that were rewritten.
    pub rewritten_bytes: u64,
    /// Blocks that were written for that.
    pub written_blocks: u64,
    /// Bytes that may be rewritten at [`Effort::Paced`] before more is written.
    pub allowance_bytes: u64,
    /// Things that went wrong after the mark; each left everything as it was.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Collected {
    pub(crate) fn failed(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "collection left something undone");
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// What a round is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectPhase {
    /// Reading extents.
    Mark,
    /// Listing blocks.
    List,
    /// Deleting blocks.
    Sweep,
    /// Rewriting sparse blocks and scattered strands; counted in bytes.
    Rewrite,
}

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectProgress {
    /// What it is doing.
    pub phase: CollectPhase,
    /// How much of that is done: extents, blocks, or bytes.
    pub done: u64,
    /// Of how much, where that is known.
    pub total: Option<u64>,
}

/// Rounds of collection since the start.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The round that runs.
    pub running: Option<CollectProgress>,
    /// Rounds that have ended. The first has number 1.
    pub ended: u64,
    /// How the last one ended.
    pub last: Option<Result<Collected, CollectError>>,
    /// When it did, milliseconds since 1970.
    pub last_ended_ms: Option<i64>,
    /// Blocks deleted by all of them.
    pub deleted_blocks: u64,
    /// Bytes of these.
    pub deleted_bytes: u64,
    /// Bytes of strands that they rewrote.
    pub rewritten_bytes: u64,
}

/// A round that has its turn; nothing happens before it is run.
#[derive(Debug)]
pub struct CollectRound {
    shared: Arc<Shared>,
    options: CollectOptions,
    number: u64,
    ended: bool,
}

impl CollectRound {
    /// Its number, counted from the start of the server.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Runs it. Blocks until done.
    ///
    /// # Errors
    ///
    /// After a [`CollectError`] nothing was deleted.
    pub fn run(mut self) -> Result<Collected, CollectError> {
        let ended = self.shared.collect_round(&self.options);
        self.end(ended.clone());
        ended
    }

    fn end(&mut self, ended: Result<Collected, CollectError>) {
        let mut collection = lock(&self.shared.collection);
        collection.running = None;
        collection.ended += 1;
        collection.last_ended_ms = Some(self.shared.host.clock.wall().millis());
        if let Ok(collected) = &ended {
            collection.rewritten_bytes += collected.rewritten_bytes;
            collection.deleted_blocks += collected.deleted_blocks;
            collection.deleted_bytes += collected.deleted_bytes;
        }
        collection.last = Some(ended);
        self.ended = true;
    }
}

impl Drop for CollectRound {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(CollectError::Stopping));
        }
    }
}

/// Takes the turn of the next round.
///
/// # Errors
///
/// [`CollectError::Busy`] while another has it.
pub(crate) fn start(
    shared: &Arc<Shared>,
    options: CollectOptions,
) -> Result<CollectRound, CollectError> {
    let mut collection = lock(&shared.collection);
    if collection.running.is_some() {
        return Err(CollectError::Busy);
    }
    collection.running = Some(CollectProgress { phase: CollectPhase::Mark, done: 0, total: None });
    let number = collection.ended + 1;
    Ok(CollectRound { shared: Arc::clone(shared), options, number, ended: false })
}

/// Body of the collector's thread.
pub(crate) fn run_collector(shared: &Arc<Shared>) {
    let Some(every) = shared.options.collect_every else { return };
    let mut pause = every;
    loop {
        shared.pause(pause);
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        // Whoever asked for a round that runs now has done our work.
        let Ok(round) = start(shared, shared.options.collect.clone()) else { continue };
        pause = every;
        match round.run() {
            // There was more to do than a round may.
            Ok(round) if round.rewritten_bytes > shared.options.collect.rewrite_bytes_max / 2 => {
                pause = every.min(GO_ON);
            }
            Ok(_) | Err(CollectError::Stopping) => {}
            Err(error) => {
                tracing::warn!(%error, "a round of collection ended; nothing was deleted")
            }
        }
    }
}

impl Shared {
    pub(crate) fn collection(&self) -> Collection {
        lock(&self.collection).clone()
    }

    fn collect_round(&self, options: &CollectOptions) -> Result<Collected, CollectError> {
        let started = self.host.clock.monotonic();
        let mut collected = Collected { dry_run: options.dry_run, ..Collected::default() };
        let in_flight = self.block_mint.look();
        let cold_before = match (options.effort, options.dry_run) {
            (Effort::Full, _) => Position::new(u64::MAX),
            (Effort::Paced, true) => Position::START,
            (Effort::Paced, false) => self.cold_before(options.cold),
        };
        let live = self.mark(&in_flight, cold_before)?;
        let pinned = self.pinned_blocks()?;
        if !options.dry_run {
            self.settle_mark()?;
        }
        let marked = Position::of(self.log.positions().appended);
        let found = self.find(&live, &pinned, &in_flight, options, &mut collected)?;
        if !options.dry_run {
            if !found.dead.is_empty() {
                self.have_root_since(marked)?;
            }
            self.sweep(&found.dead, &mut collected);
            let candidates = Candidates { sparse: found.sparse, scattered: live.scattered };
            self.rewrite_some(candidates, options, &mut collected);
        }
        collected.took = self.host.clock.monotonic().since(started);
        Ok(collected)
    }

    /// Rewrites as much as the round may.
    fn rewrite_some(
        &self,
        mut candidates: Candidates,
        options: &CollectOptions,
        collected: &mut Collected,
    ) {
        let also_hot = options.effort == Effort::Full;
        let is_short = self.is_space_short();
        if is_short {
            // That gives no room.
            candidates.scattered.clear();
        }
        let allowance = self.allowance(collected.stored_bytes);
        let is_paced = !also_hot && !is_short;
        let bytes_max = if is_paced { allowance } else { u64::MAX };
        let how_far = Rewriting { bytes_max: bytes_max.min(options.rewrite_bytes_max), also_hot };
        let copied = self.rewrite(candidates, how_far, collected);
        match self.spend_allowance(if is_paced { copied } else { 0 }) {
            Ok(left) => collected.allowance_bytes = left,
            Err(error) => collected.failed(&error),
        }
    }

    /// Whether deleting blocks is what the disk needs most.
    fn is_space_short(&self) -> bool {
        !self.blocks.is_remote() && self.is_disk_low()
    }

    /// Makes durable what the mark has seen.
    fn settle_mark(&self) -> Result<(), CollectError> {
        let seen = self.log.positions().appended;
        let waited = self.log.ticket(seen).wait();
        waited.map_err(|error| CollectError::Commit(sync_error(error)))?;
        self.check_owner().map_err(|error| match error {
            TakeError::Owner(error) => CollectError::Owner(error),
            TakeError::Store(why) => CollectError::Store(why),
        })
    }

    /// Blocks that a root names; they stay where they are.
    fn pinned_blocks(&self) -> Result<HashSet<BlockName>, CollectError> {
        let last = self.last_root()?;
        let roots = self.published_roots()?.into_iter().chain(last);
        Ok(roots.flat_map(|root| root.blocks().collect::<Vec<_>>()).collect())
    }

    /// Makes sure that the newest root in the store is of `marked` or later: it needs nothing that was dead then.
    fn have_root_since(&self, marked: Position) -> Result<(), CollectError> {
        let reaches = || -> Result<bool, CollectError> {
            Ok(self.published_roots()?.last().is_some_and(|root| root.position >= marked))
        };
        if reaches()? {
            return Ok(());
        }
        let failed = |error: PackError| CollectError::Commit(error.answer());
        self.pack_round().map_err(failed)?;
        for _ in 0..ROOT_LOOKS {
            if reaches()? {
                return Ok(());
            }
            if let Some(why) = lock(&self.pack_stats).root_error.clone() {
                return Err(CollectError::Store(why));
            }
            self.go_on_marking()?;
            self.pause(ROOT_LOOK);
            self.publish_waiting().map_err(failed)?;
        }
        Err(CollectError::Store("it has not got the newest root yet".to_owned()))
    }

    pub(crate) fn tell_collecting(&self, phase: CollectPhase, done: u64, total: Option<u64>) {
        lock(&self.collection).running = Some(CollectProgress { phase, done, total });
    }

    /// Ends a round that has deleted nothing yet when the server stops.
    fn go_on_marking(&self) -> Result<(), CollectError> {
        if self.is_stopping() { Err(CollectError::Stopping) } else { Ok(()) }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the overlay has room again after the commit that ended at `done`: nobody admits the
    /// commits of the packer and the collector, so they see to it themselves that they do not pile up.
    pub(crate) fn ease_overlay(&self, done: Position) -> Result<(), CommitError> {
        if self.read_state().overlay.bytes() <= self.options.overlay_bytes_max / 2 {
            return Ok(());
        }
        self.log.ticket(done.offset()).wait().map_err(sync_error)?;
        self.apply(done).map_err(|error| CommitError::Failed(error.to_string()))
    }
}

/// Until the next round when one had more to rewrite than it may.
const GO_ON: Duration = Duration::from_secs(10);
/// How often, and how many times, collection looks whether a root has reached the store.
const ROOT_LOOK: Duration = Duration::from_millis(200);
const ROOT_LOOKS: u32 = 300;
