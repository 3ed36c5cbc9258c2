//! Runs: bytes of one strand without a gap, on their way into a block.

use block_store::format::BlockFull;
use block_store::{Block, BlockBuilder, BlockName};
use bytes::Bytes;
use durable_log::Location;

use crate::extents::Extent;
use crate::types::{Position, StrandId};

/// Bytes of one strand without a gap, in parts.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) strand: StrandId,
    pub(crate) start: u64,
    pub(crate) len: u32,
    /// The newest commit whose bytes are among them.
    newest: Position,
    /// Where in the journal the part lies that was written last, if they come from there.
    pub(crate) last: Option<Location>,
    parts: Vec<Bytes>,
}

/// A part of a run.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) len: u32,
    /// The newest commit whose bytes are among these.
    pub(crate) newest: Position,
    /// Where in the journal they lie, if they do.
    pub(crate) last: Option<Location>,
    pub(crate) bytes: Bytes,
}

impl Run {
    pub(crate) fn new(strand: StrandId, start: u64, part: Part) -> Self {
        let Part { len, newest, last, bytes } = part;
        Self { strand, start, len, newest, last, parts: vec![bytes] }
    }

    /// Adds the bytes that follow.
    pub(crate) fn join(&mut self, part: Part) {
        self.len += part.len;
        self.newest = self.newest.max(part.newest);
        self.last = self.last.max(part.last);
        self.parts.push(part.bytes);
    }

    /// One past its last byte in the strand.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// The run, cut into runs of at most `max` bytes.
    pub(crate) fn split(&self, max: u32) -> Vec<Self> {
        let whole = self.parts.concat();
        let whole = Bytes::from(whole);
        let mut cuts = Vec::new();
        let mut at = 0;
        while at < self.len {
            let len = max.min(self.len - at);
            cuts.push(Self {
                strand: self.strand,
                start: self.start + u64::from(at),
                len,
                newest: self.newest,
                last: self.last,
                parts: vec![whole.slice(at as usize..(at + len) as usize)],
            });
            at += len;
        }
        cuts
    }
}

/// A block of these runs, and the extents that point into it, one per run.
pub(crate) fn build(
    name: BlockName,
    runs: &[Run],
) -> Result<(Block, Vec<(StrandId, Extent)>), BlockFull> {
    let mut builder = BlockBuilder::new();
    let mut extents = Vec::with_capacity(runs.len());
    for run in runs {
        let piece = block_store::Piece {
            strand: run.strand.get(),
            start: run.start,
            generation: run.newest.get(),
            len: run.len,
        };
        let parts: Vec<&[u8]> = run.parts.iter().map(|part| &part[..]).collect();
        let at = builder.add(piece, &parts)?;
        let extent =
            Extent { start: run.start, len: run.len, block: name, at, generation: run.newest };
        extents.push((run.strand, extent));
    }
    Ok((builder.finish(name), extents))
}
