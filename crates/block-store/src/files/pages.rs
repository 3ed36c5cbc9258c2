//! Checksums of the 4 KiB pages of a block, so that a small read needs no more than the pages that it touches.
//!
//! A block has a checksum per 64 KiB. Whoever reads a little of a chunk for the first time reads all of it, checks
//! that, and notes the checksums of its pages; from then on its pages are checked by those. So each byte that is
//! given out was checked on its way, each time.
//!
//! Invariant: the sums of a chunk are those of bytes that passed the block's own checksum.

use std::ops::Range;
use std::sync::OnceLock;

use crate::CHUNK_BYTES;
use crate::crc::crc32c;
use crate::format::{FormatError, HEADER_BYTES};

/// Bytes of a page.
const PAGE_BYTES: u32 = 4 << 10;
/// Pages of a chunk.
const PAGES: usize = (CHUNK_BYTES / PAGE_BYTES) as usize;
/// A longer read is one of whole chunks.
const SMALL_BYTES_MAX: u32 = CHUNK_BYTES / 2;

/// What is known about the pages of one block: at most 5 KiB.
#[derive(Debug)]
pub(super) struct Pages {
    payload_len: u32,
    chunks: Box<[OnceLock<Box<[u32; PAGES]>>]>,
}

impl Pages {
    /// Nothing is known yet.
    pub(super) fn new(payload_len: u32) -> Self {
        let chunks = payload_len.div_ceil(CHUNK_BYTES);
        Self { payload_len, chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    /// Whether a read of so many bytes is checked by pages where it can be.
    pub(super) fn is_small(range: &Range<u32>) -> bool {
        range.end - range.start <= SMALL_BYTES_MAX
    }

    /// `range`, which is small and not empty, grown to whole pages, if all of them are known.
    pub(super) fn widen(&self, range: &Range<u32>) -> Option<Range<u32>> {
        let chunks =
            (range.start / CHUNK_BYTES) as usize..=((range.end - 1) / CHUNK_BYTES) as usize;
        let are_known = self.chunks[chunks].iter().all(|chunk| chunk.get().is_some());
        let start = range.start / PAGE_BYTES * PAGE_BYTES;
        let end = range.end.div_ceil(PAGE_BYTES) * PAGE_BYTES;
        are_known.then(|| start..end.min(self.payload_len))
    }

    /// Notes the pages of `bytes`, the payload from `start` on: whole chunks that were checked.
    pub(super) fn note(&self, start: u32, bytes: &[u8]) {
        let first = (start / CHUNK_BYTES) as usize;
        for (chunk, bytes) in self.chunks[first..].iter().zip(bytes.chunks(CHUNK_BYTES as usize)) {
            chunk.get_or_init(|| {
                let mut sums = Box::new([0; PAGES]);
                let pages = bytes.chunks(PAGE_BYTES as usize);
                sums.iter_mut().zip(pages).for_each(|(sum, page)| *sum = crc32c(page));
                sums
            });
        }
    }

    /// Checks `bytes`, the payload from `start` on, which are whole pages as [`Pages::widen`] gives them.
    pub(super) fn verify(&self, start: u32, bytes: &[u8]) -> Result<(), FormatError> {
        for (at, page) in
            (start..).step_by(PAGE_BYTES as usize).zip(bytes.chunks(PAGE_BYTES as usize))
        {
            let sums = self.chunks.get((at / CHUNK_BYTES) as usize).and_then(OnceLock::get);
            let sum = sums.map(|sums| sums[(at % CHUNK_BYTES / PAGE_BYTES) as usize]);
            if sum != Some(crc32c(page)) {
                let at = HEADER_BYTES as u64 + u64::from(at);
                return Err(FormatError::Damaged {
                    at,
                    why: "a page changed since it was checked",
                });
            }
        }
        Ok(())
    }
}
