//! Frames: how the two strands that a node is restored from, ledger and checkpoints, lie in blocks.
//!
//! ```text
//! frame = len u32 | crc32c u32 | kind u8 | payload, len bytes
//! ```
//!
//! Integers are little-endian. The checksum covers the frame's place in its strand (u64), `len`, `kind` and the
//! payload, so that a frame is good in one place only. Frames follow each other without gaps, over the
//! borders of blocks.
//!
//! Writing is [`Sink`], which gathers frames of both strands into blocks; reading is [`Frames`], which fetches
//! one range of a block at a time and never holds more than that and one frame.
//!
//! Not here: what the frames mean (`ledger.rs`, `checkpoint.rs`).

use block_store::{BLOCK_BYTES_MAX, BlockBuilder, BlockName, BlockStore};
use bytes::{Buf, Bytes, BytesMut};

use crate::collect::MintedBlock;
use crate::extents::Extent;
use crate::pack::PackError;
use crate::root::{BlockRange, Stream};
use crate::shared::Shared;
use crate::types::{Position, StrandId};

/// The strand of the ledger.
pub(crate) const LEDGER: StrandId = StrandId::from_raw(u64::MAX);

/// The strand of the checkpoints, one after the other.
pub(crate) const CHECKPOINTS: StrandId = StrandId::from_raw(u64::MAX - 1);

/// Most bytes in a frame's payload: a commit's operations, or the largest row of the meta store, and some.
pub(crate) const FRAME_BYTES_MAX: u32 = 17 << 20;

const HEAD_BYTES: usize = 9;

/// Why what a node is restored from cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is not what was written.
    #[error("the {what} is damaged at byte {at}, in block {block}: {why}")]
    Damaged {
        /// `ledger` or `checkpoint`.
        what: &'static str,
        /// Where in its strand.
        at: u64,
        /// Which block holds that byte.
        block: String,
        /// What is wrong there.
        why: String,
    },
    /// It was written by a version that this one does not know.
    #[error("the {what} has unknown version {found} at byte {at}, in block {block}")]
    UnknownVersion {
        /// `ledger` or `checkpoint`.
        what: &'static str,
        /// Where in its strand.
        at: u64,
        /// Which block holds that byte.
        block: String,
        /// What stands there.
        found: u32,
    },
    /// A block of it cannot be read.
    #[error("the {what} cannot be read at byte {at}: {source}")]
    Block {
        /// `ledger` or `checkpoint`.
        what: &'static str,
        /// Where in its strand.
        at: u64,
        /// What the block store said.
        #[source]
        source: block_store::ReadError,
    },
}

impl StreamError {
    /// Whether it may be gone when it is tried again.
    pub(crate) fn may_pass(&self) -> bool {
        use block_store::ReadError::{Away, Io};
        matches!(self, Self::Block { source: Io { .. } | Away { .. }, .. })
    }
}

/// Appends a frame at `at` of its strand to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, at: u64, kind: u8, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    // Whoever writes frames keeps them below the limit; a reader would refuse a longer one.
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(at, len, kind, payload).to_le_bytes());
    out.push(kind);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

fn checksum(at: u64, len: u32, kind: u8, payload: &[&[u8]]) -> u32 {
    let mut crc = crc32c::crc32c(&at.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &[kind]);
    payload.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Where a strand is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tip {
    pub(crate) strand: StrandId,
    /// The next byte.
    pub(crate) at: u64,
}

/// Gathers bytes of strands into blocks.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    shared: &'a Shared,
    /// The newest commit that is told of.
    generation: Position,
    payload: Vec<u8>,
    /// What `payload` holds: strand, start, length.
    runs: Vec<(StrandId, u64, u32)>,
    /// Where what was put is.
    pub(crate) extents: Vec<(StrandId, Extent)>,
    /// In flight until the extents are committed.
    minted: Vec<MintedBlock>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(shared: &'a Shared, generation: Position) -> Self {
        let (payload, runs, extents) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, generation, payload, runs, extents, minted: Vec::new() }
    }

    /// Writes a frame at the tip of its strand, which moves on.
    pub(crate) fn frame(
        &mut self,
        tip: &mut Tip,
        kind: u8,
        payload: &[&[u8]],
    ) -> Result<(), PackError> {
        let mut frame = Vec::new();
        encode(&mut frame, tip.at, kind, payload);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let room = BLOCK_BYTES_MAX as usize - self.payload.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.push(tip, now);
            if self.payload.len() == BLOCK_BYTES_MAX as usize {
                self.flush()?;
            }
            rest = later;
        }
        Ok(())
    }

    fn push(&mut self, tip: &mut Tip, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("at most a block");
        self.payload.extend_from_slice(bytes);
        match self.runs.last_mut() {
            Some((strand, start, run))
                if (*strand, *start + u64::from(*run)) == (tip.strand, tip.at) =>
            {
                *run += len;
            }
            _ => self.runs.push((tip.strand, tip.at, len)),
        }
        tip.at += u64::from(len);
    }

    /// Puts what was gathered into a block, durable when it returns.
    pub(crate) fn flush(&mut self) -> Result<(), PackError> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let minted = self.shared.block_mint.mint();
        let mut builder = BlockBuilder::new();
        let mut rest = &self.payload[..];
        for (strand, start, len) in self.runs.drain(..) {
            let (bytes, later) = rest.split_at(len as usize);
            rest = later;
            let generation = self.generation.get();
            let piece = block_store::Piece { strand: strand.get(), start, generation, len };
            let at = builder
                .add(piece, &[bytes])
                .map_err(|error| PackError::Store(error.to_string()))?;
            let generation = self.generation;
            let extent = Extent { start, len, block: minted.name(), at, generation };
            self.extents.push((strand, extent));
        }
        self.payload.clear();
        self.shared.put_block(&builder.finish(minted.name()))?;
        self.minted.push(minted);
        Ok(())
    }

    /// What was put of one strand, in order.
    pub(crate) fn ranges(&self, strand: StrandId) -> impl Iterator<Item = BlockRange> {
        let of_strand = self.extents.iter().filter(move |(other, _)| *other == strand);
        of_strand.map(|(_, extent)| BlockRange {
            block: extent.block,
            at: extent.at,
            len: extent.len,
        })
    }
}

