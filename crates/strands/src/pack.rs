//! The packer: moves what is old from the journal into blocks, then lets the journal go.
//!
//! A round seals the journal's last segment (T: where the sealed ones end) and takes one moment: a place P
//! behind T and all bytes that lie in the journal at P. What is packed is therefore exactly what was there
//! at P, and with the rows of P a whole state. Then, in order of strand and offset, a block at a time:
//!
//! 0. wait until P is durable, and check the journal up to P against its checksums, from where the last
//!    round did;
//! 1. put the block, durable when it returns;
//! 2. commit the extents: under the strands' extent locks and the state's lock it is looked again which
//!    of the block's bytes are still current, and only those get extents;
//! 3. when all of P is packed: write what the journal told up to P to the ledger (`ledger.rs`), and from time to time
//!    a checkpoint, and commit where that lies;
//! 4. wait until these commits are durable, bring the meta store past them and sync it, and only then trim the
//!    journal to T;
//! 5. put the root into the store, from which a node can be restored as of P (`publish.rs`).
//!
//! The bytes are in hand then, so the newest of them also go into the cache.
//!
//! A crash between any two steps leaves a block that nobody names, or a journal that holds what a block
//! holds as well; recovery reads both rightly. What was overwritten or cut while a block was written
//! is newer than P and wins, because a packed operation takes out of the index only what is older.
//!
//! On a nearly full disk the round is preceded by steps that pack and trim one sealed segment each: their
//! bytes are of no one moment, but each gives some room back.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use block_store::{BLOCK_BYTES_MAX, BLOCK_PIECES_MAX, Block, PutError};
use bytes::Bytes;
use durable_log::{Location, SegmentInfo};
use meta_store::Snapshot;

use crate::cached::{Cache, WORTH_BYTES};
use crate::commit::{Commit, Op};
use crate::error::{CommitError, ReadError};
use crate::extents::{self, Extent};
use crate::ledger::Section;
use crate::owner::OwnerError;
use crate::pieces::{Piece, Placed};
use crate::run::{Part, Run, build};
use crate::shared::{PackTrouble, REMOVED, Shared, State, lock, removed_key};
use crate::ticket::sync_error;
use crate::types::{Order, Position, StrandId};
use block_cache::Fill;

/// Why a round of packing stopped early. What it did before stays done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The disk has no room for a block.
    #[error("no room for a block: {0}")]
    NoSpace(String),
    /// The block store takes no block for now. It will, by itself.
    #[error("{0}")]
    StoreFull(String),
    /// The block store or the meta store failed.
    #[error("{0}")]
    Store(String),
    /// The journal's bytes cannot be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The commit of the extents failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store belongs to somebody else.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The server stops; the next start goes on.
    #[error("the server is stopping")]
    Stopping,
}

impl PackError {
    /// What someone is told who waits for room in the journal.
    pub(crate) fn answer(&self) -> CommitError {
        match self {
            Self::NoSpace(_) => CommitError::NoSpace,
            Self::Commit(CommitError::NoSpace) => CommitError::NoSpace,
            Self::Commit(_)
            | Self::StoreFull(_)
            | Self::Store(_)
            | Self::Read(_)
            | Self::Owner(_)
            | Self::Stopping => CommitError::Failed(format!("packing the journal: {self}")),
        }
    }

    fn trouble(self) -> PackTrouble {
        let answer = match &self {
            Self::StoreFull(_) => None,
            other => Some(other.answer()),
        };
        PackTrouble { answer, why: self.to_string() }
    }
}

/// What a round packs.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Everything that commits before this one wrote.
    before: Position,
    /// Bytes of the journal from here on also go into the cache.
    warm_from: Location,
}

/// All that there is at one position.
struct Moment {
    at: Position,
    /// What lies in the journal.
    pieces: Vec<Placed>,
    /// The rows, when they were asked for.
    rows: Option<Box<dyn Snapshot>>,
}

