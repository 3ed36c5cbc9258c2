//! What one shard holds: entries, found by key, chained by strand, ordered by their last use.
//!
//! An entry is a piece with its state. It is *dirty* (listed in `dirty`), *pinned* (a fill is under way),
//! or *evictable*: then it stands in `order`, a heap by the last use. A use does not touch the heap: it
//! only stamps the entry, and an entry that turns out to be stamped later than its turn says is put back
//! when it comes up. So the order is exactly that of the last uses, and a read costs no reordering.
//!
//! Invariants, restored by [`Table::settle`] after every change: an entry is in `dirty` exactly if its piece
//! is; an evictable entry has a turn in the heap; an entry without bytes and without pins does not exist.
//! A turn whose entry is gone, dirty or pinned is dropped when it comes up.
//!
//! Tables grow only in [`Table::make_room`], which the caller has paid for. They do not shrink: per piece
//! that ever was in the cache at once that is about 200 bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;

use crate::budget::Purse;
use crate::index::{HEAD, Index, NONE, Slot};
use crate::piece::Piece;
use crate::types::PieceId;

/// Counts uses of the whole cache.
pub(crate) type Stamp = u64;

/// An entry's turn to be evicted: by last use; number and slot say whose it is.
type Turn = Reverse<(Stamp, u64, Slot)>;

const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;
const TABLE_MIN: usize = 16;

#[derive(Debug)]
pub(crate) struct Entry {
    id: PieceId,
    /// Tells this entry from one that had its slot before.
    number: u64,
    /// When it was last used.
    pub(crate) stamp: Stamp,
    pub(crate) piece: Piece,
    /// Fills that are under way.
    pub(crate) pins: u32,
    /// Counts changes that make what a fill brings stale.
    pub(crate) epoch: u64,
    is_queued: bool,
    dirty_place: Option<u32>,
    next: Slot,
    previous: Slot,
}

impl Entry {
    pub(crate) fn id(&self) -> PieceId {
        self.id
    }

    fn is_evictable(&self) -> bool {
        self.pins == 0 && !self.piece.is_dirty()
    }
}

#[derive(Debug)]
enum Place {
    Used(Box<Entry>),
    Free(Slot),
}

#[derive(Debug)]
pub(crate) struct Table {
    index: Index,
    places: Vec<Place>,
    free: Slot,
    entries: usize,
    order: BinaryHeap<Turn>,
    dirty: Vec<Slot>,
    /// Entries that ever were.
    numbers: u64,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self {
            index: Index::new(),
            places: Vec::new(),
            free: NONE,
            entries: 0,
            order: BinaryHeap::new(),
            dirty: Vec::new(),
            numbers: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn find(&self, id: PieceId) -> Option<Slot> {
        self.index.find(id)
    }

    pub(crate) fn entry(&self, slot: Slot) -> &Entry {
        match &self.places[slot as usize] {
            Place::Used(entry) => entry,
            Place::Free(_) => unreachable!("a slot that was found is in use"),
        }
    }

    pub(crate) fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        match &mut self.places[slot as usize] {
            Place::Used(entry) => entry,
            Place::Free(_) => unreachable!("a slot that was found is in use"),
        }
    }

    /// The pieces of a strand that are here, in no order.
    pub(crate) fn chain(&self, strand: u64) -> impl Iterator<Item = Slot> {
        let head = self.index.find(PieceId { strand, index: HEAD });
        std::iter::successors(head, |slot| self.after(*slot))
    }

    /// The next piece in a strand's chain.
    pub(crate) fn after(&self, slot: Slot) -> Option<Slot> {
        let next = self.entry(slot).next;
        (next != NONE).then_some(next)
    }

    pub(crate) fn dirty(&self) -> impl Iterator<Item = &Entry> {
        self.dirty.iter().map(|slot| self.entry(*slot))
    }

    /// Most bytes that [`Self::make_room`] and [`Self::add`] allocate for `more` entries.
    pub(crate) fn quote(&self, more: usize) -> u64 {
        let growth = self.growth(more);
        growth.index.map_or(0, Index::bytes)
            + growth.places.map_or(0, bytes_of::<Place>)
            + growth.order.map_or(0, bytes_of::<Turn>)
            + growth.dirty.map_or(0, bytes_of::<Slot>)
            + ENTRY_BYTES * more as u64
    }

    fn growth(&self, more: usize) -> Growth {
        let grown = |capacity: usize, needed: usize| {
            (needed > capacity).then(|| needed.next_power_of_two().max(TABLE_MIN))
        };
        Growth {
            // A piece may bring the head of its strand's chain with it.
            index: self.index.grown(2 * more),
            places: grown(self.places.capacity(), self.entries + more),
            // Every entry has one turn at most; the other half is room for turns that mean nothing more.
            order: grown(self.order.capacity(), 2 * (self.entries + more)),
            dirty: grown(self.dirty.capacity(), self.entries + more),
        }
    }

    /// Grows the tables for `more` entries.
    pub(crate) fn make_room(&mut self, more: usize, purse: &mut Purse<'_>) {
        let growth = self.growth(more);
        if let Some(buckets) = growth.index {
            purse.spend(Index::bytes(buckets));
            purse.put_back(self.index.heap_bytes());
            self.index.grow(buckets);
        }
        if let Some(capacity) = growth.order {
            purse.spend(bytes_of::<Turn>(capacity));
            purse.put_back(bytes_of::<Turn>(self.order.capacity()));
            let mut turns = Vec::with_capacity(capacity);
            turns.append(&mut mem::take(&mut self.order).into_vec());
            self.order = turns.into();
        }
        regrow(&mut self.places, growth.places, purse);
        regrow(&mut self.dirty, growth.dirty, purse);
    }

