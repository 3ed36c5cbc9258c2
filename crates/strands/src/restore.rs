//! Restoring: a node from its store alone, and a lost meta store from the blocks and the journal.
//!
//! Both begin with a root: the rows of its checkpoint are put into an empty meta store, then the ledger is applied to
//! them as the journal would be. That gives the rows at the root's position P.
//!
//! - [`restore`] takes the newest root of the store that can be read to its end. What lay in the journal at P is added from
//!   the ledger's last section as extents; a range that is missing there is an error, never a hole. The new journal
//!   begins at P.
//! - [`rebuild`] is for a journal that is still there and reaches back to before P: the newest root is a row in one of its
//!   commits. What lay in the journal at P lies there still, or is told of by later commits.
//!
//! Invariant: the meta store's position stays 0 until all is in it, so that what was interrupted is never taken for
//! whole.

use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use block_store::{BLOCK_BYTES_MAX, BlockStore, ObjectGetError, ObjectListError};
use bytes::Bytes;
use durable_log::{Location, Log};
use host::Host;
use meta_store::{Applied, Batch, MetaError, MetaStore};

use crate::commit::{self, Commit, Op, RawOp};
use crate::error::ReadError;
use crate::extents::{self, Extent, Rows};
use crate::frames::{CHECKPOINTS, LEDGER, StreamError};
use crate::ledger::{self, Entry};
use crate::options::Options;
use crate::owner::{OWNER, Owner};
use crate::pieces::{Piece, Pieces};
use crate::publish::PUBLISHED_KEY;
use crate::recover::{MINT_KEY, NODE, OPENING_KEY, Replay, decode_opening, encode_opening};
use crate::root::{ROOT_KEY, ROOTS_PREFIX, Root, Stream, encode_roots};
use crate::shared::{stamped, stored_value};
use crate::types::{Order, Position, StoreId, StrandId, Table};

/// Where a restore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreStep {
    /// The blocks of a root are being read and checked.
    Checking {
        /// The root's name.
        root: String,
        /// Bytes of checkpoint and ledger.
        bytes: u64,
    },
    /// A root was not used.
    Skipped(SkippedRoot),
    /// Rows are being put into the meta store.
    Loading {
        /// Up to which position.
        position: Position,
    },
}

