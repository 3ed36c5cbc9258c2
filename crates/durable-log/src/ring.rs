//! Where the tail's chunks are found: by location, without a lock.
//!
//! A table of slots, one for each stride of the tail, used round and round. The holder of the
//! append lock puts chunks in and takes them out; readers look them up at any time. When the tail
//! gets longer than the table, a larger table takes over; tables live as long as the log, so that
//! readers need no protection for them.
//!
//! Not here: what a chunk is (`crate::chunk`), when it may go (`crate::tail`).

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;

use crate::chunk::{self, Chunk};
use crate::position::Location;

/// More than memory can hold, whatever size the first table has.
const TABLES: usize = 32;

/// Why a range that was found once is there.
const PUBLISHED: &str = "what was published stays while somebody holds the chunk";

type Slot = ArcSwapOption<Chunk>;

/// The chunks of the tail.
pub(crate) struct Ring {
    /// Each twice as large as the one before it.
    tables: [OnceLock<Box<[Slot]>>; TABLES],
    current: AtomicUsize,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("slots", &self.table().len()).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring for `chunks` chunks before it grows.
    pub(crate) fn new(chunks: usize) -> Self {
        let tables = [const { OnceLock::new() }; TABLES];
        tables[0].get_or_init(|| table(chunks.next_power_of_two()));
        Self { tables, current: AtomicUsize::new(0) }
    }

    fn table(&self) -> &[Slot] {
        let current = self.current.load(Ordering::Acquire);
        self.tables[current].get().expect("a table is made before it is current")
    }

    /// Adds a chunk. Only for the holder of the append lock.
    pub(crate) fn put(&self, chunk: Arc<Chunk>) {
        while slot(self.table(), chunk.number()).load().is_some() {
            self.grow();
        }
        slot(self.table(), chunk.number()).store(Some(chunk));
    }

    #[cold]
    fn grow(&self) {
        let old = self.table();
        let larger = table(2 * old.len());
        for chunk in old.iter().filter_map(ArcSwapOption::load_full) {
            slot(&larger, chunk.number()).store(Some(chunk));
        }
        let next = self.current.load(Ordering::Relaxed) + 1;
        assert!(self.tables[next].set(larger).is_ok(), "tables are made under the append lock");
        self.current.store(next, Ordering::Release);
        // Who still looks here sees that it moved.
        old.iter().for_each(|slot| slot.store(None));
    }

    /// Takes a chunk out. Only for the holder of the append lock. On return everybody who got it
    /// here is counted in the handle.
    pub(crate) fn take(&self, number: u64) -> Option<Arc<Chunk>> {
        let chunk = slot(self.table(), number).swap(None);
        // What a reader did with the chunk before it let go happened before anything done with it
        // from here on.
        fence(Ordering::Acquire);
        chunk
    }

    /// A chunk by its number.
    pub(crate) fn chunk(&self, number: u64) -> Option<Arc<Chunk>> {
        slot(self.table(), number).load_full().filter(|chunk| chunk.number() == number)
    }

    /// What the chunk with this location holds from there on, as far as it is published: at least
    /// one byte. `None` when it is not here any more, or not yet.
    pub(crate) fn get(&self, at: Location) -> Option<ChunkRef> {
        loop {
            let current = self.current.load(Ordering::Acquire);
            let table = self.table();
            let number = chunk::number_of(at);
            // It may hang over from the stride before.
            let found = find(table, number, at).or_else(|| find(table, number.checked_sub(1)?, at));
            if found.is_some() || self.current.load(Ordering::Acquire) == current {
                return found;
            }
        }
    }

    /// The range as pieces of chunks, which they keep; `None` if some of it is not here.
    pub(crate) fn share(&self, at: Location, len: u32) -> Option<Vec<Bytes>> {
        let mut left = len as usize;
        let mut parts = Vec::with_capacity(1);
        let mut at = at;
        while left > 0 {
            let bytes = self.get(at)?.cut(left);
            left -= bytes.len();
            at = at.plus(bytes.len() as u64);
            parts.push(bytes.into_bytes());
        }
        Some(parts)
    }
}

fn table(slots: usize) -> Box<[Slot]> {
    (0..slots).map(|_| Slot::empty()).collect()
}

fn slot(table: &[Slot], number: u64) -> &Slot {
    // The length is a power of two, so the remainder fits whatever the number is.
    let mask = table.len() - 1;
    &table[usize::try_from(number & mask as u64).unwrap_or(0)]
}

fn find(table: &[Slot], number: u64, at: Location) -> Option<ChunkRef> {
    let guard = slot(table, number).load();
    let chunk = guard.as_ref().filter(|chunk| chunk.number() == number)?;
    let start = chunk.position(at)?;
    let held = chunk.held();
    let range = start..held.end;
    (held.start <= start && start < held.end).then_some(ChunkRef { guard, range })
}

/// Bytes of the tail, borrowed: the chunk is not used again while this lives.
///
/// A thread that keeps more than eight pays a little more for each further one.
pub(crate) struct ChunkRef {
    guard: Guard<Option<Arc<Chunk>>>,
    /// Within what the chunk holds.
    range: Range<usize>,
}

impl fmt::Debug for ChunkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkRef").field("range", &self.range).finish_non_exhaustive()
    }
}

impl ChunkRef {
    /// At most the first `bytes` of it.
    #[must_use]
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.range.end = self.range.start + bytes.min(self.range.len());
        self
    }

    /// Some of these bytes in a form to keep; no copy.
    pub(crate) fn share(&self, range: Range<usize>) -> Bytes {
        let range = self.range.start + range.start..self.range.start + range.end;
        match &*self.guard {
            Some(chunk) => Bytes::from_owner(Kept { chunk: Arc::clone(chunk), range }),
            None => Bytes::new(),
        }
    }

    /// The same bytes in a form to keep; no copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        match Guard::into_inner(self.guard) {
            Some(chunk) => Bytes::from_owner(Kept { chunk, range: self.range }),
            None => Bytes::new(),
        }
    }
}

impl Deref for ChunkRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.guard.as_ref().and_then(|chunk| chunk.bytes(self.range.clone()));
        bytes.expect(PUBLISHED)
    }
}

/// Bytes of a chunk that somebody keeps.
struct Kept {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.chunk.bytes(self.range.clone()).expect(PUBLISHED)
    }
}
