//! Memory of the tail: chunks that one appender fills and any number of readers borrow, unlocked.
//!
//! A chunk holds the frames that begin in one stride of [`CHUNK_BYTES`] locations. It has room
//! for [`OVERHANG_BYTES`] more, so that a frame of at most that size lies in one piece, whichever
//! of the chunk's bytes it begins at; what hangs over belongs to this chunk, and the next one begins
//! where it ends. Larger frames fill a chunk to the end of its stride and go on in the next one.
//!
//! A byte lies as far from the beginning of a page of memory as it will lie from the beginning of a page of its
//! file. Writing out copies from the one to the other, and processors copy slowly between places that are a
//! few bytes more than a number of pages apart: 32 KiB took 8.5 us so, 10 us at most other distances, and 17 us
//! at 8 bytes (AMD EPYC, `pwrite` into a file that is cached).
//!
//! Invariant, on which everything `unsafe` here leans: bytes below `published` never change while
//! anybody but the one [`Filling`] holds the chunk, and bytes from `published` on are touched by
//! that filling alone. There is one filling for a chunk at most, because [`Filling::begin`] wants
//! the only handle to the chunk and keeps it.
//!
//! Not here: where chunks are found (`crate::ring`), and what is put into them (`crate::tail`).
#![expect(unsafe_code, reason = "readers borrow a chunk's bytes while an appender adds more")]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::position::Location;

/// Locations from the beginning of one chunk's stride to the next one's.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Frames of at most this size lie in one piece. Less than a stride, so that each stride has a chunk.
pub(crate) const OVERHANG_BYTES: usize = 64 << 10;
const CAPACITY_BYTES: usize = CHUNK_BYTES + OVERHANG_BYTES;
/// What memory and files are mapped and copied by. Where pages are larger, this much is as good.
const PAGE_BYTES: usize = 4 << 10;
const _: () =
    assert!(CHUNK_BYTES.is_multiple_of(PAGE_BYTES), "each stride begins as its locations say");

/// How far file positions are ahead of locations, within a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase(usize);

impl Phase {
    /// That of a file in which `at` lies at `position`.
    pub(crate) fn of(at: Location, position: u64) -> Self {
        let ahead = position.wrapping_sub(at.get()) % PAGE_BYTES as u64;
        Self(usize::try_from(ahead).unwrap_or(0))
    }
}

/// Which stride a location lies in.
pub(crate) fn number_of(at: Location) -> u64 {
    at.get() / CHUNK_BYTES as u64
}

/// A piece of the tail. What it has published never changes while somebody holds it.
#[derive(Debug)]
pub(crate) struct Chunk {
    number: u64,
    /// Distance of the first byte that it holds from the beginning of the stride.
    start: usize,
    /// Distance of the end of what readers may see.
    published: AtomicUsize,
    /// Where in the memory the stride begins; less than a page.
    skew: usize,
    memory: Box<[UnsafeCell<u8>]>,
}