impl Shared {
    /// Body of the packer's thread.
    pub(crate) fn run_packer(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.pack_hinted.store(false, Ordering::Release);
            // One does not wait for the other: a strand that cannot be cleaned fills no journal.
            let cleaned = self.clean_removed();
            let packed = if self.is_due() { self.pack_round() } else { self.publish_waiting() };
            let failed = cleaned.is_err() || packed.is_err();
            for error in [&cleaned, &packed].into_iter().filter_map(|result| result.as_ref().err())
            {
                // A round that a stop interrupts is no fault; the next start packs on.
                if !self.stopping.load(Ordering::Acquire) {
                    tracing::warn!(%error, "packing stopped; trying again");
                }
            }
            lock(&self.pack_stats).last_error = packed.err().map(PackError::trouble);
            self.progress.notify_waiters();
            if failed {
                // However many ask: a full disk must not be tried again for each refused write.
                self.pause(RETRY);
            } else {
                self.wait_for_work(self.next_look());
            }
        }
    }

    /// Tries again to put a root into the store that did not take it.
    pub(crate) fn publish_waiting(&self) -> Result<(), PackError> {
        if !self.root_waits.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.packing);
        self.publish_root()
    }

    /// Asks for a look at the triggers now. Cheap when it was asked for already.
    pub(crate) fn want_packing(&self) {
        if !self.pack_hinted.swap(true, Ordering::AcqRel) {
            *lock(&self.pack_wanted) = true;
            self.pack_wake.notify_all();
        }
    }

    /// Packs everything that is in the journal now, whatever the triggers say, and trims.
    pub(crate) fn pack_round(&self) -> Result<(), PackError> {
        self.pack_with_checkpoint(false)
    }

    /// The same, with a checkpoint if one is `wanted`, also when none is due.
    pub(crate) fn pack_with_checkpoint(&self, wanted: bool) -> Result<(), PackError> {
        let _one_at_a_time = lock(&self.packing);
        // Without room for a new segment, those that are sealed already may still be let go.
        let rolled = self.log.roll().map_err(|error| PackError::Commit(sync_error(error)));
        if !matches!(rolled, Ok(()) | Err(PackError::Commit(CommitError::NoSpace))) {
            return rolled;
        }
        if rolled.is_err() || self.is_disk_low() {
            self.pack_in_steps()?;
        }
        rolled?;
        self.pack_checked()?;
        // What comes from here on may or may not be of this round's moment: there is one more then.
        let since = self.write_state().unpacked_since.take();
        if let Err(error) = self.pack_moment(wanted) {
            let mut state = self.write_state();
            state.unpacked_since = since.or(state.unpacked_since);
            return Err(error);
        }
        self.publish_root()
    }

    /// Packs and lets go one sealed segment after the other, so that each gives some room back.
    fn pack_in_steps(&self) -> Result<(), PackError> {
        for segment in self.sealed() {
            let before = Position::of(segment.next);
            let mut ledger = self.begin_step(before)?;
            self.verify_before(before, &mut ledger)?;
            let pieces = self.read_state().pieces.written_before(before);
            self.pack_pieces(pieces, before, None)?;
            ledger.end(None, false)?;
            self.trim_before(before)?;
        }
        Ok(())
    }

    /// Packs all that lies in the journal at one moment, tells the ledger, and lets the sealed segments go.
    fn pack_moment(&self, checkpoint_wanted: bool) -> Result<(), PackError> {
        // First, so that what is trimmed was there at the moment.
        let sealed = self.sealed().last().map(|segment| Position::of(segment.next));
        let plan = self.plan_ledger(checkpoint_wanted)?;
        let Moment { at, pieces, rows } = self.moment(plan.with_checkpoint)?;
        let mut ledger = self.begin_section(plan, at)?;
        self.verify_before(at, &mut ledger)?;
        self.pack_pieces(pieces, at, Some(&mut ledger))?;
        ledger.end(rows.as_deref(), true)?;
        sealed.map_or(Ok(()), |sealed| self.trim_before(sealed))
    }

    /// Takes the moment of a round; what happened before it is durable when this returns.
    fn moment(&self, with_rows: bool) -> Result<Moment, PackError> {
        // Until the rows are taken, nothing that is newer may reach the meta store.
        let in_order = with_rows.then(|| lock(&self.applying));
        let (at, pieces) = {
            // Commits are appended under the same lock.
            let state = self.read_state();
            let at = Position::of(self.log.positions().appended);
            (at, state.pieces.written_before(at))
        };
        self.wait_durable(at)?;
        let store = |error: meta_store::MetaError| PackError::Store(error.to_string());
        let rows = match &in_order {
            Some(in_order) => {
                self.apply_in_order(in_order, at).map_err(store)?;
                Some(self.meta.snapshot().map_err(store)?)
            }
            None => None,
        };
        Ok(Moment { at, pieces, rows })
    }

    fn sealed(&self) -> Vec<SegmentInfo> {
        self.log.segments().into_iter().filter(|segment| segment.sealed).collect()
    }

    /// Packs these pieces, which commits before `before` wrote, and tells the ledger where they went.
    fn pack_pieces(
        &self,
        pieces: Vec<Placed>,
        before: Position,
        mut ledger: Option<&mut Section<'_>>,
    ) -> Result<(), PackError> {
        let newest = pieces.iter().map(|placed| placed.piece.at.get()).max().unwrap_or(0);
        let warm_bytes = self.cache.as_ref().map_or(0, Cache::warm_bytes);
        let round = Round { before, warm_from: Location::new(newest.saturating_sub(warm_bytes)) };
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some() {
            if self.stopping.load(Ordering::Acquire) {
                return Err(PackError::Stopping);
            }
            let runs = self.fill_block(&mut pieces)?;
            let packed = self.settle_block(runs, round)?;
            if let Some(ledger) = &mut ledger {
                ledger.packed(&packed)?;
            }
            self.progress.notify_waiters();
        }
        Ok(())
    }

    /// Lets the journal go up to `before`, of which everything is packed.
    fn trim_before(&self, before: Position) -> Result<(), PackError> {
        let done = Position::of(self.log.positions().appended);
        self.wait_durable(done)?;
        self.settle_view(done).map_err(|error| PackError::Store(error.to_string()))?;
        self.log.trim(before.offset()).map_err(|error| PackError::Store(error.to_string()))?;
        self.progress.notify_waiters();
        Ok(())
    }

    /// Checks the journal's checksums up to `before`, from where that was done last. Pieces are read without them, and
    /// a damaged one must not get a block's checksum and then lose the journal's. The same look tells the ledger what
    /// happened, from where it ended.
    fn verify_before(&self, before: Position, ledger: &mut Section<'_>) -> Result<(), PackError> {
        let damaged = |error: durable_log::ReadError| PackError::Store(error.to_string());
        let checked = lock(&self.pack_stats).checked_before;
        let from = ledger.next().map_or(checked, |next| next.min(checked));
        let from = from.max(Position::of(self.log.positions().start));
        let mut read = 0;
        let mut records = self.log.iter(from.offset()).map_err(damaged)?;
        while let Some(record) = records.next().map_err(damaged)? {
            if record.offset >= before.offset() {
                break;
            }
            ledger.commit(&record)?;
            read += 1;
        }
        let mut stats = lock(&self.pack_stats);
        stats.checked_before = stats.checked_before.max(before);
        stats.read_commits += read;
        Ok(())
    }

    /// Packs what an earlier round has checked and then could not pack. So while the store takes no block, the journal
    /// is not read again for each try.
    fn pack_checked(&self) -> Result<(), PackError> {
        let checked = lock(&self.pack_stats).checked_before;
        let pieces = self.read_state().pieces.written_before(checked);
        self.pack_pieces(pieces, checked, None)
    }

    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), PackError> {
        let waited = self.log.ticket(position.offset()).wait();
        waited.map_err(|error| PackError::Commit(sync_error(error)))
    }

    /// Takes pieces for one block and reads them, joining those that follow each other.
    fn fill_block(
        &self,
        pieces: &mut std::iter::Peekable<impl Iterator<Item = Placed>>,
    ) -> Result<Vec<Run>, PackError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut room = BLOCK_BYTES_MAX;
        while let Some(next) = pieces.peek() {
            let joins =
                runs.last().is_some_and(|run| run.strand == next.strand && run.end() == next.start);
            let full = !joins && runs.len() >= BLOCK_PIECES_MAX as usize;
            // A piece is at most a commit long, which can be more than a block.
            if full || (next.piece.len > room && room < BLOCK_BYTES_MAX) {
                break;
            }
            let Some(placed) = pieces.next() else { break };
            let bytes = self.read_piece(&placed)?;
            if placed.piece.len > BLOCK_BYTES_MAX {
                return Ok(vec![Run::new(placed.strand, placed.start, part_of(&placed, bytes))]);
            }
            room -= placed.piece.len;
            match runs.last_mut() {
                Some(run) if joins => run.join(part_of(&placed, bytes)),
                _ => runs.push(Run::new(placed.strand, placed.start, part_of(&placed, bytes))),
            }
        }
        Ok(runs)
    }

    /// The bytes of a piece; one that was overwritten or cut meanwhile is still read, and dropped later.
    fn read_piece(&self, placed: &Placed) -> Result<Bytes, ReadError> {
        let unresolvable = |why: String| ReadError::Unresolvable {
            strand: placed.strand,
            offset: placed.start,
            why,
        };
        let slice = self
            .log
            .slice(placed.piece.at, placed.piece.len)
            .map_err(|error| unresolvable(error.to_string()))?;
        slice.read().map_err(|error| unresolvable(error.to_string()))
    }

    /// Writes runs into one block, or into several when a single run is longer than a block.
    /// Returns where they are.
    fn settle_block(
        &self,
        runs: Vec<Run>,
        round: Round,
    ) -> Result<Vec<(StrandId, Extent)>, PackError> {
        let whole: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
        if whole <= u64::from(BLOCK_BYTES_MAX) {
            return self.put_and_commit(&runs, round);
        }
        let mut packed = Vec::new();
        for run in &runs {
            for slice in run.split(BLOCK_BYTES_MAX) {
                packed.extend(self.put_and_commit(&[slice], round)?);
            }
        }
        Ok(packed)
    }

    fn put_and_commit(
        &self,
        runs: &[Run],
        round: Round,
    ) -> Result<Vec<(StrandId, Extent)>, PackError> {
        // In flight until the extents are committed, or the block is given up.
        let minted = self.block_mint.mint();
        let (block, extents) =
            build(minted.name(), runs).map_err(|error| PackError::Store(error.to_string()))?;
        let bytes: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
        self.put_block(&block)?;
        let fills = self.warm(runs, round.warm_from);
        let current = self.commit_extents(&extents, round.before)?;
        bring(&fills, &block, &current);
        let mut stats = lock(&self.pack_stats);
        stats.blocks += 1;
        stats.bytes += bytes;
        Ok(extents)
    }

    /// Puts a block, durable when it returns, unless the store is not ours any more.
    pub(crate) fn put_block(&self, block: &Block) -> Result<(), PackError> {
        self.not_fenced()?;
        self.blocks.put(block).map_err(|error| match error {
            PutError::NoSpace { .. } => PackError::NoSpace(error.to_string()),
            PutError::Full { .. } => PackError::StoreFull(error.to_string()),
            PutError::AlreadyExists { .. } | PutError::Io { .. } => {
                PackError::Store(error.to_string())
            }
        })
    }

    /// Begins to bring into the cache what of these runs is newest. Before it is looked which bytes are
    /// current, so that what is written after that ends it.
    fn warm(&self, runs: &[Run], from: Location) -> Vec<Fill<'_>> {
        let Some(cache) = &self.cache else { return Vec::new() };
        let is_worth = |run: &&Run| run.last >= Some(from) && run.len >= WORTH_BYTES;
        let of_strand = |runs: &[Run]| {
            let worth = runs.iter().filter(is_worth).map(|run| run.start..run.end());
            cache.fills(runs[0].strand, worth)
        };
        runs.chunk_by(|one, other| one.strand == other.strand).flat_map(of_strand).collect()
    }

    /// Commits where the bytes of a block now are, as far as they are still current; those are returned,
    /// and are in order as `packed` is.
    fn commit_extents(
        &self,
        packed: &[(StrandId, Extent)],
        before: Position,
    ) -> Result<Vec<(StrandId, Extent)>, PackError> {
        let _extents = self.lock_extents(packed.iter().map(|(strand, _)| *strand));
        // Neighbours together: an old extent can lie below several new ones, but not below two that are
        // a block apart. What lies in wide gaps is not read.
        let strands: Vec<_> = packed
            .chunk_by(|(one, first), (other, next)| {
                one == other && next.start - first.end() < u64::from(BLOCK_BYTES_MAX)
            })
            .map(|new| {
                let (strand, first) = &new[0];
                let end = new.last().map_or_else(|| first.end(), |(_, last)| last.end());
                Ok((*strand, new, extents::overlapping(self, *strand, first.start, end)?))
            })
            .collect::<Result<_, ReadError>>()?;
        let mut state = self.write_state();
        let mut commit = Commit::new();
        let mut all_current = Vec::with_capacity(packed.len());
        for (strand, new, old) in &strands {
            let current: Vec<_> = new
                .iter()
                .flat_map(|(_, extent)| still_current(&state, *strand, extent, before))
                .collect();
            extents::replace(&mut commit, *strand, old, &current);
            all_current.extend(current.into_iter().map(|extent| (*strand, extent)));
            for (_, Extent { start, len, .. }) in *new {
                let before = before.get();
                commit.push(Op::Packed { strand: *strand, start: *start, len: *len, before });
            }
        }
        let head = commit.encode_head(crate::Strands::COMMIT_BYTES_MAX)?;
        self.append_locked(&mut state, &mut commit, &head)?;
        drop(state);
        self.write_out()?;
        Ok(all_current)
    }

    /// Ends strands that were removed: deletes their extents, a bounded number per commit.
    fn clean_removed(&self) -> Result<(), PackError> {
        let now = self.host.clock.monotonic();
        let due: Vec<_> = self
            .read_state()
            .removed
            .iter()
            .filter(|(_, since)| now.since(**since) >= REMOVED_GRACE)
            .map(|(strand, _)| *strand)
            .collect();
        for strand in due {
            self.clean_strand(strand)?;
            self.write_state().removed.remove(&strand);
        }
        Ok(())
    }

    fn clean_strand(&self, strand: StrandId) -> Result<(), PackError> {
        let _extents = self.lock_extents(std::iter::once(strand));
        loop {
            let old = extents::last(self, strand, CLEAN_STEP_ROWS)?;
            let mut commit = Commit::new();
            extents::truncate(&mut commit, strand, &old, 0);
            if old.is_empty() {
                commit.delete(REMOVED, removed_key(strand));
            }
            let done = self.append(commit)?;
            self.write_out()?;
            if old.is_empty() {
                return Ok(());
            }
            if self.stopping.load(Ordering::Acquire) {
                return Err(PackError::Stopping);
            }
            self.ease_overlay(done)?;
        }
    }

    /// Whether one of the triggers says that it is time.
    pub(crate) fn is_due(&self) -> bool {
        let log = self.log.stats();
        let bytes = log.segment_bytes;
        let state = self.read_state();
        let now = self.host.clock.monotonic();
        let aged = match (self.options.pack_after_age, state.unpacked_since) {
            (Some(age), Some(since)) => now.since(since) >= age,
            _ => false,
        };
        let is_large = bytes >= self.options.pack_after_bytes;
        // Without pieces there is nothing to pack, but sealed segments can go.
        let is_of_use = state.pieces.count() > 0 || log.segments > 1;
        (is_of_use && is_large)
            || aged
            || bytes >= self.options.journal_bytes_max / 2
            || state.pieces.count() > self.options.journal_pieces_max / 2
    }

    /// When a trigger could next fire by time alone.
    fn next_look(&self) -> Duration {
        let state = self.read_state();
        let now = self.host.clock.monotonic();
        let by_age = match (self.options.pack_after_age, state.unpacked_since) {
            (Some(age), Some(since)) => age.saturating_sub(now.since(since)),
            (Some(age), None) => age,
            (None, _) => LOOK,
        };
        let by_grace = if state.removed.is_empty() { LOOK } else { REMOVED_GRACE };
        by_age.min(by_grace).min(LOOK).max(LOOK_MIN)
    }

    fn wait_for_work(&self, wait: Duration) {
        let wanted = lock(&self.pack_wanted);
        let ready = |wanted: &mut bool| !*wanted && !self.stopping.load(Ordering::Acquire);
        if let Ok((mut wanted, _)) = self.pack_wake.wait_timeout_while(wanted, wait, ready) {
            *wanted = false;
        }
    }
}

