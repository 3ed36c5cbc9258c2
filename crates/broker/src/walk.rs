//! Walking over the batch headers of a segment: which bytes to read next, and what they say.
//!
//! The walk itself does no I/O; [`headers`] and [`headers_blocking`] read for it.
//!
//! Invariant: each step goes at least one header forward, and never beyond the segment's end; batches
//! follow each other without gaps in bytes and in offsets, anything else is damage.

use std::ops::ControlFlow;

use strands::{StrandId, Strands};

use crate::batch::{BatchError, HEADER_BYTES, Header};
use crate::error::Fault;
use crate::rows::Place;

/// Bytes that are read at once to find headers.
const CHUNK_BYTES: u32 = 64 << 10;

/// One batch that the walk came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of the strand before it.
    pub(crate) at: u64,
    pub(crate) header: Header,
}

/// A walk over the batches of one strand, from a known one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    strand: StrandId,
    at: u64,
    end: u64,
    next: i64,
}

impl Walk {
    /// From the batch at `from` to the end of the segment, which has `end` bytes.
    pub(crate) const fn new(from: Place, end: u64) -> Self {
        Self { strand: from.strand, at: from.at, end, next: from.base }
    }

    /// Where to read next, and how much; `None` at the end.
    fn want(&self) -> Option<(u64, u32)> {
        let left = self.end.checked_sub(self.at).filter(|left| *left > 0)?;
        Some((self.at, u32::try_from(left).unwrap_or(u32::MAX).min(CHUNK_BYTES)))
    }

    /// Visits all headers that lie whole in `bytes`, which were read as [`Self::want`] asked.
    fn feed(
        &mut self,
        bytes: &[u8],
        visit: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        let from = self.at;
        loop {
            let skip = usize::try_from(self.at - from).unwrap_or(usize::MAX);
            let rest = bytes.get(skip..).unwrap_or_default();
            if rest.len() < HEADER_BYTES && self.at != from {
                return Ok(ControlFlow::Continue(()));
            }
            let header = checked_header(self.strand, self.at, self.next, rest)?;
            let size = u64::try_from(header.bytes).unwrap_or(u64::MAX);
            if size > self.end - self.at {
                return Err(damage(self.strand, self.at, "a batch goes beyond the end"));
            }
            let step = Step { at: self.at, header };
            self.at += size;
            self.next = header.next_offset();
            if visit(step).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if self.at == self.end {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}

/// Reads the header of the batch that must begin here with offset `base`.
pub(crate) fn checked_header(
    strand: StrandId,
    at: u64,
    base: i64,
    bytes: &[u8],
) -> Result<Header, Fault> {
    let header = Header::parse(bytes).map_err(|why: BatchError| damage(strand, at, why))?;
    if header.base_offset != base {
        let found = header.base_offset;
        return Err(damage(strand, at, format!("batch of offset {found} where {base} should be")));
    }
    Ok(header)
}

/// Says where what was found cannot be.
pub(crate) fn damage(strand: StrandId, at: u64, why: impl std::fmt::Display) -> Fault {
    Fault::Damaged(format!("{strand}, byte {at}: {why}"))
}

/// Visits the headers until `visit` breaks or the segment ends.
pub(crate) async fn headers(
    strands: &Strands,
    mut walk: Walk,
    visit: &mut (dyn FnMut(Step) -> ControlFlow<()> + Send),
) -> Result<(), Fault> {
    while let Some((at, len)) = walk.want() {
        let bytes = strands.read_dense(walk.strand, at, len).await?;
        if walk.feed(&bytes, visit)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// [`headers`] for a thread that may block.
pub(crate) fn headers_blocking(
    strands: &Strands,
    mut walk: Walk,
    visit: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<(), Fault> {
    while let Some((at, len)) = walk.want() {
        let bytes = strands.read_dense_blocking(walk.strand, at, len)?;
        if walk.feed(&bytes, visit)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}
