//! Starting: the only way is recovery; a clean stop only makes it short.
//!
//! The journal is scanned once, from where the last checkpoint of its index was taken (`index_checkpoint.rs`) or from its
//! beginning. Every commit rebuilds the index of what lies in the journal; rows of commits that the meta store has
//! not seen are brought into it. Everything that the journal recovered is durable when it opens, so the
//! view may take all of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use block_store::BlockStore;
use bytes::Bytes;
use durable_log::{BeforeSync, Location, Log, Offset, Record, Torn};
use host::{Host, SystemRun};
use meta_store::{Applied, Batch, MetaStore};

use crate::commit::{self, Commit, RawOp};
use crate::error::{OpenError, ReadError};
use crate::index_checkpoint::{Found, Start};
use crate::options::Options;
use crate::pack::removed_strands;
use crate::pieces::{Piece, Pieces};
use crate::restore::{self, Rebuilt};
use crate::shared::{Mint, Shared, State, lock, stamped};
use crate::types::{Opening, Position, Table};
use crate::unsynced::{LostBlock, Unsynced};

/// Rows about the node itself.
pub(crate) const NODE: Table = Table(0);
pub(crate) const OPENING_KEY: &[u8] = b"opening";
pub(crate) const MINT_KEY: &[u8] = b"next strand";

/// What the start found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whether the last stop was clean.
    pub clean: bool,
    /// Commits that the journal held.
    pub commits: u64,
    /// Bytes that it held, frame headers included.
    pub bytes: u64,
    /// Where the checkpoint of its index was taken that the start began with; `None`: there was none that fits.
    pub checkpoint: Option<Position>,
    /// Commits that were read to bring index and rows up to its end.
    pub scanned: u64,
    /// Bytes of those commits.
    pub scanned_bytes: u64,
    /// Commits whose rows the meta store lacked.
    pub replayed: u64,
    /// An unacknowledged tail that was cut and kept aside.
    pub torn: Option<Torn>,
    /// Why it was cut, if that was for a block that did not survive.
    pub lost_block: Option<LostBlock>,
    /// The meta store was empty, and was rebuilt from the block store.
    pub rebuilt: Option<Rebuilt>,
}

/// Opens the journal in `dir` and everything that follows from it. No thread runs yet.
pub(crate) fn open(
    host: Host,
    dir: &Path,
    meta: Arc<dyn MetaStore>,
    blocks: Arc<dyn BlockStore>,
    options: Options,
) -> Result<Shared, OpenError> {
    let total_bytes = disk_bytes(&host, dir)?;
    let unsynced = Arc::new(Unsynced::new(
        Arc::clone(&blocks),
        options.unsynced_blocks_bytes_max,
        options.admit_patience,
    ));
    let before_sync = Some(Arc::clone(&unsynced) as Arc<dyn BeforeSync>);
    let log_options = durable_log::Options { before_sync, ..options.log_on(total_bytes) };
    let checkpoint = Found::read(&host, dir, options.store_id);
    let landmark = checkpoint.as_ref().map(Found::landmark);
    let (log, found) = Log::open_from(&host, dir, log_options, landmark)?;
    let (applied, rebuilt) = view_position(&log, dir, &*meta, &*blocks)?;
    let checkpoint =
        checkpoint.and_then(|checkpoint| checkpoint.into_pieces(&log, dir, found.reaches_landmark));
    let position = checkpoint.as_ref().map(|checkpoint| checkpoint.position);
    let replay = read_journal(&log, dir, &*meta, applied, checkpoint)?;
    #[cfg(test)]
    crate::tests::index_checkpoint::check_against_full_scan(&log, &replay.pieces);
    let Replay { pieces, replayed, scanned, scanned_bytes, scanned_from, .. } = replay;
    let recovery = Recovery {
        clean: found.clean,
        commits: found.records,
        bytes: found.bytes,
        checkpoint: position,
        scanned,
        scanned_bytes,
        replayed,
        torn: found.torn,
        lost_block: unsynced.lost(),
        rebuilt,
    };
    let since_checkpoint = scanned_from.unwrap_or_else(|| end_of(&log));
    let now = host.clock.monotonic();
    let unpacked_since = (log.positions().start < log.positions().appended).then_some(now);
    let state = State { pieces, unpacked_since, ..State::default() };
    let fresh = log.positions().appended == Offset::ZERO;
    let lost = recovery.lost_block.is_some();
    let (opening, mint) = next_opening(&host, &*meta, recovery.clean || fresh, lost)?;
    let shared = Shared::new(
        host,
        dir.to_owned(),
        options,
        log,
        meta,
        blocks,
        unsynced,
        state,
        recovery,
        opening,
        mint,
    );
    shared.checkpointing.begin(since_checkpoint, shared.options.checkpoint_every_bytes);
    announce(&shared)?;
    Ok(shared)
}