/// A frame as it was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Bytes,
    /// Where it begins in its strand.
    pub(crate) at: u64,
}

/// Reads the frames of a stream in order.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    what: &'static str,
    blocks: &'a dyn BlockStore,
    stream: &'a Stream,
    /// Those that were not fetched yet.
    ranges: std::slice::Iter<'a, BlockRange>,
    buffer: BytesMut,
    /// Where `buffer` begins in the strand.
    at: u64,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(what: &'static str, blocks: &'a dyn BlockStore, stream: &'a Stream) -> Self {
        let (ranges, at) = (stream.ranges.iter(), stream.start);
        Self { what, blocks, stream, ranges, buffer: BytesMut::new(), at }
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        self.fetch(HEAD_BYTES)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let mut head = self.buffer.get(..HEAD_BYTES).ok_or_else(|| self.cut_short())?;
        let (len, crc, kind) = (head.get_u32_le(), head.get_u32_le(), head.get_u8());
        if len > FRAME_BYTES_MAX {
            return Err(self.damaged(self.at, format!("a frame of {len} bytes, which none has")));
        }
        self.fetch(HEAD_BYTES + len as usize)?;
        if self.buffer.len() < HEAD_BYTES + len as usize {
            return Err(self.cut_short());
        }
        let payload = &self.buffer[HEAD_BYTES..HEAD_BYTES + len as usize];
        if checksum(self.at, len, kind, &[payload]) != crc {
            return Err(self.damaged(self.at, "a frame does not match its checksum".to_owned()));
        }
        let at = self.at;
        self.at += HEAD_BYTES as u64 + u64::from(len);
        self.buffer.advance(HEAD_BYTES);
        let payload = self.buffer.split_to(len as usize).freeze();
        Ok(Some(Frame { kind, payload, at }))
    }

    /// Fetches until there are so many bytes, or no more.
    fn fetch(&mut self, bytes: usize) -> Result<(), StreamError> {
        while self.buffer.len() < bytes {
            let Some(range) = self.ranges.next() else { break };
            let at = self.at + self.buffer.len() as u64;
            let end = range.at.saturating_add(range.len);
            let read = self.blocks.read(range.block, range.at..end);
            let read = read.map_err(|source| StreamError::Block { what: self.what, at, source })?;
            self.buffer.extend_from_slice(&read);
        }
        Ok(())
    }

    fn cut_short(&self) -> StreamError {
        self.damaged(self.at, "it ends within a frame".to_owned())
    }

    /// What is wrong with the frame at `at`.
    pub(crate) fn damaged(&self, at: u64, why: impl Into<String>) -> StreamError {
        StreamError::Damaged { what: self.what, at, block: self.block_of(at), why: why.into() }
    }

    /// The error of a version that is not known.
    pub(crate) fn unknown_version(&self, at: u64, found: u32) -> StreamError {
        StreamError::UnknownVersion { what: self.what, at, block: self.block_of(at), found }
    }

    /// The block that holds the byte at `at`; the last one for the end.
    fn block_of(&self, at: u64) -> String {
        let mut end = self.stream.start;
        let holds = |range: &&BlockRange| {
            end += u64::from(range.len);
            at < end
        };
        let found = self.stream.ranges.iter().find(holds).or_else(|| self.stream.ranges.last());
        found.map_or_else(|| "none".to_owned(), |range| range.block.to_string())
    }
}

/// Reads the fields of a payload in order; `None` when there are too few bytes.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn position(&mut self) -> Option<Position> {
        self.u64().map(Position::new)
    }

    pub(crate) fn block(&mut self) -> Option<BlockName> {
        self.array().map(|bytes| BlockName::from_bytes(&bytes))
    }
}
