//! A piece: 4 MiB of a strand as up to 64 chunks, of which only those that hold something exist.
//!
//! Chunks lie in a vector in order; a word says which of the 64 there are, so that the place of one is a
//! count of bits. The piece adds up what its chunks know, so that "all here?" and "dirty?" are comparisons.

use std::ops::Range;

use crate::budget::Purse;
use crate::chunk::{CHUNK_OWN_BYTES, Chunk};
use crate::coverage::{CHUNK_BYTES, Kind};
use crate::types::{Generation, PIECE_BYTES};

/// Chunks of a piece.
const CHUNKS: u32 = PIECE_BYTES / CHUNK_BYTES;
const _: () = assert!(CHUNKS == 64, "one word says which chunks there are");

/// A sequential writer gets whole buffers from this chunk on: what it leaves unused is then less than what
/// it wrote.
const SEQUENTIAL_FROM: u32 = 1;

/// What a read gives beside bytes.
#[derive(Debug)]
pub(crate) struct PieceRun {
    pub(crate) kind: Kind,
    pub(crate) range: Range<u32>,
}

#[derive(Debug)]
pub(crate) struct Piece {
    present: u64,
    #[expect(clippy::vec_box, reason = "an insert moves what is behind it: addresses, not chunks")]
    chunks: Vec<Box<Chunk>>,
    data_bytes: u32,
    hole_bytes: u32,
    dirty_pages: u32,
    /// Where the last write or fill ended.
    last_end: u32,
    /// The write that made it dirty, and the newest write.
    oldest: Generation,
    newest: Generation,
}