/// Up to where the meta store has the journal's rows, after it was rebuilt if it has none.
fn view_position(
    log: &Log,
    dir: &Path,
    meta: &dyn MetaStore,
    blocks: &dyn BlockStore,
) -> Result<(Position, Option<Rebuilt>), OpenError> {
    let positions = log.positions();
    let applied = Position::new(meta.applied().0);
    let (start, end) = (Position::of(positions.start), Position::of(positions.appended));
    if applied > end {
        return Err(OpenError::ViewAhead { applied, end });
    }
    if applied >= start {
        return Ok((applied, None));
    }
    let rebuilt = rebuild(log, dir, meta, blocks, applied)?;
    Ok((rebuilt.position, Some(rebuilt)))
}

/// Brings the index of a checkpoint, or an empty one, and the meta store's rows up to the journal's end.
fn read_journal<'a>(
    log: &Log,
    dir: &'a Path,
    meta: &'a dyn MetaStore,
    applied: Position,
    checkpoint: Option<Start>,
) -> Result<Replay<'a>, OpenError> {
    let positions = log.positions();
    let (start, end) = (Position::of(positions.start), Position::of(positions.appended));
    let mut replay = Replay::new(dir, meta, applied);
    let mut first = start;
    if let Some(checkpoint) = checkpoint {
        first = replay.begin_with(checkpoint).min(applied).max(start);
    }
    replay.scan(log, first)?;
    replay.flush(end)?;
    Ok(replay)
}

/// Rebuilds a meta store that lacks what the journal has let go, if it is empty.
fn rebuild(
    log: &Log,
    dir: &Path,
    meta: &dyn MetaStore,
    blocks: &dyn BlockStore,
    applied: Position,
) -> Result<Rebuilt, OpenError> {
    let start = Position::of(log.positions().start);
    let behind = |why| OpenError::ViewBehind { applied, start, why };
    if applied > Position::START {
        let why = "remove the meta store, and it is rebuilt from the block store".to_owned();
        return Err(behind(why));
    }
    tracing::warn!(
        "the meta store is empty and the journal is not; it is rebuilt from the block store"
    );
    restore::rebuild(log, dir, meta, blocks).map_err(behind)
}

/// Where the next commit goes.
fn end_of(log: &Log) -> Location {
    log.segments().last().map_or(Location::new(0), |last| last.end)
}

/// Size of the disk that `dir` is or will be on.
fn disk_bytes(host: &Host, dir: &Path) -> Result<u64, OpenError> {
    host.disk
        .create_dir_all(dir)
        .and_then(|()| host.disk.space(dir))
        .map(|space| space.total_bytes)
        .map_err(|error| OpenError::Io { what: "making the journal's directory", error })
}

/// The commit that begins this opening, and the removed strands that the last one left.
fn announce(shared: &Shared) -> Result<(), OpenError> {
    let mut commit = Commit::new();
    commit.put(NODE, OPENING_KEY, encode_opening(shared.opening));
    shared.commit(commit)?;
    shared.log.sync().map_err(|error| OpenError::FirstCommit(crate::ticket::sync_error(error)))?;
    shared.take_store()?;
    let now = shared.host.clock.monotonic();
    let removed = removed_strands(shared)?;
    shared.write_state().removed.extend(removed.into_iter().map(|strand| (strand, now)));
    Ok(())
}