// SAFETY: by the module's invariant no byte is written while another thread may read it: readers
// stay below `published`, the only writer at or above it, and the store and load of `published`
// order the one before the other.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Memory for one chunk.
    pub(crate) fn allocate() -> Arc<Self> {
        let memory = Box::new_zeroed_slice(CAPACITY_BYTES + PAGE_BYTES);
        // SAFETY: zero is a value of `UnsafeCell<u8>`, which has the layout of `u8`.
        let memory = unsafe { memory.assume_init() };
        Arc::new(Self { number: 0, start: 0, published: AtomicUsize::new(0), skew: 0, memory })
    }

    /// Which stride it holds the frames of.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Location of its byte at distance `position`.
    pub(crate) fn location(&self, position: usize) -> Location {
        Location::new(self.number * CHUNK_BYTES as u64 + position as u64)
    }

    /// Distances of the bytes that it holds.
    pub(crate) fn held(&self) -> Range<usize> {
        self.start..self.published.load(Ordering::Acquire)
    }

    /// One past its last byte; it moves while the chunk is filled.
    pub(crate) fn end(&self) -> Location {
        self.location(self.held().end)
    }

    /// The distance of a location that does not lie before the stride.
    pub(crate) fn position(&self, at: Location) -> Option<usize> {
        let distance = at.get().checked_sub(self.number * CHUNK_BYTES as u64)?;
        Some(usize::try_from(distance).unwrap_or(usize::MAX))
    }

    /// The bytes at these distances; `None` unless it holds all of them.
    pub(crate) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let held = self.held();
        if range.start < held.start || range.end > held.end || range.start > range.end {
            return None;
        }
        // SAFETY: `range` lies below `published`, so with the skew within the memory, and by the module's
        // invariant nobody writes there while `self` is borrowed. All memory is initialised.
        Some(unsafe {
            slice::from_raw_parts(
                self.memory.as_ptr().add(self.skew + range.start).cast::<u8>(),
                range.end - range.start,
            )
        })
    }
}

/// The right to add to a chunk.
#[derive(Debug)]
pub(crate) struct Filling {
    chunk: Arc<Chunk>,
}

impl Filling {
    /// Empties a chunk, to be filled from location `at` on for a file of this phase; `None` when somebody else
    /// holds it.
    pub(crate) fn begin(mut chunk: Arc<Chunk>, at: Location, phase: Phase) -> Option<Self> {
        let inner = Arc::get_mut(&mut chunk)?;
        let number = number_of(at);
        inner.number = number;
        let start = inner.position(at)?;
        inner.start = start;
        inner.skew = phase.0.wrapping_sub(inner.memory.as_ptr().addr()) % PAGE_BYTES;
        *inner.published.get_mut() = start;
        Some(Self { chunk })
    }

    /// What is being filled.
    pub(crate) fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    /// Bytes from the beginning of the stride to what is filled next.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        // Nobody but this filling stores it.
        self.chunk.published.load(Ordering::Relaxed)
    }

    /// The bytes behind what is published, with whatever they hold.
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let position = self.position();
        let skew = self.chunk.skew;
        let room = &self.chunk.memory[skew + position..skew + CAPACITY_BYTES];
        // SAFETY: the bytes are initialised. By the module's invariant readers stay below
        // `published`, and there is no other filling; the borrow of `self` keeps this one from
        // publishing, or lending them again, while the slice lives.
        unsafe { slice::from_raw_parts_mut(UnsafeCell::raw_get(room.as_ptr()), room.len()) }
    }

    /// Shows the first `bytes` of the room to readers, for good.
    #[inline]
    pub(crate) fn publish(&mut self, bytes: usize) {
        let position = self.position() + bytes;
        assert!(position <= CAPACITY_BYTES, "no more is published than there was room for");
        self.chunk.published.store(position, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a byte lies as far into a page of memory as into one of its file, wherever the allocator put the
    //! chunk, also when the chunk is used again for another file; and it can be filled to its end.

    use super::*;

    #[test]
    fn memory_lies_to_pages_as_the_file_does() {
        let mut chunk = Chunk::allocate();
        for (at, position) in [(0, 128), (300_000, 128), (5_000_000, 4_999_999), (8, 0)] {
            let at = Location::new(at);
            let mut filling = Filling::begin(chunk, at, Phase::of(at, position)).unwrap();
            let room = filling.room();
            room.fill(7);
            let (address, len) = (room.as_ptr().addr(), room.len());
            assert_eq!(address % PAGE_BYTES, usize::try_from(position).unwrap() % PAGE_BYTES);
            filling.publish(len);
            let held = filling.chunk().held();
            let bytes = filling.chunk().bytes(held).unwrap();
            assert_eq!(bytes.as_ptr().addr(), address);
            assert!(bytes.iter().all(|byte| *byte == 7));
            chunk = filling.chunk;
        }
    }
}
