//! The cache itself: shards, and the calls that touch bytes.
//!
//! A piece lives in one of [`SHARDS`] shards, each a table behind a mutex. Neighbouring pieces of a strand
//! lie in neighbouring shards, so threads meet neither between files nor within one. Bytes are copied under
//! the shard's lock: an answer about one piece is of one moment. A write that touches several pieces holds
//! all their shards, taken in order, and so lands whole or not at all; all other calls hold one lock at a
//! time.
//!
//! Order of locks: the queue of those who wait (`room.rs`), shards by number, the pool of buffers. Room is
//! made (`evict.rs`) and handed on only while no shard is locked.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::budget::{Budget, Purse};
use crate::coverage::Kind;
use crate::error::{CacheFull, WriteError};
use crate::index::mix;
use crate::piece::{Piece, PieceRun};
use crate::room::Waiters;
use crate::table::{Stamp, Table};
use crate::types::{Generation, PIECE_BYTES, PieceId};

/// How many parts of the cache can be worked on at once.
pub(crate) const SHARDS: usize = 32;
const _: () = assert!(SHARDS <= 64, "a word names a set of shards");

/// What a cache is made with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most bytes that the cache allocates: buffers, tables and bookkeeping.
    pub budget_bytes: u64,
}

/// Bytes of strands in memory. See the crate's page for what it promises.
#[derive(Debug)]
pub struct BlockCache {
    shards: Box<[Shard]>,
    pub(crate) budget: Budget,
    pub(crate) waiters: Waiters,
    uses: AtomicU64,
    pub(crate) evicted_pieces: AtomicU64,
}

/// A part of the cache. Aligned so that two of them share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    table: Mutex<Table>,
    /// No piece in here that may be evicted was used earlier than this; the largest number if none may.
    pub(crate) oldest: AtomicU64,
}

/// What a range holds that is not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Offsets in the strand.
    pub range: Range<u64>,
    /// Why there are no bytes.
    pub kind: GapKind,
}

/// Why there are no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// Known to be zeros: it was punched, or a fill said so.
    Hole,
    /// Not here. Somebody else knows what it is: bytes, a hole, or nothing.
    Cold,
}

/// A write, as its parts need it.
#[derive(Clone, Copy, Debug)]
struct Write<'a> {
    strand: u64,
    offset: u64,
    bytes: &'a [u8],
    generation: Generation,
}

/// Pieces of a write: which, which range of it, and which bytes of the write.
#[derive(Debug)]
struct Part {
    id: PieceId,
    local: Range<u32>,
    bytes: Range<usize>,
}

impl BlockCache {
    /// An empty cache.
    pub fn new(options: Options) -> Self {
        let shards: Box<[Shard]> = (0..SHARDS).map(|_| Shard::new()).collect();
        let fixed = size_of_val(&*shards) as u64;
        Self {
            shards,
            budget: Budget::new(options.budget_bytes, fixed),
            waiters: Waiters::default(),
            uses: AtomicU64::new(0),
            evicted_pieces: AtomicU64::new(0),
        }
    }

    /// Writes bytes, which are dirty from now on. Older bytes of the same range are gone.
    ///
    /// Allocates only for 64 KiB chunks and 4 KiB pages that hold nothing yet, and for the edges of a
    /// range that does not begin or end at a multiple of 64. Writes of one strand that overlap are to be
    /// made in the order of their generations.
    ///
    /// # Errors
    ///
    /// [`WriteError::CacheFull`] if there is no room even after evicting everything that may be evicted,
    /// or if others wait for room already. Nothing has changed then. Who must not keep older bytes of the
    /// range in here calls [`Self::forget`].
    pub fn write(
        &self,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
    ) -> Result<(), WriteError> {
        let mut purse = Purse::empty(&self.budget);
        let written = self.write_from(strand, offset, bytes, generation, &mut purse);
        drop(purse);
        // What it had taken and did not need may be what somebody waits for.
        self.hand_on();
        written
    }