impl Piece {
    pub(crate) const fn new() -> Self {
        Self {
            present: 0,
            chunks: Vec::new(),
            data_bytes: 0,
            hole_bytes: 0,
            dirty_pages: 0,
            last_end: 0,
            oldest: Generation::new(0),
            newest: Generation::new(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data_bytes == 0 && self.hole_bytes == 0
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty_pages > 0
    }

    pub(crate) fn dirty_pages(&self) -> u32 {
        self.dirty_pages
    }

    pub(crate) fn oldest(&self) -> Generation {
        self.oldest
    }

    pub(crate) fn newest(&self) -> Generation {
        self.newest
    }

    /// Whether every byte is here, as data or as a hole.
    pub(crate) fn is_full(&self) -> bool {
        self.data_bytes + self.hole_bytes == PIECE_BYTES
    }

    /// Most bytes that a write to `range` allocates.
    pub(crate) fn quote(&self, range: &Range<u32>) -> u64 {
        let mut bytes = 0;
        let mut new = 0;
        for (index, local) in by_chunk(range.clone()) {
            let sequential = self.is_sequential(range, index);
            match self.chunk(index) {
                Some(chunk) => bytes += chunk.quote(&local, sequential),
                None => {
                    new += 1;
                    bytes += Chunk::quote_new(&local, sequential);
                }
            }
        }
        bytes + self.grown(new).map_or(0, table_bytes)
    }

    /// Capacity of the chunk table for `new` more, if it has to grow.
    fn grown(&self, new: usize) -> Option<usize> {
        let needed = self.chunks.len() + new;
        (needed > self.chunks.capacity()).then(|| needed.next_power_of_two())
    }

    /// Whether a write to `range` begins this chunk where the one before it stopped.
    fn is_sequential(&self, range: &Range<u32>, index: u32) -> bool {
        let begins = range.start == index * CHUNK_BYTES;
        begins && index >= SEQUENTIAL_FROM && self.last_end == range.start
    }

    /// Writes bytes from `at` on. What it may allocate was quoted.
    pub(crate) fn write(
        &mut self,
        at: u32,
        bytes: &[u8],
        generation: Generation,
        purse: &mut Purse<'_>,
    ) {
        if !self.is_dirty() {
            self.oldest = generation;
        }
        self.oldest = self.oldest.min(generation);
        self.newest = self.newest.max(generation);
        self.reserve_table(at..at + len_u32(bytes), purse);
        self.put(at, bytes, purse, &mut |chunk, at, bytes| chunk.write(at, bytes, generation));
    }

    /// Takes bytes from `at` on where nothing is known; returns how many. What it may allocate was quoted.
    pub(crate) fn fill(&mut self, at: u32, bytes: &[u8], purse: &mut Purse<'_>) -> u32 {
        self.reserve_table(at..at + len_u32(bytes), purse);
        let mut taken = 0;
        self.put(at, bytes, purse, &mut |chunk, at, bytes| taken += chunk.fill(at, bytes));
        taken
    }

    fn reserve_table(&mut self, range: Range<u32>, purse: &mut Purse<'_>) {
        let new = by_chunk(range).filter(|(index, _)| self.present & (1 << index) == 0).count();
        if let Some(capacity) = self.grown(new) {
            purse.spend(table_bytes(capacity));
            purse.put_back(table_bytes(self.chunks.capacity()));
            let mut grown = Vec::with_capacity(capacity);
            grown.append(&mut self.chunks);
            self.chunks = grown;
        }
    }

    fn put(
        &mut self,
        at: u32,
        bytes: &[u8],
        purse: &mut Purse<'_>,
        put: &mut dyn FnMut(&mut Chunk, u32, &[u8]),
    ) {
        let range = at..at + len_u32(bytes);
        for (index, local) in by_chunk(range.clone()) {
            let sequential = self.is_sequential(&range, index);
            let from = (index * CHUNK_BYTES + local.start - at) as usize;
            let bytes = &bytes[from..from + local.len()];
            if self.present & (1 << index) == 0 {
                purse.spend(CHUNK_OWN_BYTES);
                self.chunks.insert(self.place(index), Box::new(Chunk::new()));
                self.present |= 1 << index;
            }
            self.change(index, |chunk| {
                chunk.prepare(&local, sequential, purse);
                put(chunk, local.start, bytes);
            });
        }
        self.last_end = range.end;
    }

    /// Changes a chunk that is present, and counts again what it knows.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Chunk)) {
        let place = self.place(index);
        let chunk = &mut *self.chunks[place];
        self.data_bytes -= chunk.coverage().data_bytes();
        self.hole_bytes -= chunk.coverage().hole_bytes();
        self.dirty_pages -= chunk.dirty_pages();
        change(chunk);
        self.data_bytes += chunk.coverage().data_bytes();
        self.hole_bytes += chunk.coverage().hole_bytes();
        self.dirty_pages += chunk.dirty_pages();
    }

    /// Makes the part of `range` in chunks that are here a hole.
    pub(crate) fn punch(&mut self, range: Range<u32>, purse: &mut Purse<'_>) {
        for (index, local) in by_chunk(range) {
            if self.present & (1 << index) != 0 {
                self.change(index, |chunk| chunk.punch(local, purse));
            }
        }
    }

    /// Forgets the bytes of `range`, saved or not.
    pub(crate) fn forget(&mut self, range: Range<u32>, purse: &mut Purse<'_>) {
        for (index, local) in by_chunk(range) {
            if self.present & (1 << index) != 0 {
                self.change(index, |chunk| chunk.forget(local, purse));
                self.drop_if_empty(index, purse);
            }
        }
    }

    fn drop_if_empty(&mut self, index: u32, purse: &mut Purse<'_>) {
        let place = self.place(index);
        if self.chunks[place].is_empty() {
            self.chunks.remove(place).release(purse);
            purse.put_back(CHUNK_OWN_BYTES);
            self.present &= !(1 << index);
        }
    }

    /// Notes that everything up to `generation` is safe elsewhere.
    pub(crate) fn save(&mut self, generation: Generation) {
        let mut oldest: Option<Generation> = None;
        self.dirty_pages = 0;
        for chunk in &mut self.chunks {
            chunk.save(generation);
            self.dirty_pages += chunk.dirty_pages();
            oldest = match (oldest, chunk.oldest()) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        self.oldest = oldest.unwrap_or(self.oldest);
    }

    /// Copies what is here of `at..at + to.len()`, writes zeros for holes, and shows every run that is not
    /// data.
    pub(crate) fn read(&self, at: u32, to: &mut [u8], other: &mut dyn FnMut(PieceRun)) {
        let range = at..at + len_u32(to);
        for (index, local) in by_chunk(range) {
            let base = index * CHUNK_BYTES;
            let Some(chunk) = self.chunk(index) else {
                other(PieceRun { kind: Kind::Cold, range: base + local.start..base + local.end });
                continue;
            };
            let mut from = local.start;
            while from < local.end {
                let (kind, end) = chunk.coverage().run(from, local.end);
                let start = (base + from - at) as usize;
                let part = &mut to[start..start + (end - from) as usize];
                match kind {
                    Kind::Data => chunk.copy_out(from, part),
                    Kind::Hole => part.fill(0),
                    Kind::Cold => {}
                }
                if kind != Kind::Data {
                    other(PieceRun { kind, range: base + from..base + end });
                }
                from = end;
            }
        }
    }

    /// Whether every byte of `range` is here, as data or as a hole.
    pub(crate) fn covers(&self, range: Range<u32>) -> bool {
        if self.is_full() {
            return true;
        }
        by_chunk(range).all(|(index, local)| {
            self.chunk(index).is_some_and(|chunk| chunk.coverage().covers(local))
        })
    }

    /// The next run of dirty data at or after `at`.
    pub(crate) fn next_dirty(&self, at: u32) -> Option<Range<u32>> {
        for (index, local) in by_chunk(at..PIECE_BYTES) {
            let base = index * CHUNK_BYTES;
            let found = self.chunk(index).and_then(|chunk| chunk.next_dirty(local.start));
            if let Some(run) = found {
                return Some(base + run.start..base + run.end);
            }
        }
        None
    }

    /// Gives all memory back.
    pub(crate) fn release(self, purse: &mut Purse<'_>) {
        purse.put_back(table_bytes(self.chunks.capacity()));
        for chunk in self.chunks {
            chunk.release(purse);
            purse.put_back(CHUNK_OWN_BYTES);
        }
    }

    fn chunk(&self, index: u32) -> Option<&Chunk> {
        (self.present & (1 << index) != 0).then(|| &*self.chunks[self.place(index)])
    }

    /// Where in the table a chunk is, or would be.
    fn place(&self, index: u32) -> usize {
        (self.present & ((1 << index) - 1)).count_ones() as usize
    }
}

/// The chunks that a range touches, with the range in each.
fn by_chunk(range: Range<u32>) -> impl Iterator<Item = (u32, Range<u32>)> {
    let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
    chunks.map(move |index| {
        let base = index * CHUNK_BYTES;
        (index, range.start.max(base) - base..range.end.min(base + CHUNK_BYTES) - base)
    })
}

fn table_bytes(capacity: usize) -> u64 {
    (capacity * size_of::<Box<Chunk>>()) as u64
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("within a piece")
}
