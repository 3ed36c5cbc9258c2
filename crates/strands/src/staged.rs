//! Large payload is written once: into a block of its own first, then one commit says where it lies.
//!
//! 1. The block is put: durable when that returns, if somebody waits for it anyhow, and else without a sync. Nobody
//!    names it yet.
//! 2. The commit carries the extents as rows, a `placed` operation for the range, and whatever else the caller
//!    changes with it, and is applied whole as any other. For a block that was not synced it also says that it needs
//!    it, and is durable only when the block is (`unsynced.rs`).
//!
//! What the journal holds of the range is older than the `placed` operation and goes with it, in memory as
//! at a replay; a round of packing that is under way finds those pieces gone and leaves its copies out.
//!
//! A crash or a failure between the two steps leaves a block that nobody names: collection finds it. Its
//! name is in flight until then. When the store takes no block (it is away, or its staging is full) the
//! payload goes into the journal like any other, and waits there for packing.
//!
//! The first step is done before any lock is taken, so large writes side by side do not wait for each other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use block_store::{BLOCK_BYTES_MAX, BlockBuilder, PutError};
use bytes::Bytes;

use crate::collect::MintedBlock;
use crate::commit::{Commit, Op};
use crate::error::CommitError;
use crate::extents::Extent;
use crate::shared::Shared;
use crate::types::{Position, StrandId};

/// Payload for one range of a strand, which [`Commit::place`] puts there: in blocks of its own, durable or on their
/// way to the disk, or to be journalled.
///
/// Dropped without a commit it leaves no trace but blocks that collection removes.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Where it is for, if it lies in blocks.
    strand: StrandId,
    start: u64,
    bytes: Bytes,
    /// Empty: it goes into the journal.
    extents: Vec<Extent>,
    /// Its blocks were not synced.
    unsynced: bool,
    /// Keeps collection away from the blocks.
    _in_flight: Vec<Arc<MintedBlock>>,
}

impl Staged {
    /// Payload that goes into the journal.
    pub fn journalled(bytes: Bytes) -> Self {
        let strand = StrandId::from_raw(0);
        Self {
            strand,
            start: 0,
            bytes,
            extents: Vec::new(),
            unsynced: false,
            _in_flight: Vec::new(),
        }
    }

    /// How many bytes it is.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it lies in blocks already.
    pub fn is_in_blocks(&self) -> bool {
        !self.extents.is_empty()
    }

    pub(crate) fn strand(&self) -> StrandId {
        self.strand
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// What the commit says of its blocks besides where they are.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Op> {
        let unsynced = self.extents.iter().filter(|_| self.unsynced);
        unsynced.map(|extent| Op::Needs { block: extent.block })
    }

    pub(crate) fn write(&self) -> Op {
        Op::Write { strand: self.strand, offset: self.start, bytes: self.bytes.clone() }
    }
}

impl Commit {
    /// Writes staged payload to `offset` of a strand, over what was there. If it was staged for another
    /// place, it goes into the journal.
    pub fn place(&mut self, strand: StrandId, offset: u64, staged: Staged) -> &mut Self {
        let is_here = (staged.strand, staged.start) == (strand, offset);
        match u32::try_from(staged.len()) {
            Ok(len) if is_here && staged.is_in_blocks() => {
                self.push(Op::Placed { strand, start: offset, len });
                self.stage(staged);
                self
            }
            Ok(_) | Err(_) => self.write(strand, offset, staged.bytes),
        }
    }
}

impl Shared {
    /// Whether a write of so many bytes should get blocks of its own.
    pub(crate) fn should_stage(&self, payload_bytes: usize) -> bool {
        let is_large =
            u64::try_from(payload_bytes).is_ok_and(|len| len >= self.options.stage_bytes);
        is_large && self.not_fenced().is_ok()
    }

    /// Puts payload into blocks of its own, synced or not; into none if the store takes none.
    pub(crate) fn stage(
        &self,
        strand: StrandId,
        start: u64,
        bytes: Bytes,
        unsynced: bool,
    ) -> Result<Staged, CommitError> {
        if unsynced {
            self.wait_unsynced_room()?;
        }
        let mut staged = Staged { strand, start, unsynced, ..Staged::journalled(bytes.clone()) };
        let max = BLOCK_BYTES_MAX as usize;
        for from in (0..bytes.len()).step_by(max) {
            let part = bytes.slice(from..bytes.len().min(from + max));
            match self.stage_block(strand, start + from as u64, &part, unsynced) {
                Ok((extent, minted)) => {
                    staged.extents.push(extent);
                    staged._in_flight.push(Arc::new(minted));
                }
                Err(PutError::NoSpace { .. }) => return Err(CommitError::NoSpace),
                Err(error) => {
                    tracing::debug!(%error, "large payload goes into the journal");
                    return Ok(Staged::journalled(bytes));
                }
            }
        }
        self.staged_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(staged)
    }

    fn stage_block(
        &self,
        strand: StrandId,
        start: u64,
        bytes: &Bytes,
        unsynced: bool,
    ) -> Result<(Extent, MintedBlock), PutError> {
        let minted = self.block_mint.mint();
        let len = u32::try_from(bytes.len()).expect("at most a block");
        // Where the journal was when the bytes were accepted. Their place among other writes is that of
        // the commit.
        let generation = Position::of(self.log.positions().appended);
        let piece =
            block_store::Piece { strand: strand.get(), start, generation: generation.get(), len };
        let mut builder = BlockBuilder::new();
        let at = builder.add(piece, &[bytes]).expect("one piece of at most a block fits");
        let block = builder.finish(minted.name());
        if unsynced {
            self.blocks.put_unsynced(&block)?;
        } else {
            self.blocks.put(&block)?;
        }
        Ok((Extent { start, len, block: minted.name(), at, generation }, minted))
    }
}
