//! Rewriting: blocks of which little lives, and strands that lie in many small parts.
//!
//! A round gathers extents: those that point into a sparse block (the block's footer says where to look),
//! and those of a scattered stretch of a strand. They are copied in order of strand and offset into new
//! blocks, one at a time:
//!
//! 1. read the bytes, their checksums verified, and put the new block, durable when it returns;
//! 2. commit where they are now: under the strands' extent locks the extents are read again, and only those
//!    that still point to the bytes that were copied are replaced. The commit is rows and nothing else: no
//!    byte of any strand changes.
//!
//! A crash in between leaves a block that nobody names. A write, truncate or pack in between wins: what it
//! put in an extent's place stays. The old blocks are dead once the commit is durable; the next round of
//! collection finds them.

use std::collections::BTreeMap;

use block_store::{BLOCK_BYTES_MAX, BLOCK_PIECES_MAX, BlockName, PutError};

use crate::collect::{CollectPhase, Collected, STRETCH_BYTES, Stretch};
use crate::commit::Commit;
use crate::error::{CommitError, ReadError};
use crate::extents::{self, Extent};
use crate::run::{Part, Run, build};
use crate::shared::{Shared, row_error};
use crate::types::StrandId;

/// What may be worth rewriting, best first.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// Blocks and how many of their bytes the mark found alive.
    pub(crate) sparse: Vec<(BlockName, u64)>,
    pub(crate) scattered: Vec<Stretch>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewriting {
    /// Most bytes that are moved.
    pub(crate) bytes_max: u64,
    /// Stretches that are written to as well.
    pub(crate) also_hot: bool,
}

/// One thing that may be worth rewriting.
#[derive(Clone, Copy, Debug)]
enum Candidate {
    Sparse(BlockName),
    Scattered(Stretch),
}

/// Extents to be copied, in order.
type Picked = BTreeMap<(StrandId, u64), Extent>;

/// Candidates and the bytes that the mark found in each.
type Waiting = std::iter::Peekable<std::vec::IntoIter<(Candidate, u64)>>;

/// An extent whose bytes were copied, and where its copy begins.
#[derive(Clone, Copy, Debug)]
struct Copied {
    strand: StrandId,
    from: Extent,
    block: BlockName,
    at: u32,
}

