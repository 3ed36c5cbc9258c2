//! The sparse index of one stretch: where to begin looking for an offset or a time.
//!
//! An entry is made for the first frame and then for each frame that begins [`STRIDE_BYTES`] or more
//! after the frame of the last entry, by whoever appends. Entries are never changed or removed, and
//! an entry is published by the count that follows it, so readers need no lock. What is full, or too
//! far from the base to be told in 32 bits, gets no entry: reads are then slower, not wrong.
//!
//! What lies between an entry and the next is an *interval*. Beside each entry stands how much of its
//! interval was checked against the checksums in the file, so that this is done once and not by each
//! read, and whether the frames there are alike, so that one is found without looking at those before it.
//!
//! Each entry says how high timestamps had been before its frame, over the whole log; that only goes up.
//!
//! Invariant: entries are those that a walk over the same frames from the same base would make.
//!
//! Not here: how an index is kept on disk (`crate::index_file`), and what lies between two entries
//! (`crate::find`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::frame;
use crate::position::{Location, Offset};
use crate::segment::Place;

/// Least distance between two frames that have entries.
pub(crate) const STRIDE_BYTES: u64 = 4096;

/// Entries about frames from a base on.
#[derive(Debug)]
pub(crate) struct Index {
    base: Place,
    bytes_max: u64,
    entries: Box<[Entry]>,
    count: AtomicUsize,
}

/// Memory for the entries of an index. It is much for a large segment, so who is in a hurry has it made before.
#[derive(Debug)]
pub(crate) struct Room(Box<[Entry]>);

impl Room {
    /// Room for an index of frames of `bytes_max` bytes in total.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self((0..capacity(bytes_max)).map(|_| Entry::default()).collect())
    }
}

fn capacity(bytes_max: u64) -> usize {
    usize::try_from(bytes_max / STRIDE_BYTES).unwrap_or(0) + 1
}

#[derive(Debug, Default)]
struct Entry {
    /// The frame's place from the base: offset in the upper half, bytes / [`frame::ALIGN`] in the lower.
    place: AtomicU64,
    /// Highest timestamp of any frame of the log before this one.
    newest_ms: AtomicI64,
    /// [`Checked`]: bytes in the lower half, frame size in the upper, both / [`frame::ALIGN`].
    checked: AtomicU64,
    /// If not 0, appends made all frames of the interval of this size, with one record each; known when
    /// the next entry is there.
    alike: AtomicU64,
}

/// How much of an interval passed its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Bytes from the entry on: whole frames.
    pub(crate) bytes: u64,
    /// If not 0, each of these frames has one record and this size.
    pub(crate) frame_bytes: u64,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) slot: usize,
    pub(crate) place: Place,
}

impl Index {
    /// An empty index for frames of `bytes_max` bytes in total.
    pub(crate) fn new(base: Place, bytes_max: u64) -> Self {
        Self::with_room(base, bytes_max, Room::new(bytes_max))
    }

    /// [`Index::new`] in `room` if that is as much as is needed.
    fn with_room(base: Place, bytes_max: u64, room: Room) -> Self {
        let fits = room.0.len() == capacity(bytes_max);
        let Room(entries) = if fits { room } else { Room::new(bytes_max) };
        Self { base, bytes_max, entries, count: AtomicUsize::new(0) }
    }

    /// An index with these entries: the first one is that of the base, and none is so far from it
    /// that it cannot be told.
    pub(crate) fn from_entries(
        base: Place,
        bytes_max: u64,
        entries: impl Iterator<Item = (Place, i64)>,
    ) -> Self {
        let index = Self::new(base, bytes_max);
        entries.for_each(|(place, newest_ms)| index.push(place, newest_ms));
        index
    }

