//! Checking a data directory that no server uses: what the rows say against what is there. [`fsck`] changes nothing.
//!
//! 1. The journal is read as a follower reads it, without opening it: each record is a commit, and the meta store is
//!    not ahead of its end nor behind its beginning. What the meta store lacks is kept beside it.
//! 2. Every extent can be read, and no two of a strand overlap.
//! 3. The store has every block that extents name, and its footer agrees with them: a piece of the same strand
//!    and place, no older than the extent. Blocks that neither an extent nor a root names are
//!    counted: collection takes them.
//! 4. The store's roots can be read, and the blocks that they name are there.
//! 5. If asked for, the payload of every block is read, its checksums verified.
//!
//! What is found is told in sentences, at most [`FOUND_MAX`] of them; all are counted.
//!
//! Repairing is no more than [`delete_unnamed`]: what is broken is bytes that are gone, and a meta store that is lost is
//! rebuilt by the next start.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use block_store::{BlockName, BlockStore, DeleteError, Footer, ObjectGetError, ReadError};
use bytes::Bytes;
use durable_log::{Followed, Follower};
use host::Host;
use meta_store::MetaStore;

use crate::commit::{self, RawOp};
use crate::extents::{EXTENTS, Extent, decode_row};
use crate::frames::{CHECKPOINTS, LEDGER};
use crate::root::{ROOTS_PREFIX, Root};
use crate::shared::stored_value;
use crate::types::{Position, StrandId};

/// What there is to check.
#[derive(Debug)]
pub struct FsckInput<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The journal's directory.
    pub journal: &'a Path,
    /// The meta store.
    pub meta: &'a dyn MetaStore,
    /// The blocks.
    pub blocks: &'a dyn BlockStore,
    /// Whether to read every block and verify its checksums.
    pub scrub: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Commits that the journal holds.
    pub commits: u64,
    /// Extents.
    pub extents: u64,
    /// Bytes of strands that they name.
    pub extent_bytes: u64,
    /// Blocks in the store.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Roots in the store, from which a node could be restored.
    pub roots: u64,
    /// Blocks that neither an extent nor a root names.
    pub unnamed_blocks: u64,
    /// Their bytes.
    pub unnamed_bytes: u64,
    /// Their names.
    pub unnamed: Vec<BlockName>,
    /// Payload whose checksums were verified.
    pub scrubbed_bytes: u64,
    /// How much is wrong.
    pub faults: u64,
    /// The first of what is wrong, a sentence each.
    pub found: Vec<String>,
    /// What could not be checked, a sentence each: the disk or the store refused.
    pub unchecked: Vec<String>,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckProgress {
    /// Commits of the journal that were read.
    Journal(u64),
    /// Extents that were read.
    Extents(u64),
    /// Blocks that were looked at, of so many.
    Blocks(u64, u64),
    /// Bytes that were verified, of so many.
    Scrub(u64, u64),
}

/// Extents of each block.
type ByBlock = HashMap<BlockName, Vec<(StrandId, Extent)>>;

struct Check<'a> {
    input: &'a FsckInput<'a>,
    tell: &'a mut dyn FnMut(FsckProgress),
    checked: Checked,
    /// Rows of extents that the meta store lacks.
    newer: BTreeMap<Bytes, Option<Bytes>>,
}

/// Checks everything. Blocks until done.
pub fn fsck(input: &FsckInput<'_>, tell: &mut dyn FnMut(FsckProgress)) -> Checked {
    let mut check = Check { input, tell, checked: Checked::default(), newer: BTreeMap::new() };
    check.journal();
    let by_block = check.extents();
    let pinned = check.roots();
    let listed = check.list(&by_block, &pinned);
    check.blocks(&by_block, &listed);
    if input.scrub {
        check.scrub(&listed);
    }
    check.checked
}

/// Deletes the blocks that nothing names, and returns how many they were. None, when anything was wrong or could not be
/// checked: then nobody knows what is needed.
///
/// # Errors
///
/// [`DeleteError`] when the store refuses; some may be gone.
pub fn delete_unnamed(blocks: &dyn BlockStore, checked: &Checked) -> Result<u64, DeleteError> {
    if checked.faults > 0 || !checked.unchecked.is_empty() {
        return Ok(0);
    }
    let batches = checked.unnamed.chunks(BATCH_BLOCKS);
    batches.map(|batch| blocks.delete_many(batch)).sum()
}