pub(crate) struct Replay<'a> {
    dir: &'a Path,
    meta: &'a dyn MetaStore,
    /// Commits before this one are in the meta store.
    applied: Position,
    pub(crate) pieces: Pieces,
    rows: BTreeMap<(Table, Bytes), Option<Vec<u8>>>,
    rows_bytes: usize,
    replayed: u64,
    /// Pieces of commits before this one were there to begin with.
    indexed: Position,
    scanned: u64,
    scanned_bytes: u64,
    /// Where the first commit lies that was scanned.
    scanned_from: Option<Location>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(dir: &'a Path, meta: &'a dyn MetaStore, applied: Position) -> Self {
        Self {
            dir,
            meta,
            applied,
            pieces: Pieces::default(),
            rows: BTreeMap::new(),
            rows_bytes: 0,
            replayed: 0,
            indexed: Position::START,
            scanned: 0,
            scanned_bytes: 0,
            scanned_from: None,
        }
    }

    /// Takes on the pieces of a checkpoint; returns its position.
    fn begin_with(&mut self, checkpoint: Start) -> Position {
        self.pieces = checkpoint.pieces;
        self.indexed = checkpoint.position;
        self.indexed
    }

    /// Applies the commits from `from` on.
    pub(crate) fn scan(&mut self, log: &Log, from: Position) -> Result<(), OpenError> {
        let failed = |error: durable_log::ReadError| ReadError::Failed(error.to_string());
        let mut records = log.iter(from.offset()).map_err(failed)?;
        while let Some(record) = records.next().map_err(failed)? {
            self.record(&record)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), OpenError> {
        let at = Position::of(record.offset);
        let is_new = at >= self.applied;
        commit::decode(record.bytes, |op| self.op(op, at, record.at, is_new)).map_err(|error| {
            OpenError::Commit { path: self.dir.to_owned(), position: at, why: error.to_string() }
        })?;
        self.replayed += u64::from(is_new);
        self.scanned += 1;
        self.scanned_bytes += record.bytes.len() as u64;
        self.scanned_from.get_or_insert(record.at);
        if self.has_enough_rows() {
            self.flush(Position::new(at.get() + 1))?;
        }
        Ok(())
    }

    /// Applies one operation of the commit at `at`, whose record begins at `record`.
    pub(crate) fn op(&mut self, op: RawOp<'_>, at: Position, record: Location, is_new: bool) {
        match op {
            RawOp::Put { table, key, value } if is_new => {
                self.row(table, key, Some(stamped(at, value)));
            }
            RawOp::Delete { table, key } if is_new => self.row(table, key, None),
            RawOp::Put { .. } | RawOp::Delete { .. } => {}
            _ if at < self.indexed => {}
            RawOp::Write { strand, offset, at: payload, len } => {
                let piece = Piece { len, at: record.plus(payload.into()), written: at };
                self.pieces.write(strand, offset, piece);
            }
            RawOp::Truncate { strand, len } => self.pieces.truncate(strand, len),
            RawOp::Remove { strand } => self.pieces.remove(strand),
            RawOp::Packed { strand, start, len, before } => {
                self.pieces.packed(strand, start, len, Position::new(before));
            }
            RawOp::Placed { strand, start, len } => self.pieces.packed(strand, start, len, at),
            // Seen to when the journal was opened.
            RawOp::Needs { .. } => {}
        }
    }

    fn row(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        self.rows_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.rows.insert((table, Bytes::copy_from_slice(key)), value);
    }

    /// Whether it is time to bring the rows into the meta store.
    pub(crate) fn has_enough_rows(&self) -> bool {
        self.rows_bytes > REPLAY_BATCH_BYTES
    }

    /// Brings the rows so far into the meta store, which then has everything before `end`.
    fn flush(&mut self, end: Position) -> Result<(), OpenError> {
        let batch = self.take_rows();
        if self.applied < end {
            self.meta.commit(&batch, Applied(end.get()))?;
            self.applied = end;
        }
        Ok(())
    }

    /// The changes of rows so far.
    pub(crate) fn take_rows(&mut self) -> Batch {
        let mut batch = Batch::new();
        for ((table, key), value) in std::mem::take(&mut self.rows) {
            let table = meta_store::Table(table.0);
            match value {
                Some(value) => batch.put(table, key, value),
                None => batch.delete(table, key),
            };
        }
        self.rows_bytes = 0;
        batch
    }
}