    /// Most bytes of frames that it is made for.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(crate) fn base(&self) -> Place {
        self.base
    }

    /// How many entries there are now.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The place of an entry; `slot` is below [`Index::len`].
    pub(crate) fn place(&self, slot: usize) -> Place {
        let packed = self.entries[slot].place.load(Ordering::Relaxed);
        Place {
            offset: self.base.offset + (packed >> 32),
            at: self.base.at.plus((packed & u64::from(u32::MAX)) * frame::ALIGN),
        }
    }

    /// Highest timestamp of the log before the entry's frame.
    pub(crate) fn newest_ms(&self, slot: usize) -> i64 {
        self.entries[slot].newest_ms.load(Ordering::Relaxed)
    }

    /// How much of an entry's interval was checked.
    #[inline]
    pub(crate) fn checked(&self, slot: usize) -> Checked {
        let packed = self.entries[slot].checked.load(Ordering::Acquire);
        Checked {
            bytes: (packed & u64::from(u32::MAX)) * frame::ALIGN,
            frame_bytes: (packed >> 32) * frame::ALIGN,
        }
    }

    /// Notes how much of an entry's interval was checked. What two threads note at once is true either
    /// way, so either may stay.
    pub(crate) fn note_checked(&self, slot: usize, checked: Checked) {
        let bytes = u32::try_from(checked.bytes / frame::ALIGN);
        let frame_bytes = u32::try_from(checked.frame_bytes / frame::ALIGN);
        // Intervals too long to be told are checked each time.
        if let (Ok(bytes), Ok(frame_bytes)) = (bytes, frame_bytes) {
            let packed = u64::from(frame_bytes) << 32 | u64::from(bytes);
            self.entries[slot].checked.store(packed, Ordering::Release);
        }
    }

    /// The last entry before whose frame all timestamps were below `timestamp_ms`.
    pub(crate) fn find_time(&self, timestamp_ms: i64) -> Option<Found> {
        let entries = &self.entries[..self.len()];
        let after =
            entries.partition_point(|entry| entry.newest_ms.load(Ordering::Relaxed) < timestamp_ms);
        let slot = after.checked_sub(1)?;
        Some(Found { slot, place: self.place(slot) })
    }

    /// The frame with this record where appends made all frames of the interval alike, otherwise the
    /// entry's. `found` is the entry that [`Index::find`] found for the record.
    #[inline]
    pub(crate) fn nearest(&self, found: Found, offset: Offset) -> Location {
        let alike = self.entries[found.slot].alike.load(Ordering::Acquire);
        found.place.at.plus((offset - found.place.offset) * alike)
    }

    /// The last entry whose frame begins at or before `at`.
    pub(crate) fn find_at(&self, at: Location) -> Option<Found> {
        let words = at.get().checked_sub(self.base.at.get())? / frame::ALIGN;
        let entries = &self.entries[..self.len()];
        let after = entries.partition_point(|entry| {
            entry.place.load(Ordering::Relaxed) & u64::from(u32::MAX) <= words
        });
        let slot = after.checked_sub(1)?;
        Some(Found { slot, place: self.place(slot) })
    }

    /// The last entry whose frame begins at or before `offset`; of several the last one.
    ///
    /// Guesses from how far the offset is, which hits at once when records are alike, and goes on from
    /// there in growing steps.
    pub(crate) fn find(&self, offset: Offset) -> Option<Found> {
        let last = self.len().checked_sub(1)?;
        let wanted = offset.get().checked_sub(self.base.offset.get())?;
        let offset_of = |slot: usize| self.entries[slot].place.load(Ordering::Relaxed) >> 32;
        let span = offset_of(last);
        if wanted >= span {
            return Some(Found { slot: last, place: self.place(last) });
        }
        let guess = u128::from(wanted) * last as u128 / u128::from(span);
        let guess = usize::try_from(guess).unwrap_or(last);
        let (mut low, mut high) = (guess, guess + 1);
        let mut step = 1;
        while offset_of(low) > wanted {
            high = low;
            // The first entry is that of the base.
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high < last && offset_of(high) <= wanted {
            low = high;
            high = (high + step).min(last);
            step *= 2;
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if offset_of(middle) <= wanted { low = middle } else { high = middle }
        }
        Some(Found { slot: low, place: self.place(low) })
    }

    /// Says what appends made the frames of the last interval.
    fn note_alike(&self, frame_bytes: u64) {
        if let Some(last) = self.count.load(Ordering::Relaxed).checked_sub(1) {
            self.entries[last].alike.store(frame_bytes, Ordering::Release);
        }
    }

    /// Adds an entry. Only the index's one [`IndexWriter`] does that.
    fn push(&self, place: Place, newest_ms: i64) {
        let count = self.count.load(Ordering::Relaxed);
        let offset = u32::try_from(place.offset - self.base.offset);
        let bytes = u32::try_from((place.at.get() - self.base.at.get()) / frame::ALIGN);
        let (Some(entry), Ok(offset), Ok(bytes)) = (self.entries.get(count), offset, bytes) else {
            return;
        };
        entry.place.store(u64::from(offset) << 32 | u64::from(bytes), Ordering::Relaxed);
        entry.newest_ms.store(newest_ms, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
    }
}

/// The one who adds to an index: is shown every frame in order.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    index: Arc<Index>,
    /// A frame at or after this gets an entry.
    due: Location,
    newest_ms: i64,
    /// The frame that was shown last.
    last: Place,
    /// Size of the interval's frames so far, if they are alike with a record each; 0 if they are not.
    alike: Option<u64>,
}