/// A root that cannot be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRoot {
    /// Its name in the store.
    pub name: String,
    /// What is wrong, and where.
    pub why: String,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The id of the data directory that the store belongs to: the restored one takes it on.
    pub store: StoreId,
    /// All commits before this one are there, and none after it.
    pub position: Position,
    /// When the last of them was made: milliseconds since 1970.
    pub time_ms: i64,
    /// The root that it was restored from.
    pub root: String,
    /// Newer roots, which could not be read.
    pub skipped: Vec<SkippedRoot>,
    /// Rows of the checkpoint.
    pub checkpoint_rows: u64,
    /// Commits of the ledger that were applied to them.
    pub ledger_commits: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something where the data is to be restored to.
    #[error("{} holds something already; restore into an empty directory", path.display())]
    NotEmpty {
        /// The journal's directory.
        path: PathBuf,
    },
    /// The store holds no root that can be read.
    #[error("the store holds no root to restore from{}", list(skipped))]
    NoRoot {
        /// Those that cannot be.
        skipped: Vec<SkippedRoot>,
    },
    /// The store does not say what it holds.
    #[error(transparent)]
    List(#[from] ObjectListError),
    /// A root, or whose store it is, could not be read just now.
    #[error(transparent)]
    Get(#[from] ObjectGetError),
    /// A checkpoint or a ledger could not be read, or not be put into the meta store.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The journal could not be made.
    #[error(transparent)]
    Journal(#[from] durable_log::OpenError),
    /// The journal could not be made durable.
    #[error(transparent)]
    JournalSync(#[from] durable_log::SyncError),
    /// The disk failed.
    #[error("making the journal's directory: {0}")]
    Io(#[source] std::io::Error),
}

/// Why the rows of a root are not in the meta store.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The checkpoint or the ledger cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The meta store failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A row that was restored cannot be read.
    #[error(transparent)]
    Row(#[from] ReadError),
}

fn list(skipped: &[SkippedRoot]) -> String {
    let one = |root: &SkippedRoot| format!("; {}: {}", root.name, root.why);
    skipped.iter().map(one).collect()
}

/// Restores a node from `blocks` into an empty meta store and a journal in `dir`, which must be empty. When it
/// returns, both are durable and closed, and [`crate::Strands::open`] goes on from there.
///
/// # Errors
///
/// After one that is not [`RestoreError::NotEmpty`], what was begun is refused by [`crate::Strands::open`]: remove it, then
/// try again.
pub fn restore(
    host: &Host,
    dir: &Path,
    meta: &dyn MetaStore,
    blocks: &dyn BlockStore,
    options: &Options,
    progress: &mut dyn FnMut(RestoreStep),
) -> Result<Restored, RestoreError> {
    if !is_empty(meta)? {
        return Err(RestoreError::NotEmpty { path: dir.to_owned() });
    }
    let (root, skipped) = choose(blocks, progress)?;
    let epoch = owner_epoch(blocks)?.max(root.epoch);
    begin_journal(host, dir, options, root.position)?;
    progress(RestoreStep::Loading { position: root.position });
    let loaded = load(blocks, &root, meta, dir, InJournal::IsInBlocks)?;
    finish(&root, meta, epoch)?;
    Ok(Restored {
        store: root.store,
        position: root.position,
        time_ms: root.time_ms,
        root: root.object_name(),
        skipped,
        checkpoint_rows: loaded.rows,
        ledger_commits: loaded.commits,
    })
}

/// What becomes of the bytes that lay in the journal at the root's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InJournal {
    /// There is no journal: the ledger's last section says in which blocks they are.
    IsInBlocks,
    /// The journal is there, and says itself what became of them.
    Stays,
}

/// What [`load`] has done.
#[derive(Debug)]
struct Loaded {
    rows: u64,
    commits: u64,
}

/// What an opening did that made the meta store anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Commits before this one came from a checkpoint and the ledger, those after it from the journal.
    pub position: Position,
    /// Rows of the checkpoint.
    pub checkpoint_rows: u64,
    /// Commits of the ledger that were applied to them.
    pub ledger_commits: u64,
}

/// The newest root that can be read to the end of its ledger, and those that were skipped.
fn choose(
    blocks: &dyn BlockStore,
    progress: &mut dyn FnMut(RestoreStep),
) -> Result<(Root, Vec<SkippedRoot>), RestoreError> {
    let mut skipped = Vec::new();
    for name in blocks.objects().list(ROOTS_PREFIX)?.into_iter().rev() {
        let why = match read_root(blocks, &name)? {
            Ok(root) => {
                let bytes = root.checkpoint.len() + root.ledger.len();
                progress(RestoreStep::Checking { root: name.clone(), bytes });
                match check(blocks, &root) {
                    Ok(()) => return Ok((root, skipped)),
                    Err(error) if error.may_pass() => return Err(LoadError::Stream(error).into()),
                    Err(error) => error.to_string(),
                }
            }
            Err(why) => why,
        };
        let root = SkippedRoot { name, why };
        progress(RestoreStep::Skipped(root.clone()));
        skipped.push(root);
    }
    Err(RestoreError::NoRoot { skipped })
}

/// A root by its name, or why it cannot be used.
fn read_root(blocks: &dyn BlockStore, name: &str) -> Result<Result<Root, String>, ObjectGetError> {
    let bytes = match blocks.objects().get(name) {
        Ok(Some((bytes, _))) => bytes,
        Ok(None) => return Ok(Err("it went meanwhile".to_owned())),
        Err(error @ (ObjectGetError::Damaged { .. } | ObjectGetError::UnknownVersion { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    Ok(match Root::decode(&bytes) {
        Ok(root) if root.object_name() != name => {
            Err("it is another root than its name says".to_owned())
        }
        Ok(root) if !root.complete => Err("it is not of a whole round".to_owned()),
        Ok(root) => Ok(root),
        Err(error) => Err(error.to_string()),
    })
}

/// Reads all that a root names, so that nothing is begun that cannot be finished.
fn check(blocks: &dyn BlockStore, root: &Root) -> Result<(), StreamError> {
    crate::checkpoint::read(blocks, root, |_, _, _| Ok::<_, StreamError>(()))?;
    ledger::read(blocks, root, |entry| {
        Ok::<_, StreamError>(match entry {
            Entry::Commit { head, .. } => {
                commit::decode_head(head, |_| {}).map_err(|error| error.to_string())
            }
            Entry::Packed { .. } | Entry::End { .. } => Ok(()),
        })
    })
}

/// The opening that owns the store; 0 if it does not say.
fn owner_epoch(blocks: &dyn BlockStore) -> Result<u64, ObjectGetError> {
    match blocks.objects().get(OWNER) {
        Ok(owner) => Ok(owner
            .and_then(|(bytes, _)| Owner::decode(&bytes).ok())
            .map_or(0, |owner| owner.epoch)),
        Err(ObjectGetError::Damaged { .. } | ObjectGetError::UnknownVersion { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

fn is_empty(meta: &dyn MetaStore) -> Result<bool, LoadError> {
    let mut empty = meta.applied() == Applied(0);
    for table in 0..=u8::MAX {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let order = meta_store::Order::Ascending;
        meta.scan(meta_store::Table(table), all, order, &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        })?;
    }
    Ok(empty)
}

/// An empty journal that goes on at `position`. First of all, so that a restore that is interrupted leaves a meta store
/// that is behind it.
fn begin_journal(
    host: &Host,
    dir: &Path,
    options: &Options,
    position: Position,
) -> Result<(), RestoreError> {
    host.disk.create_dir_all(dir).map_err(RestoreError::Io)?;
    if !host.disk.list(dir).map_err(RestoreError::Io)?.is_empty() {
        return Err(RestoreError::NotEmpty { path: dir.to_owned() });
    }
    let total_bytes = host.disk.space(dir).map_err(RestoreError::Io)?.total_bytes;
    let log = Log::create_at(host, dir, options.log_on(total_bytes), position.offset())?;
    Ok(log.close()?)
}

/// Applies a ledger to the rows of its checkpoint.
struct Loader<'a> {
    root: &'a Root,
    meta: &'a dyn MetaStore,
    replay: Replay<'a>,
    /// What the section that is being read says to be in blocks.
    packed: Vec<(StrandId, Extent)>,
    commits: u64,
}

/// Brings the rows at the root's position into an empty meta store, whose position stays 0.
fn load(
    blocks: &dyn BlockStore,
    root: &Root,
    meta: &dyn MetaStore,
    dir: &Path,
    in_journal: InJournal,
) -> Result<Loaded, LoadError> {
    let rows = crate::checkpoint::load(blocks, root, meta)?;
    let replay = Replay::new(dir, meta, Position::START);
    let mut loader = Loader { root, meta, replay, packed: Vec::new(), commits: 0 };
    ledger::read(blocks, root, |entry| loader.entry(entry))?;
    meta.commit(&loader.replay.take_rows(), Applied(0))?;
    if in_journal == InJournal::IsInBlocks {
        let packed = std::mem::take(&mut loader.packed);
        add_extents(meta, root.position, packed)?;
    }
    Ok(Loaded { rows, commits: loader.commits })
}

impl Loader<'_> {
    fn entry(&mut self, entry: Entry<'_>) -> Result<Result<(), String>, LoadError> {
        match entry {
            Entry::Commit { at, .. } if at < self.root.checkpoint_at => {}
            Entry::Commit { at, head, .. } => {
                self.commits += 1;
                let replay = &mut self.replay;
                let op = |op: RawOp<'_>| replay.op(op, at, Location::new(0), true);
                if let Err(error) = commit::decode_head(head, op) {
                    return Ok(Err(error.to_string()));
                }
                if self.replay.has_enough_rows() {
                    self.meta.commit(&self.replay.take_rows(), Applied(0))?;
                }
            }
            Entry::Packed { strand, extent } => self.packed.push((strand, extent)),
            Entry::End { at, complete, .. } => return Ok(self.end(at, complete)),
        }
        Ok(Ok(()))
    }

    /// At the end of a section: what the commits left in the journal must be what the section says to be in blocks.
    fn end(&mut self, at: Position, complete: bool) -> Result<(), String> {
        let mut packed = std::mem::take(&mut self.packed);
        if !complete {
            return Ok(());
        }
        packed.sort_unstable_by_key(|(strand, extent)| (*strand, extent.start));
        let told = pieces_of(&packed);
        if at == self.root.checkpoint_at {
            self.replay.pieces = told;
        } else if !told.covers_the_same_as(&self.replay.pieces) {
            return Err("what lay in the journal is not what was packed".to_owned());
        }
        if at == self.root.position {
            self.packed = packed;
        }
        Ok(())
    }
}

fn pieces_of(packed: &[(StrandId, Extent)]) -> Pieces {
    let mut pieces = Pieces::default();
    for (strand, extent) in packed {
        let (len, written) = (extent.len, extent.generation);
        pieces.write(*strand, extent.start, Piece { len, at: Location::new(0), written });
    }
    pieces
}

/// Puts extents in the place of what the meta store says of their ranges. `new` is in order and does not overlap itself.
fn add_extents(
    meta: &dyn MetaStore,
    position: Position,
    new: Vec<(StrandId, Extent)>,
) -> Result<(), LoadError> {
    // An old extent can lie below several new ones, but not below two that are a block apart.
    let neighbours = new.chunk_by(|(one, first), (other, next)| {
        one == other && next.start.saturating_sub(first.end()) < u64::from(BLOCK_BYTES_MAX)
    });
    for group in neighbours {
        let strand = group[0].0;
        let extents: Vec<_> = group.iter().map(|(_, extent)| *extent).collect();
        let end = extents.last().map_or(0, Extent::end);
        let old = extents::overlapping(&MetaRows(meta), strand, extents[0].start, end)?;
        let mut commit = Commit::new();
        extents::replace(&mut commit, strand, &old, &extents);
        meta.commit(&batch_of(commit, position), Applied(0))?;
    }
    Ok(())
}

/// The rows of a commit, as if the last commit before `position` had been it.
fn batch_of(commit: Commit, position: Position) -> Batch {
    let at = Position::new(position.get().saturating_sub(1));
    let mut batch = Batch::new();
    for op in commit.into_ops() {
        match op {
            Op::Put { table, key, value } => {
                batch.put(meta_store::Table(table.0), key, stamped(at, &value));
            }
            Op::Delete { table, key } => {
                batch.delete(meta_store::Table(table.0), key);
            }
            // Rows are all that such a commit holds.
            _ => {}
        }
    }
    batch
}

/// The last rows: what the lost node may have used since the root is skipped, and the root's own blocks stay.
fn finish(root: &Root, meta: &dyn MetaStore, epoch: u64) -> Result<(), LoadError> {
    for (strand, stream) in [(LEDGER, &root.ledger), (CHECKPOINTS, &root.checkpoint)] {
        add_extents(meta, root.position, stream_extents(strand, stream, root.position))?;
    }
    let mut commit = Commit::new();
    if let Some(row) = node_row(meta, OPENING_KEY)? {
        let mut opening = decode_opening(&row)?;
        // Each opening of the lost node may have been an unclean one, and in another run of the system.
        let lost = epoch.saturating_sub(opening.epoch) + 1;
        opening.epoch = opening.epoch.max(epoch);
        opening.unclean_starts += lost;
        opening.system_runs += lost;
        opening.run = None;
        commit.put(NODE, OPENING_KEY, encode_opening(opening));
    }
    let minted = node_row(meta, MINT_KEY)?.and_then(|row| row[..].try_into().ok());
    let minted = minted.map_or(1, u64::from_le_bytes).saturating_add(MINT_SKIPPED);
    commit.put(NODE, MINT_KEY, minted.to_le_bytes().to_vec());
    commit.delete(NODE, ROOT_KEY);
    commit.put(NODE, PUBLISHED_KEY, encode_roots(std::slice::from_ref(root)));
    meta.commit(&batch_of(commit, root.position), Applied(root.position.get()))?;
    meta.sync()?;
    Ok(())
}

fn stream_extents(
    strand: StrandId,
    stream: &Stream,
    position: Position,
) -> Vec<(StrandId, Extent)> {
    let mut start = stream.start;
    let extent = |range: &crate::root::BlockRange| {
        let extent = Extent {
            start,
            len: range.len,
            block: range.block,
            at: range.at,
            generation: position,
        };
        start = extent.end();
        (strand, extent)
    };
    stream.ranges.iter().map(extent).collect()
}

fn node_row(meta: &dyn MetaStore, key: &[u8]) -> Result<Option<Bytes>, LoadError> {
    let stored = meta.get(meta_store::Table(NODE.0), key)?;
    Ok(stored.map(|stored| stored_value(&stored)).transpose()?)
}

/// Rows of a meta store alone.
struct MetaRows<'a>(&'a dyn MetaStore);

impl Rows for MetaRows<'_> {
    fn rows(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let order = match order {
            Order::Ascending => meta_store::Order::Ascending,
            Order::Descending => meta_store::Order::Descending,
        };
        let mut rows = Vec::new();
        self.0.scan(meta_store::Table(table.0), range, order, &mut |key, stored| {
            if rows.len() == limit {
                return ControlFlow::Break(());
            }
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(stored)));
            ControlFlow::Continue(())
        })?;
        rows.into_iter().map(|(key, stored)| Ok((key, stored_value(&stored)?))).collect()
    }
}

/// Builds the view of a journal anew, whose beginning is gone, in a meta store that holds nothing (or what was
/// left of an earlier try). Returns up to where; the journal has the rest.
pub(crate) fn rebuild(
    log: &Log,
    dir: &Path,
    meta: &dyn MetaStore,
    blocks: &dyn BlockStore,
) -> Result<Rebuilt, String> {
    let positions = log.positions();
    let (start, end) = (Position::of(positions.start), Position::of(positions.appended));
    if start == end {
        return Err(
            "it was left by a restore that was interrupted; remove both, and restore again"
                .to_owned(),
        );
    }
    let in_journal =
        newest_root(log).map_err(|why| format!("the journal cannot be read: {why}"))?;
    let (root, bytes) = match in_journal {
        Some(root) if root.position < start => {
            return Err(format!("the ledger ends at {}, before the journal", root.position));
        }
        Some(root) => (root, InJournal::Stays),
        // As after a restore, before the first round.
        None => (root_at(blocks, start)?, InJournal::IsInBlocks),
    };
    let loaded = load(blocks, &root, meta, dir, bytes).map_err(|error| error.to_string())?;
    match bytes {
        InJournal::IsInBlocks => finish(&root, meta, root.epoch),
        InJournal::Stays => {
            meta.commit(&Batch::new(), Applied(root.position.get())).map_err(LoadError::Meta)
        }
    }
    .map_err(|error| error.to_string())?;
    let Loaded { rows, commits } = loaded;
    Ok(Rebuilt { position: root.position, checkpoint_rows: rows, ledger_commits: commits })
}

/// The root in the last commit that has one.
fn newest_root(log: &Log) -> Result<Option<Root>, String> {
    let mut newest = None;
    let mut records = log.iter(log.positions().start).map_err(|error| error.to_string())?;
    while let Some(record) = records.next().map_err(|error| error.to_string())? {
        let mut found = None;
        commit::decode(record.bytes, |op| {
            if let RawOp::Put { table: NODE, key: ROOT_KEY, value } = op {
                found = Some(Root::decode(value));
            }
        })
        .map_err(|error| error.to_string())?;
        if let Some(root) = found {
            newest =
                Some(root.map_err(|error| format!("commit {}: a root: {error}", record.offset))?);
        }
    }
    Ok(newest)
}

/// The root of the store that ends exactly at `position`.
fn root_at(blocks: &dyn BlockStore, position: Position) -> Result<Root, String> {
    let names = blocks.objects().list(ROOTS_PREFIX).map_err(|error| error.to_string())?;
    for name in names.iter().rev() {
        let root = read_root(blocks, name).map_err(|error| error.to_string())?;
        if let Ok(root) = root
            && root.position == position
        {
            return Ok(root);
        }
    }
    Err(format!("neither the journal nor the store has a root that reaches to {position}"))
}

/// Numbers of strands that are skipped, since the lost node may have given them out.
const MINT_SKIPPED: u64 = 1 << 32;