/// Why a block of copies did not come about.
#[derive(Debug, thiserror::Error)]
enum RewriteError {
    #[error("rewriting: {0}")]
    Read(#[from] ReadError),
    #[error("rewriting: {0}")]
    Block(#[from] block_store::ReadError),
    #[error("rewriting: {0}")]
    Put(#[from] PutError),
    #[error("rewriting: {0}")]
    Commit(#[from] CommitError),
    #[error("rewriting: {0}")]
    Build(#[from] block_store::format::BlockFull),
}

impl Shared {
    /// Rewrites what is worth it, a slice at a time, and returns how many bytes were copied. What fails is left as
    /// it was.
    pub(crate) fn rewrite(
        &self,
        candidates: Candidates,
        how_far: Rewriting,
        collected: &mut Collected,
    ) -> u64 {
        let sparse = candidates.sparse.into_iter();
        let sparse = sparse.map(|(block, bytes)| (Candidate::Sparse(block), bytes));
        let scattered = candidates.scattered.into_iter();
        let scattered = scattered.map(|stretch| (Candidate::Scattered(stretch), stretch.bytes));
        let all: Vec<_> = sparse.chain(scattered).collect();
        let total = all.iter().map(|(_, bytes)| *bytes).sum::<u64>().min(how_far.bytes_max);
        let mut waiting = all.into_iter().peekable();
        let mut copied = 0;
        loop {
            let left = Rewriting { bytes_max: how_far.bytes_max - copied, ..how_far };
            let picked = self.pick(&mut waiting, left, collected);
            if picked.is_empty() {
                return copied;
            }
            if !self.copy_all(picked, &mut copied, total, collected) {
                return copied;
            }
        }
    }

    /// Copies what was picked; whether to go on.
    fn copy_all(
        &self,
        picked: Picked,
        copied: &mut u64,
        total: u64,
        collected: &mut Collected,
    ) -> bool {
        let mut rest = picked.into_iter().map(|((strand, _), extent)| (strand, extent)).peekable();
        while rest.peek().is_some() {
            if self.is_stopping() {
                return false;
            }
            self.tell_collecting(CollectPhase::Rewrite, *copied, Some(total));
            let batch = fill(&mut rest);
            *copied += batch.iter().map(|(_, extent)| u64::from(extent.len)).sum::<u64>();
            match self.copy(&batch) {
                Ok(moved) => {
                    collected.written_blocks += 1;
                    collected.rewritten_bytes += moved;
                }
                Err(error) => {
                    collected.failed(&error);
                    // What cannot be read is of one block; what cannot be written, of all.
                    if matches!(error, RewriteError::Put(_) | RewriteError::Commit(_)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The extents of the next candidates, no more than may be moved: a slice, so that memory stays bounded.
    fn pick(&self, waiting: &mut Waiting, how_far: Rewriting, collected: &mut Collected) -> Picked {
        let mut picked = Picked::new();
        let mut bytes = 0;
        while bytes < SLICE_BYTES && picked.len() < SLICE_EXTENTS && !self.is_stopping() {
            // When the best one is too much, it is waited for and no worse one taken.
            let Some((candidate, _)) =
                waiting.next_if(|(_, seen)| seen.saturating_add(bytes) <= how_far.bytes_max)
            else {
                break;
            };
            match self.extents_of(candidate, how_far.also_hot) {
                Ok(extents) => {
                    let sum: u64 = extents.iter().map(|(_, extent)| u64::from(extent.len)).sum();
                    if bytes + sum > how_far.bytes_max {
                        break;
                    }
                    add(&mut picked, &mut bytes, extents);
                }
                Err(error) => collected.failed(&error),
            }
        }
        picked
    }

    /// What has to be copied for a candidate; nothing if it is not worth it any more.
    fn extents_of(
        &self,
        candidate: Candidate,
        also_hot: bool,
    ) -> Result<Vec<(StrandId, Extent)>, RewriteError> {
        let Stretch { strand, start, .. } = match candidate {
            Candidate::Sparse(block) => return self.of_block(block),
            Candidate::Scattered(stretch) => stretch,
        };
        let end = start.saturating_add(STRETCH_BYTES);
        if !also_hot && !self.read_state().pieces.overlapping(strand, start, end).is_empty() {
            return Ok(Vec::new());
        }
        let extents = extents::overlapping(self, strand, start, end)?;
        Ok(extents.into_iter().map(|extent| (strand, extent)).collect())
    }

    /// The extents that point into a block, if it is sparse.
    fn of_block(&self, block: BlockName) -> Result<Vec<(StrandId, Extent)>, RewriteError> {
        let footer = self.blocks.footer(block)?;
        let mut found = BTreeMap::new();
        for placed in footer.pieces() {
            let strand = StrandId::from_raw(placed.piece.strand);
            let end = placed.piece.start.saturating_add(placed.piece.len.into());
            for extent in extents::overlapping(self, strand, placed.piece.start, end)? {
                if extent.block == block {
                    found.insert((strand, extent.start), extent);
                }
            }
        }
        let live: u64 = found.values().map(|extent| u64::from(extent.len)).sum();
        // The listing knew only the size of the whole block, footer included.
        if live * 2 >= u64::from(footer.payload_len()) {
            return Ok(Vec::new());
        }
        Ok(found.into_iter().map(|((strand, _), extent)| (strand, extent)).collect())
    }

    /// Copies extents into one new block and commits what is still current; returns how many bytes that was.
    fn copy(&self, extents: &[(StrandId, Extent)]) -> Result<u64, RewriteError> {
        let mut runs: Vec<Run> = Vec::new();
        // For each extent, which run it went to.
        let mut run_of = Vec::with_capacity(extents.len());
        for (strand, from) in extents {
            let bytes = self.blocks.read(from.block, from.at..from.at + from.len)?;
            let part = Part { len: from.len, newest: from.generation, last: None, bytes };
            match runs.last_mut() {
                Some(run) if run.strand == *strand && run.end() == from.start => run.join(part),
                _ => runs.push(Run::new(*strand, from.start, part)),
            }
            run_of.push(runs.len() - 1);
        }
        // In flight until the extents are committed, or the block is given up.
        let minted = self.block_mint.mint();
        let (block, new) = build(minted.name(), &runs)?;
        self.blocks.put(&block)?;
        let copied: Vec<_> = extents
            .iter()
            .zip(run_of)
            .map(|((strand, from), run)| {
                let (_, to) = new[run];
                let skip = u32::try_from(from.start - to.start).expect("within a block");
                Copied { strand: *strand, from: *from, block: to.block, at: to.at + skip }
            })
            .collect();
        Ok(self.commit_copied(&copied)?)
    }

    /// Puts the copies in the place of what was copied, as far as that is still there.
    fn commit_copied(&self, copied: &[Copied]) -> Result<u64, CommitError> {
        let _extents = self.lock_extents(copied.iter().map(|copied| copied.strand));
        let mut commit = Commit::new();
        let mut moved = 0;
        for of_strand in copied.chunk_by(|one, other| one.strand == other.strand) {
            let strand = of_strand[0].strand;
            let (mut old, mut new) = (Vec::new(), Vec::new());
            for copied in of_strand {
                let from = copied.from;
                let now = extents::overlapping(self, strand, from.start, from.end());
                let now = now.map_err(row_error)?;
                for extent in now.into_iter().filter(|extent| copied.holds(extent)) {
                    moved += u64::from(extent.len);
                    push_joined(&mut new, copied.of(&extent));
                    old.push(extent);
                }
            }
            extents::replace(&mut commit, strand, &old, &new);
        }
        if commit.is_empty() {
            return Ok(0);
        }
        let done = self.append(commit)?;
        self.write_out()?;
        self.ease_overlay(done)?;
        Ok(moved)
    }
}

impl Copied {
    /// Whether an extent points to bytes that were copied.
    fn holds(&self, extent: &Extent) -> bool {
        let from = self.from;
        extent.block == from.block
            && extent.start >= from.start
            && extent.end() <= from.end()
            && u64::from(extent.at) == u64::from(from.at) + (extent.start - from.start)
    }

    /// The same bytes in their new place.
    fn of(&self, extent: &Extent) -> Extent {
        let skip = u32::try_from(extent.start - self.from.start).expect("within an extent");
        Extent { block: self.block, at: self.at + skip, ..*extent }
    }
}

/// Adds an extent, as a part of the last one if it continues it in strand and block.
fn push_joined(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.end() == next.start && last.at + last.len == next.at => {
            last.len += next.len;
            last.generation = last.generation.max(next.generation);
        }
        _ => extents.push(next),
    }
}

/// Adds to what is picked, of `bytes` bytes. An extent that was picked already may be longer now: what was looked up
/// last counts.
fn add(picked: &mut Picked, bytes: &mut u64, extents: Vec<(StrandId, Extent)>) {
    for (strand, extent) in extents {
        let before = picked.insert((strand, extent.start), extent);
        *bytes += u64::from(extent.len);
        *bytes -= before.map_or(0, |before| u64::from(before.len));
    }
}

/// Takes extents for one block.
fn fill(
    rest: &mut std::iter::Peekable<impl Iterator<Item = (StrandId, Extent)>>,
) -> Vec<(StrandId, Extent)> {
    let mut batch = Vec::new();
    let mut room = BLOCK_BYTES_MAX;
    while batch.len() < BLOCK_PIECES_MAX as usize
        && let Some((strand, extent)) = rest.next_if(|(_, extent)| extent.len <= room)
    {
        room -= extent.len;
        batch.push((strand, extent));
    }
    batch
}

/// As much is picked before it is copied, ...
const SLICE_BYTES: u64 = 256 << 20;
/// ... or as many extents.
const SLICE_EXTENTS: usize = 1 << 18;

#[cfg(test)]
mod tests {
    //! Goal: what is picked is never more than it is counted as, or a round copies more than it may.

    use super::*;
    use crate::types::Position;

    #[test]
    fn an_extent_that_grew_after_it_was_picked_is_counted_as_it_is_now() {
        let strand = StrandId::from_raw(1);
        let extent = |len: u32| {
            let block = BlockName { domain: 0, epoch: 1, counter: len.into() };
            (strand, Extent { start: 0, len, block, at: 0, generation: Position::START })
        };
        let (mut picked, mut bytes) = (Picked::new(), 0);
        for len in [4096, 1 << 20, 10] {
            add(&mut picked, &mut bytes, vec![extent(len)]);
            assert_eq!((picked.len(), bytes), (1, u64::from(len)));
        }
    }
}