    /// Makes an entry without bytes; there is room in the tables. It is to be settled.
    pub(crate) fn add(&mut self, id: PieceId, stamp: Stamp, purse: &mut Purse<'_>) -> Slot {
        purse.spend(ENTRY_BYTES);
        let head = PieceId { index: HEAD, ..id };
        let next = self.index.find(head).unwrap_or(NONE);
        self.numbers += 1;
        let entry = Box::new(Entry {
            id,
            number: self.numbers,
            stamp,
            piece: Piece::new(),
            pins: 0,
            epoch: 0,
            is_queued: false,
            dirty_place: None,
            next,
            previous: NONE,
        });
        let slot = self.place(entry);
        self.index.set(id, slot);
        self.index.set(head, slot);
        if next != NONE {
            self.entry_mut(next).previous = slot;
        }
        self.entries += 1;
        slot
    }

    fn place(&mut self, entry: Box<Entry>) -> Slot {
        let slot = self.free;
        if slot == NONE {
            self.places.push(Place::Used(entry));
            return Slot::try_from(self.places.len() - 1).expect("fewer than 2^32 pieces");
        }
        let old = mem::replace(&mut self.places[slot as usize], Place::Used(entry));
        if let Place::Free(next) = old {
            self.free = next;
        }
        slot
    }

    /// Removes an entry, whatever its state.
    pub(crate) fn remove(&mut self, slot: Slot, purse: &mut Purse<'_>) {
        self.set_dirty(slot, false);
        let place = mem::replace(&mut self.places[slot as usize], Place::Free(self.free));
        let Place::Used(entry) = place else { unreachable!("a slot that was found is in use") };
        self.free = slot;
        self.index.remove(entry.id);
        let head = PieceId { index: HEAD, ..entry.id };
        match (entry.previous, entry.next) {
            (NONE, NONE) => self.index.remove(head),
            (NONE, next) => self.index.set(head, next),
            (previous, next) => self.entry_mut(previous).next = next,
        }
        if entry.next != NONE {
            self.entry_mut(entry.next).previous = entry.previous;
        }
        self.entries -= 1;
        entry.piece.release(purse);
        purse.put_back(ENTRY_BYTES);
    }

    /// Restores the invariants after an entry has changed.
    pub(crate) fn settle(&mut self, slot: Slot, purse: &mut Purse<'_>) {
        let entry = self.entry(slot);
        let (is_dirty, is_evictable) = (entry.piece.is_dirty(), entry.is_evictable());
        if is_evictable && entry.piece.is_empty() {
            return self.remove(slot, purse);
        }
        self.set_dirty(slot, is_dirty);
        if is_evictable && !self.entry(slot).is_queued {
            self.queue(slot);
        }
    }

    fn set_dirty(&mut self, slot: Slot, is_dirty: bool) {
        let place = self.entry(slot).dirty_place;
        match (place, is_dirty) {
            (None, true) => {
                let place = u32::try_from(self.dirty.len()).expect("fewer than 2^32 pieces");
                self.dirty.push(slot);
                self.entry_mut(slot).dirty_place = Some(place);
            }
            (Some(place), false) => {
                self.dirty.swap_remove(place as usize);
                self.entry_mut(slot).dirty_place = None;
                if let Some(moved) = self.dirty.get(place as usize).copied() {
                    self.entry_mut(moved).dirty_place = Some(place);
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn queue(&mut self, slot: Slot) {
        if self.order.len() == self.order.capacity() {
            self.drop_dead_turns();
        }
        let entry = self.entry_mut(slot);
        entry.is_queued = true;
        let turn = Reverse((entry.stamp, entry.number, slot));
        self.order.push(turn);
    }

    /// Drops the turns that mean nothing any more; at most one per entry remains.
    fn drop_dead_turns(&mut self) {
        let places = &mut self.places;
        self.order.retain(|Reverse((_, number, slot))| match &mut places[*slot as usize] {
            Place::Used(entry) if entry.number == *number => {
                entry.is_queued = entry.is_evictable();
                entry.is_queued
            }
            _ => false,
        });
    }

    /// The last use that the first turn claims: none that can be evicted was used earlier.
    pub(crate) fn first_turn(&self) -> Option<Stamp> {
        self.order.peek().map(|Reverse((stamp, ..))| *stamp)
    }

    /// The evictable entry that was used longest ago.
    pub(crate) fn oldest(&mut self) -> Option<(Stamp, Slot)> {
        while let Some(Reverse((stamp, number, slot))) = self.order.peek().copied() {
            let Place::Used(entry) = &mut self.places[slot as usize] else {
                self.order.pop();
                continue;
            };
            if entry.number == number && entry.is_evictable() {
                if entry.stamp == stamp {
                    return Some((stamp, slot));
                }
                let later = Reverse((entry.stamp, number, slot));
                self.order.pop();
                self.order.push(later);
                continue;
            }
            if entry.number == number {
                entry.is_queued = false;
            }
            self.order.pop();
        }
        None
    }
}

/// New capacities of the tables that have to grow.
struct Growth {
    index: Option<usize>,
    places: Option<usize>,
    order: Option<usize>,
    dirty: Option<usize>,
}

fn regrow<T>(list: &mut Vec<T>, capacity: Option<usize>, purse: &mut Purse<'_>) {
    if let Some(capacity) = capacity {
        purse.spend(bytes_of::<T>(capacity));
        purse.put_back(bytes_of::<T>(list.capacity()));
        let mut grown = Vec::with_capacity(capacity);
        grown.append(list);
        *list = grown;
    }
}

const fn bytes_of<T>(capacity: usize) -> u64 {
    (capacity * size_of::<T>()) as u64
}