fn part_of(placed: &Placed, bytes: Bytes) -> Part {
    let Piece { len, written, at } = placed.piece;
    Part { len, newest: written, last: Some(at), bytes }
}

/// Brings the bytes of a block that are current into the pieces that are being filled.
fn bring(fills: &[Fill<'_>], block: &Block, current: &[(StrandId, Extent)]) {
    let mut fills = fills;
    for (strand, extent) in current {
        let strand = strand.get();
        let done = fills.partition_point(|fill| {
            let id = fill.id();
            (id.strand, id.range().end) <= (strand, extent.start)
        });
        fills = &fills[done..];
        let at = extent.at as usize;
        let bytes = block.payload().slice(at..at + extent.len as usize);
        let is_touched = |fill: &&Fill<'_>| {
            let id = fill.id();
            id.strand == strand && id.start() < extent.end()
        };
        for fill in fills.iter().take_while(is_touched) {
            fill.bring(extent.start, &bytes);
        }
    }
}

/// The parts of a packed extent that the journal's index still holds from before `before`: what was
/// overwritten, cut or removed since is not among them.
fn still_current(
    state: &State,
    strand: StrandId,
    extent: &Extent,
    before: Position,
) -> Vec<Extent> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let pieces = state.pieces.overlapping(strand, extent.start, extent.end());
    for placed in pieces.iter().filter(|placed| placed.piece.written < before) {
        match ranges.last_mut() {
            Some(last) if last.end == placed.start => last.end = placed.end(),
            _ => ranges.push(placed.start..placed.end()),
        }
    }
    ranges.into_iter().map(|range| extent.cut(range.start, range.end)).collect()
}

/// Rows of [`REMOVED`] that a former run left.
pub(crate) fn removed_strands(rows: &impl extents::Rows) -> Result<Vec<StrandId>, ReadError> {
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows = rows.rows(REMOVED, all, Order::Ascending, usize::MAX)?;
    Ok(rows
        .iter()
        .filter_map(|(key, _)| {
            key.first_chunk().map(|id| StrandId::from_raw(u64::from_be_bytes(*id)))
        })
        .collect())
}

/// Between tries after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time between two looks at the triggers; commits do not wake the packer, limits do.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// How long the extents of a removed strand stay, so that a read planned before the removal finds them.
const REMOVED_GRACE: Duration = Duration::from_secs(10);
/// Extents of a removed strand that go in one commit.
const CLEAN_STEP_ROWS: usize = 1024;