impl Check<'_> {
    fn fault(&mut self, sentence: String) {
        self.checked.faults += 1;
        if self.checked.found.len() < FOUND_MAX {
            self.checked.found.push(sentence);
        }
    }

    fn unchecked(&mut self, sentence: String) {
        if self.checked.unchecked.len() < FOUND_MAX {
            self.checked.unchecked.push(sentence);
        }
    }

    fn journal(&mut self) {
        let applied = self.input.meta.applied().0;
        let mut follower = match Follower::open(self.input.host, self.input.journal) {
            Ok(follower) => follower,
            Err(error) => return self.fault(format!("the journal cannot be read: {error}")),
        };
        let mut first = None;
        let mut end = 0;
        loop {
            let record = match follower.read_next() {
                Ok(Followed::Record(record)) => record,
                Ok(Followed::Rewound { to, .. }) => {
                    end = end.min(to.get());
                    continue;
                }
                Ok(Followed::Nothing) => break,
                Err(error) => {
                    self.fault(format!("the journal cannot be read on from commit {end}: {error}"));
                    break;
                }
            };
            let at = record.offset.get();
            first.get_or_insert(at);
            end = at + 1;
            self.checked.commits += 1;
            if self.checked.commits.is_multiple_of(TELL_EVERY) {
                (self.tell)(FsckProgress::Journal(self.checked.commits));
            }
            let is_new = at >= applied;
            let newer = &mut self.newer;
            let decoded = commit::decode(record.bytes, |op| note(op, is_new, newer));
            if let Err(error) = decoded {
                self.fault(format!("commit {at} of the journal cannot be read: {error}"));
            }
        }
        if first.is_some_and(|first| applied < first) {
            self.fault(format!(
                "the meta store is behind the journal ({applied}, which begins at {}); both must be of the same moment",
                first.unwrap_or_default()
            ));
        }
        if first.is_some() && applied > end {
            self.fault(format!(
                "the meta store is ahead of the journal ({applied}, which ends at {end}); both must be of the same moment"
            ));
        }
    }

    /// Reads all extents, as of the journal's end.
    fn extents(&mut self) -> ByBlock {
        let mut by_block = ByBlock::new();
        let mut last: Option<(StrandId, Extent)> = None;
        let mut newer = std::mem::take(&mut self.newer).into_iter().peekable();
        let meta = self.input.meta;
        let all = (Bound::Unbounded, Bound::Unbounded);
        let table = meta_store::Table(EXTENTS.0);
        let scanned = meta.scan(table, all, meta_store::Order::Ascending, &mut |key, stored| {
            while let Some((newer_key, value)) = newer.next_if(|(newer, _)| &newer[..] < key) {
                self.extent(&newer_key, value, &mut last, &mut by_block);
            }
            if let Some((newer_key, value)) = newer.next_if(|(newer, _)| &newer[..] == key) {
                self.extent(&newer_key, value, &mut last, &mut by_block);
            } else {
                let stored = stored_value(&Bytes::copy_from_slice(stored));
                // A row that is too short is no extent either.
                let value = stored.unwrap_or_default();
                self.extent(key, Some(value), &mut last, &mut by_block);
            }
            ControlFlow::Continue(())
        });
        for (key, value) in newer {
            self.extent(&key, value, &mut last, &mut by_block);
        }
        if let Err(error) = scanned {
            self.unchecked(format!("the meta store cannot be read: {error}"));
        }
        by_block
    }

    fn extent(
        &mut self,
        key: &[u8],
        value: Option<Bytes>,
        last: &mut Option<(StrandId, Extent)>,
        by_block: &mut ByBlock,
    ) {
        let Some(value) = value else { return };
        let Some((strand, extent)) = decode_row(key, &value) else {
            return self.fault(format!("the extent row `{}` cannot be read", key.escape_ascii()));
        };
        if let Some((before, previous)) = last
            && *before == strand
            && previous.end() > extent.start
        {
            self.fault(format!(
                "{strand}, offset {}: two extents claim it (blocks {} and {})",
                extent.start, previous.block, extent.block
            ));
        }
        *last = Some((strand, extent));
        self.checked.extents += 1;
        self.checked.extent_bytes += u64::from(extent.len);
        if self.checked.extents.is_multiple_of(TELL_EVERY) {
            (self.tell)(FsckProgress::Extents(self.checked.extents));
        }
        by_block.entry(extent.block).or_default().push((strand, extent));
    }

    /// Blocks that roots name, with the root.
    fn roots(&mut self) -> BTreeMap<BlockName, String> {
        let mut pinned = BTreeMap::new();
        let objects = self.input.blocks.objects();
        let names = match objects.list(ROOTS_PREFIX) {
            Ok(names) => names,
            Err(error) => {
                self.unchecked(error.to_string());
                return pinned;
            }
        };
        for name in names {
            let content = match objects.get(&name) {
                Ok(Some((content, _))) => content,
                // It was replaced by a newer one just now.
                Ok(None) => continue,
                Err(error @ (ObjectGetError::Away { .. } | ObjectGetError::Io { .. })) => {
                    self.unchecked(error.to_string());
                    continue;
                }
                Err(error) => {
                    self.fault(error.to_string());
                    continue;
                }
            };
            match Root::decode(&content) {
                Ok(root) => {
                    self.checked.roots += 1;
                    pinned.extend(root.blocks().map(|block| (block, name.clone())));
                }
                Err(error) => self.fault(format!("{name} cannot be read: {error}")),
            }
        }
        pinned
    }

    /// Names of all blocks and their bytes, in order.
    fn list(
        &mut self,
        by_block: &ByBlock,
        pinned: &BTreeMap<BlockName, String>,
    ) -> Vec<(BlockName, u64)> {
        let mut names = Vec::new();
        let listed = self.input.blocks.list(&mut |listed| {
            names.push((listed.name, listed.bytes));
            ControlFlow::Continue(())
        });
        if let Err(error) = listed {
            self.unchecked(format!("the blocks cannot be listed: {error}"));
        }
        self.checked.blocks = names.len() as u64;
        self.checked.block_bytes = names.iter().map(|(_, bytes)| bytes).sum();
        if self.checked.unchecked.is_empty() {
            for (block, root) in pinned {
                let is_there = names.binary_search_by_key(block, |(name, _)| *name).is_ok();
                if !is_there {
                    self.fault(format!(
                        "{root} cannot be restored from: block {block} is not in the store"
                    ));
                }
            }
        }
        let is_unnamed = |name| !by_block.contains_key(name) && !pinned.contains_key(name);
        for (name, bytes) in names.iter().filter(|(name, _)| is_unnamed(name)) {
            self.checked.unnamed_blocks += 1;
            self.checked.unnamed_bytes += bytes;
            self.checked.unnamed.push(*name);
        }
        names
    }

    /// Holds each block's footer against the extents that name it.
    fn blocks(&mut self, by_block: &ByBlock, listed: &[(BlockName, u64)]) {
        let total = by_block.len() as u64;
        let mut names: Vec<_> = by_block.keys().copied().collect();
        names.sort_unstable();
        for (done, name) in names.into_iter().enumerate() {
            (self.tell)(FsckProgress::Blocks(done as u64, total));
            let extents = &by_block[&name];
            match self.input.blocks.footer(name) {
                Ok(footer) => {
                    for (strand, extent) in extents {
                        if !agrees(&footer, *strand, extent) {
                            self.fault(lost(*strand, extent, "holds something else there"));
                        }
                    }
                }
                Err(error @ (ReadError::Away { .. } | ReadError::Io { .. })) => {
                    self.unchecked(error.to_string());
                }
                Err(_) => {
                    let is_there = listed.binary_search_by_key(&name, |(name, _)| *name).is_ok();
                    let what = if is_there { "is damaged" } else { "is not in the store" };
                    for (strand, extent) in extents {
                        self.fault(lost(*strand, extent, what));
                    }
                }
            }
        }
    }

    fn scrub(&mut self, listed: &[(BlockName, u64)]) {
        let total = self.checked.block_bytes;
        let mut done = 0;
        for (name, bytes) in listed {
            (self.tell)(FsckProgress::Scrub(done, total));
            done += bytes;
            let read = self
                .input
                .blocks
                .footer(*name)
                .and_then(|footer| self.input.blocks.read(*name, 0..footer.payload_len()));
            match read {
                Ok(payload) => self.checked.scrubbed_bytes += payload.len() as u64,
                Err(error @ (ReadError::Away { .. } | ReadError::Io { .. })) => {
                    self.unchecked(error.to_string());
                }
                Err(error) => self.fault(error.to_string()),
            }
        }
    }
}