impl IndexWriter {
    /// Begins an index. `newest_ms` is the highest timestamp of the log before `base`.
    pub(crate) fn new(base: Place, bytes_max: u64, newest_ms: i64) -> Self {
        Self::with_room(base, bytes_max, newest_ms, Room::new(bytes_max))
    }

    /// [`IndexWriter::new`] in `room` if that is as much as is needed. It is empty.
    pub(crate) fn with_room(base: Place, bytes_max: u64, newest_ms: i64, room: Room) -> Self {
        let index = Arc::new(Index::with_room(base, bytes_max, room));
        Self { index, due: base.at, newest_ms, last: base, alike: None }
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Highest timestamp of the log up to here; `i64::MIN` if there is none.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// Shows the next frame, which begins at `place`.
    #[inline]
    pub(crate) fn frame(&mut self, place: Place, timestamp_ms: i64) {
        let size = place.at.get() - self.last.at.get();
        let is_alike = place.offset.get() - self.last.offset.get() == 1
            && self.alike.is_none_or(|alike| alike == size);
        self.alike = Some(if is_alike { size } else { 0 });
        self.last = place;
        if place.at >= self.due {
            self.index.note_alike(size * u64::from(is_alike));
            self.index.push(place, self.newest_ms);
            self.due = place.at.plus(STRIDE_BYTES);
            self.alike = None;
        }
        self.newest_ms = self.newest_ms.max(timestamp_ms);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the search gives what a walk over all entries gives, for frames of any sizes.

    use proptest::prelude::*;

    use super::*;

    fn place(offset: u64, at: u64) -> Place {
        Place { offset: Offset::new(offset), at: Location::new(at) }
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert_eq!(Index::new(place(5, 80), 1 << 20).find(Offset::new(7)), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut writer = IndexWriter::new(place(0, 0), STRIDE_BYTES, i64::MIN);
        for n in 0..5 {
            writer.frame(place(n, n * STRIDE_BYTES), 0);
        }
        assert_eq!(writer.index().len(), 2);
        assert_eq!(writer.index().find(Offset::new(4)).map(|found| found.slot), Some(1));
    }

    proptest! {
        #[test]
        fn the_search_finds_what_a_walk_finds(
            frames in prop_oneof![
                proptest::collection::vec((0_u64..50, 5_u64..2000, -9_i64..9), 1..400),
                proptest::collection::vec((Just(1_u64), prop_oneof![30 => Just(38_u64), 1 => Just(40)], -9_i64..9), 1..400),
            ],
            base in 0_u64..1000,
        ) {
            let mut writer = IndexWriter::new(place(base, base * 8), 1 << 30, i64::MIN);
            let (mut next, mut newest, mut entries) = (place(base, base * 8), i64::MIN, Vec::new());
            let (mut places, mut slots) = (Vec::new(), Vec::new());
            for (records, words, timestamp_ms) in frames {
                writer.frame(next, timestamp_ms);
                if entries.last().is_none_or(|(last, _): &(Place, i64)| next.at.get() - last.at.get() >= STRIDE_BYTES) {
                    entries.push((next, newest));
                }
                newest = newest.max(timestamp_ms);
                places.push(next);
                slots.push(entries.len() - 1);
                next = Place { offset: next.offset + records, at: next.at.plus(words * 8) };
            }
            let index = writer.index();
            for (records, slot) in places.windows(2).zip(&slots) {
                let found = Found { slot: *slot, place: index.place(*slot) };
                let at = index.nearest(found, records[0].offset);
                // With one record it is the frame or the entry; others are found from the entry.
                let is_frame = records[1].offset - records[0].offset == 1 && at == records[0].at;
                prop_assert!(is_frame || at == found.place.at, "{:?} {at}", records[0]);
            }
            prop_assert_eq!(writer.newest_ms(), newest);
            prop_assert_eq!(index.base(), place(base, base * 8));
            let made: Vec<_> = (0..index.len()).map(|slot| (index.place(slot), index.newest_ms(slot))).collect();
            prop_assert_eq!(&made, &entries);
            for offset in base..next.offset.get() + 2 {
                let offset = Offset::new(offset);
                let slot = entries.iter().rposition(|(place, _)| place.offset <= offset).unwrap();
                prop_assert_eq!(index.find(offset), Some(Found { slot, place: entries[slot].0 }));
            }
        }
    }
}
