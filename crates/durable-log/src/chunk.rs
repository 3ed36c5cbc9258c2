//! Memory of the tail: chunks that one appender fills and any number of readers borrow, unlocked.
//!
//! A chunk holds the frames that begin in one stride of [`CHUNK_BYTES`] locations. It has room
//! for [`OVERHANG_BYTES`] more, so that a frame of at most that size lies in one piece, whichever
//! of the chunk's bytes it begins at; what hangs over belongs to this chunk, and the next one begins
//! where it ends. Larger frames fill a chunk to the end of its stride and go on in the next one.
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
    memory: Box<[UnsafeCell<u8>]>,
}

// SAFETY: by the module's invariant no byte is written while another thread may read it: readers
// stay below `published`, the only writer at or above it, and the store and load of `published`
// order the one before the other.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Memory for one chunk.
    pub(crate) fn allocate() -> Arc<Self> {
        let memory = Box::new_zeroed_slice(CAPACITY_BYTES);
        // SAFETY: zero is a value of `UnsafeCell<u8>`, which has the layout of `u8`.
        let memory = unsafe { memory.assume_init() };
        Arc::new(Self { number: 0, start: 0, published: AtomicUsize::new(0), memory })
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
        // SAFETY: `range` lies below `published`, so within the memory, and by the module's
        // invariant nobody writes there while `self` is borrowed. All memory is initialised.
        Some(unsafe {
            slice::from_raw_parts(
                self.memory.as_ptr().add(range.start).cast::<u8>(),
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
    /// Empties a chunk, to be filled from location `at` on; `None` when somebody else holds it.
    pub(crate) fn begin(mut chunk: Arc<Chunk>, at: Location) -> Option<Self> {
        let inner = Arc::get_mut(&mut chunk)?;
        let number = number_of(at);
        inner.number = number;
        let start = inner.position(at)?;
        inner.start = start;
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
        let room = &self.chunk.memory[position..];
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