/// Notes what a commit changes of extents, if the meta store lacks it.
fn note(op: RawOp<'_>, is_new: bool, newer: &mut BTreeMap<Bytes, Option<Bytes>>) {
    let copy = Bytes::copy_from_slice;
    match op {
        RawOp::Put { table: EXTENTS, key, value } if is_new => {
            newer.insert(copy(key), Some(copy(value)));
        }
        RawOp::Delete { table: EXTENTS, key } if is_new => {
            newer.insert(copy(key), None);
        }
        _ => {}
    }
}

/// Whether a piece of the block holds the bytes of an extent, and none that are older. (A restored node has new rows
/// about the streams that it was restored from.)
fn agrees(footer: &Footer, strand: StrandId, extent: &Extent) -> bool {
    let pieces = footer.pieces();
    let behind = pieces.partition_point(|placed| placed.at <= extent.at);
    let Some(placed) = behind.checked_sub(1).map(|index| &pieces[index]) else { return false };
    let piece = &placed.piece;
    piece.strand == strand.get()
        && extent.at + extent.len <= placed.range().end
        && piece.start + u64::from(extent.at - placed.at) == extent.start
        && (extent.generation <= Position::new(piece.generation) || is_own(strand))
}

/// Whether a strand is the data path's own.
fn is_own(strand: StrandId) -> bool {
    [LEDGER, CHECKPOINTS].contains(&strand)
}

fn lost(strand: StrandId, extent: &Extent, what: &str) -> String {
    format!("{strand}, bytes {}..{}: block {} {what}", extent.start, extent.end(), extent.block)
}

/// Blocks that are deleted by one request.
const BATCH_BLOCKS: usize = 1000;
/// Sentences that are kept.
const FOUND_MAX: usize = 1000;
/// How often it is told how far a check is.
const TELL_EVERY: u64 = 4096;