impl std::fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// Counts this opening on from the last one's rows.
fn next_opening(
    host: &Host,
    meta: &dyn MetaStore,
    clean: bool,
    lost: bool,
) -> Result<(Opening, Mint), OpenError> {
    let row = |key| -> Result<Option<Bytes>, OpenError> {
        let stored = meta.get(meta_store::Table(NODE.0), key)?;
        Ok(stored.map(|stored| crate::shared::stored_value(&stored)).transpose()?)
    };
    let last = row(OPENING_KEY)?.map(|value| decode_opening(&value)).transpose()?;
    let last = last.unwrap_or(Opening { epoch: 0, unclean_starts: 0, system_runs: 0, run: None });
    let next = match row(MINT_KEY)? {
        Some(value) => u64::from_le_bytes(
            value[..]
                .try_into()
                .map_err(|_| ReadError::Failed("the strand counter cannot be read".to_owned()))?,
        ),
        None => 1,
    };
    // A system that does not say which run this is counts as another one.
    let run = host.disk.system_run().ok();
    let is_same_run = run.is_some() && run == last.run;
    let opening = Opening {
        epoch: last.epoch + 1,
        unclean_starts: last.unclean_starts + u64::from(!clean),
        system_runs: last.system_runs + u64::from(!is_same_run || lost),
        run,
    };
    Ok((opening, Mint { next, reserved: next }))
}

pub(crate) fn encode_opening(opening: Opening) -> Vec<u8> {
    let mut value = vec![OPENING_VERSION, u8::from(opening.run.is_some())];
    value.extend_from_slice(&opening.epoch.to_le_bytes());
    value.extend_from_slice(&opening.unclean_starts.to_le_bytes());
    value.extend_from_slice(&opening.system_runs.to_le_bytes());
    value.extend_from_slice(&opening.run.map_or([0; 16], |SystemRun(id)| id));
    value
}

pub(crate) fn decode_opening(value: &[u8]) -> Result<Opening, ReadError> {
    let number = |at: usize| Some(u64::from_le_bytes(*value.get(at..)?.first_chunk()?));
    let read = || {
        let [OPENING_VERSION, has_run @ (0 | 1), ..] = *value else { return None };
        let run = SystemRun(value.get(26..)?.try_into().ok()?);
        Some(Opening {
            epoch: number(2)?,
            unclean_starts: number(10)?,
            system_runs: number(18)?,
            run: (has_run == 1).then_some(run),
        })
    };
    read().ok_or_else(|| ReadError::Failed("the row about openings cannot be read".to_owned()))
}

impl Shared {
    /// A strand number that was never used. Numbers are reserved a thousand at a time; what was
    /// reserved and not used is skipped after a restart.
    pub(crate) fn mint(&self) -> Result<u64, crate::error::CommitError> {
        let mut mint = lock(&self.mint);
        if mint.next == mint.reserved {
            let reserved = mint.reserved + MINT_AHEAD;
            let mut commit = Commit::new();
            commit.put(NODE, MINT_KEY, reserved.to_le_bytes().to_vec());
            self.commit(commit)?;
            mint.reserved = reserved;
        }
        mint.next += 1;
        Ok(mint.next - 1)
    }
}

const OPENING_VERSION: u8 = 1;
/// Strand numbers reserved at once.
const MINT_AHEAD: u64 = 1024;
/// Rows gathered before they go to the meta store during replay.
const REPLAY_BATCH_BYTES: usize = 4 << 20;