    /// The same with memory that was set aside before.
    pub(crate) fn write_from(
        &self,
        strand: u64,
        offset: u64,
        bytes: &[u8],
        generation: Generation,
        purse: &mut Purse<'_>,
    ) -> Result<(), WriteError> {
        let len = bytes.len();
        if offset.checked_add(len as u64).is_none() {
            return Err(WriteError::BeyondEnd { offset, len });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let write = Write { strand, offset, bytes, generation };
        let may_take = purse.left() > 0 || !self.waiters.any();
        loop {
            let Err(needed_bytes) = self.try_write(&write, purse) else { return Ok(()) };
            if !may_take || !self.make_room(needed_bytes, purse) {
                return Err(self.full(needed_bytes).into());
            }
        }
    }

    pub(crate) fn full(&self, needed_bytes: u64) -> CacheFull {
        CacheFull { needed_bytes, budget_bytes: self.budget.limit() }
    }

    /// Writes if the purse and the budget have what it takes, which is the error.
    fn try_write(&self, write: &Write<'_>, purse: &mut Purse<'_>) -> Result<(), u64> {
        let stamp = self.tick();
        let first = PieceId::at(write.strand, write.offset);
        let last = PieceId::at(write.strand, write.offset + (write.bytes.len() as u64 - 1));
        if first == last {
            let shard = self.shard(first);
            let mut table = shard.lock();
            let part = write.part(first);
            let new = usize::from(table.find(first).is_none());
            let quote = table.quote_part(&part, stamp) + table.quote(new);
            fill_purse(purse, quote, self.waiters.any())?;
            table.write_part(&part, write, stamp, purse);
            shard.publish(&table);
            return Ok(());
        }
        self.try_write_many(write, first.index..=last.index, stamp, purse)
    }

    fn try_write_many(
        &self,
        write: &Write<'_>,
        pieces: std::ops::RangeInclusive<u64>,
        stamp: Stamp,
        purse: &mut Purse<'_>,
    ) -> Result<(), u64> {
        let ids = pieces.map(|index| PieceId { strand: write.strand, index });
        let mut tables: [Option<MutexGuard<'_, Table>>; SHARDS] = [const { None }; SHARDS];
        let mut new = [0; SHARDS];
        let touched = ids.clone().fold(0_u64, |mask, id| mask | 1 << shard_of(id));
        for (number, table) in tables.iter_mut().enumerate() {
            if touched & (1 << number) != 0 {
                *table = Some(self.shards[number].lock());
            }
        }
        let mut quote = 0;
        for id in ids.clone() {
            let Some(table) = &mut tables[shard_of(id)] else { continue };
            new[shard_of(id)] += usize::from(table.find(id).is_none());
            quote += table.quote_part(&write.part(id), stamp);
        }
        for (table, new) in tables.iter().zip(new) {
            quote += table.as_ref().map_or(0, |table| table.quote(new));
        }
        fill_purse(purse, quote, self.waiters.any())?;
        for (table, new) in tables.iter_mut().zip(new) {
            if let Some(table) = table {
                table.make_room(new, purse);
            }
        }
        for id in ids {
            let Some(table) = &mut tables[shard_of(id)] else { continue };
            table.write_part(&write.part(id), write, stamp, purse);
        }
        for (table, shard) in tables.iter().zip(&self.shards) {
            if let Some(table) = table {
                shard.publish(table);
            }
        }
        Ok(())
    }

    /// Reads into `to` and says in `gaps`, in order, what of the range is not bytes.
    ///
    /// Bytes are copied, holes are filled with zeros, and what is cold is left in `to` as it was. `gaps` is
    /// cleared first; it stays empty when everything is here, and then the read allocates nothing.
    /// Neighbouring pieces are read one after the other: a write to several may be seen in part.
    pub fn read(&self, strand: u64, offset: u64, to: &mut [u8], gaps: &mut Vec<Gap>) {
        gaps.clear();
        let stamp = self.tick();
        let mut rest = to;
        let mut at = offset;
        while !rest.is_empty() {
            let id = PieceId::at(strand, at);
            let step =
                usize::try_from(id.range().end - at).map_or(rest.len(), |n| n.min(rest.len()));
            if step == 0 {
                // The byte after the largest offset: nothing can be there.
                break;
            }
            let (now, later) = rest.split_at_mut(step);
            self.read_piece(id, at, now, stamp, gaps);
            rest = later;
            at += step as u64;
        }
    }

    fn read_piece(&self, id: PieceId, at: u64, to: &mut [u8], stamp: Stamp, gaps: &mut Vec<Gap>) {
        let mut table = self.shard(id).lock();
        let Some(slot) = table.find(id) else {
            drop(table);
            return push_gap(gaps, at..at + to.len() as u64, GapKind::Cold);
        };
        let entry = table.entry_mut(slot);
        entry.stamp = stamp;
        let base = id.start();
        let local = u32::try_from(at - base).expect("within a piece");
        entry.piece.read(local, to, &mut |PieceRun { kind, range }| {
            let range = base + u64::from(range.start)..base + u64::from(range.end);
            match kind {
                Kind::Data => {}
                Kind::Hole => push_gap(gaps, range, GapKind::Hole),
                Kind::Cold => push_gap(gaps, range, GapKind::Cold),
            }
        });
    }

    /// Whether every byte of a range is here, as bytes or as a hole. Not a use.
    pub fn is_covered(&self, strand: u64, range: Range<u64>) -> bool {
        pieces_of(strand, &range).all(|id| {
            let table = self.shard(id).lock();
            let Some(slot) = table.find(id) else { return false };
            table.entry(slot).piece.covers(local(id, &range))
        })
    }

    /// Whether anything is here of the pieces that a range touches. Not a use; much cheaper than a read.
    pub fn holds_some(&self, strand: u64, range: Range<u64>) -> bool {
        pieces_of(strand, &range).any(|id| self.shard(id).lock().find(id).is_some())
    }

    /// Cuts a strand to `len` bytes: what lies at `len` and beyond is gone, dirty or not, and cold.
    pub fn truncate(&self, strand: u64, len: u64) {
        self.change_pieces(strand, len..u64::MAX, Change::Forget);
    }

    /// Forgets a strand, dirty or not.
    pub fn remove(&self, strand: u64) {
        self.change_pieces(strand, 0..u64::MAX, Change::Forget);
    }

    /// Makes a range zeros.
    ///
    /// What the cache holds of the range, bytes or not, becomes a hole to the byte and is no longer dirty.
    /// What it does not hold (in units of 64 KiB) stays cold: where a hole is recorded for good is the
    /// caller's to know.
    pub fn punch_hole(&self, strand: u64, range: Range<u64>) {
        self.change_pieces(strand, range, Change::Punch);
    }

    /// Makes a range cold, dirty or not: newer bytes of it are elsewhere.
    pub fn forget(&self, strand: u64, range: Range<u64>) {
        self.change_pieces(strand, range, Change::Forget);
    }

    fn change_pieces(&self, strand: u64, range: Range<u64>, change: Change) {
        if range.is_empty() {
            return;
        }
        let first = PieceId::at(strand, range.start);
        let last = PieceId::at(strand, range.end - 1);
        if last.index - first.index < SHARDS as u64 {
            for id in pieces_of(strand, &range) {
                self.change_in(self.shard(id), |table, purse| {
                    if let Some(slot) = table.find(id) {
                        table.change(slot, &range, change, purse);
                    }
                });
            }
        } else {
            for shard in &self.shards {
                self.change_in(shard, |table, purse| {
                    table.change_chain(strand, &range, change, purse);
                });
            }
        }
        self.hand_on();
    }

    /// Changes a shard without asking for room. What becomes free is in the budget when it returns.
    pub(crate) fn change_in<R>(
        &self,
        shard: &Shard,
        change: impl FnOnce(&mut Table, &mut Purse<'_>) -> R,
    ) -> R {
        let mut purse = Purse::empty(&self.budget);
        let mut table = shard.lock();
        let result = change(&mut table, &mut purse);
        shard.publish(&table);
        result
    }

    /// A number for this use of the cache.
    pub(crate) fn tick(&self) -> Stamp {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn shard(&self, id: PieceId) -> &Shard {
        &self.shards[shard_of(id)]
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }
}

impl Shard {
    fn new() -> Self {
        Self { table: Mutex::new(Table::new()), oldest: AtomicU64::new(Stamp::MAX) }
    }

    /// No code between lock and unlock can leave a table half changed but a panic of ours.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how old the oldest evictable piece can be. Called before the lock is let go.
    pub(crate) fn publish(&self, table: &Table) {
        let oldest = table.first_turn().unwrap_or(Stamp::MAX);
        if self.oldest.load(Ordering::Relaxed) != oldest {
            self.oldest.store(oldest, Ordering::SeqCst);
        }
    }
}

/// What happens to the bytes of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Forget,
    Punch,
}

impl Table {
    /// Most bytes that a part of a write allocates, but for a new entry.
    fn quote_part(&mut self, part: &Part, stamp: Stamp) -> u64 {
        let Some(slot) = self.find(part.id) else { return Piece::new().quote(&part.local) };
        let entry = self.entry_mut(slot);
        // Used already now, so that making room for it does not evict it.
        entry.stamp = stamp;
        entry.piece.quote(&part.local)
    }

    fn write_part(&mut self, part: &Part, write: &Write<'_>, stamp: Stamp, purse: &mut Purse<'_>) {
        let slot = self.find_or_add(part.id, stamp, purse);
        let bytes = &write.bytes[part.bytes.clone()];
        self.entry_mut(slot).piece.write(part.local.start, bytes, write.generation, purse);
        self.settle(slot, purse);
    }

    /// The entry of a piece. What a new one needs was quoted.
    pub(crate) fn find_or_add(&mut self, id: PieceId, stamp: Stamp, purse: &mut Purse<'_>) -> u32 {
        if let Some(slot) = self.find(id) {
            return slot;
        }
        self.make_room(1, purse);
        self.add(id, stamp, purse)
    }

    fn change(&mut self, slot: u32, range: &Range<u64>, change: Change, purse: &mut Purse<'_>) {
        let entry = self.entry_mut(slot);
        let local = local(entry.id(), range);
        entry.epoch += 1;
        match change {
            Change::Forget => entry.piece.forget(local, purse),
            Change::Punch => entry.piece.punch(local, purse),
        }
        self.settle(slot, purse);
    }

    fn change_chain(
        &mut self,
        strand: u64,
        range: &Range<u64>,
        change: Change,
        purse: &mut Purse<'_>,
    ) {
        let mut next = self.chain(strand).next();
        while let Some(slot) = next {
            next = self.after(slot);
            let piece = self.entry(slot).id().range();
            if piece.start < range.end && range.start < piece.end {
                self.change(slot, range, change, purse);
            }
        }
    }
}

impl Write<'_> {
    /// The part of the write that lies in a piece.
    fn part(&self, id: PieceId) -> Part {
        let range = self.offset..self.offset + self.bytes.len() as u64;
        let local = local(id, &range);
        let from = id.start() + u64::from(local.start) - self.offset;
        let from = usize::try_from(from).expect("within the bytes of the write");
        Part { id, bytes: from..from + local.len(), local }
    }
}

/// Takes what is missing from the budget, unless others wait for it.
fn fill_purse(purse: &mut Purse<'_>, bytes: u64, others_wait: bool) -> Result<(), u64> {
    match bytes.saturating_sub(purse.left()) {
        0 => Ok(()),
        missing if others_wait => Err(missing),
        _ => purse.fill_to(bytes),
    }
}

/// Adds a gap, joining it with the last one.
fn push_gap(gaps: &mut Vec<Gap>, range: Range<u64>, kind: GapKind) {
    match gaps.last_mut() {
        Some(last) if last.kind == kind && last.range.end == range.start => {
            last.range.end = range.end;
        }
        _ => gaps.push(Gap { range, kind }),
    }
}

/// The pieces that a range touches.
fn pieces_of(strand: u64, range: &Range<u64>) -> impl Iterator<Item = PieceId> {
    let pieces = range.start / u64::from(PIECE_BYTES)..range.end.div_ceil(u64::from(PIECE_BYTES));
    pieces.map(move |index| PieceId { strand, index })
}

/// The part of a range that lies in a piece, which it overlaps, from the piece's first byte.
pub(crate) fn local(id: PieceId, range: &Range<u64>) -> Range<u32> {
    let base = id.start();
    let cut = |at: u64| {
        let inside = at.saturating_sub(base).min(PIECE_BYTES.into());
        u32::try_from(inside).expect("within a piece")
    };
    cut(range.start)..cut(range.end)
}

fn shard_of(id: PieceId) -> usize {
    let place = (mix(id.strand) >> 32).wrapping_add(id.index);
    usize::try_from(place % SHARDS as u64).expect("below the number of shards")
}
