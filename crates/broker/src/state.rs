//! What is known of one loaded partition: its segments, its end, and what of it may be seen.
//!
//! Invariants: `next` follows the last stored batch; `visible` (the high watermark) moves only when the
//! commits up to it have reached what the topic promises, and never back.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use strands::{Position, Strands};

use crate::batch::Header;
use crate::error::Fault;
use crate::rows::{self, Epoch, IndexEntry, PartitionKey, Place, Segment};
use crate::walk::{self, Walk};

/// Places of recent batches that are kept, and bytes between them: a reader near the end finds its
/// batch without a look at the rows.
const RECENT_PLACES: usize = 64;
const RECENT_BYTES: u64 = 64 << 10;
/// Places that are kept where reads ended: a reader that goes on finds its batch at once.
const CURSORS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) segments: Vec<Segment>,
    pub(crate) epochs: Vec<Epoch>,
    /// Offset of the next record.
    pub(crate) next: i64,
    /// Largest timestamp of all batches; `i64::MIN` without any.
    pub(crate) max_timestamp: i64,
    /// Bytes of the last segment from its last indexed batch on.
    pub(crate) unindexed_bytes: u64,
    pub(crate) visible: i64,
    /// Largest timestamp of what is visible.
    pub(crate) visible_max_timestamp: i64,
    /// Batches that are stored and not visible yet, in order.
    pub(crate) in_flight: VecDeque<InFlight>,
    recent: VecDeque<Place>,
    cursors: VecDeque<Place>,
}

/// Everything up to `next` may be seen once the journal has reached `position`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) position: Position,
    pub(crate) next: i64,
    pub(crate) max_timestamp: i64,
}

impl State {
    /// Reads the rows and walks from the last indexed batch to the end. All that is found is visible.
    pub(crate) fn load(strands: &Strands, key: PartitionKey) -> Result<Self, Fault> {
        let mut state = Self {
            segments: rows::segments(strands, key)?,
            epochs: rows::epochs(strands, key)?,
            next: 0,
            max_timestamp: i64::MIN,
            unindexed_bytes: 0,
            visible: 0,
            visible_max_timestamp: i64::MIN,
            in_flight: VecDeque::new(),
            recent: VecDeque::new(),
            cursors: VecDeque::new(),
        };
        if let Some(last) = state.segments.last().copied() {
            let entry = rows::index_before(strands, key, i64::MAX)?
                .filter(|entry| entry.place.strand == last.strand && entry.place.at < last.bytes)
                .ok_or_else(|| walk::damage(last.strand, 0, "the last segment has no index"))?;
            state.max_timestamp = entry.max_timestamp_before;
            walk::headers_blocking(strands, Walk::new(entry.place, last.bytes), &mut |step| {
                state.note(
                    Place { base: step.header.base_offset, strand: last.strand, at: step.at },
                    &step.header,
                );
                ControlFlow::Continue(())
            })?;
        }
        state.visible = state.next;
        state.visible_max_timestamp = state.max_timestamp;
        Ok(state)
    }

    /// Reads everything again after a commit whose fate is unknown. What was visible stays so; what is
    /// found beyond becomes visible when everything that the journal holds now has reached its promise.
    pub(crate) fn reload(&self, strands: &Strands, key: PartitionKey) -> Result<Self, Fault> {
        let mut state = Self::load(strands, key)?;
        let position = strands.positions().appended;
        let found = InFlight { position, next: state.next, max_timestamp: state.max_timestamp };
        state.visible = self.visible;
        state.visible_max_timestamp = self.visible_max_timestamp;
        state.in_flight = self.in_flight.clone();
        state.in_flight.push_back(found);
        Ok(state)
    }

    /// First record that is still there.
    pub(crate) fn log_start(&self) -> i64 {
        self.segments.first().map_or(0, |segment| segment.base)
    }

    /// Bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Takes note of a batch that follows all others.
    pub(crate) fn note(&mut self, place: Place, header: &Header) {
        let far = |last: &Place| last.strand != place.strand || place.at - last.at >= RECENT_BYTES;
        if self.recent.back().is_none_or(far) {
            push_bounded(&mut self.recent, place, RECENT_PLACES);
        }
        self.next = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.unindexed_bytes += u64::try_from(header.bytes).unwrap_or(u64::MAX);
    }

    /// Makes visible what the journal has carried far enough.
    pub(crate) fn advance(&mut self, reached: Position) {
        while let Some(first) = self.in_flight.front()
            && first.position <= reached
        {
            self.visible = first.next;
            self.visible_max_timestamp = first.max_timestamp;
            self.in_flight.pop_front();
        }
    }

    /// Up to where the journal must come until something beyond `offset` is visible; `None` if nothing
    /// beyond it is stored.
    pub(crate) fn awaited(&self, offset: i64) -> Option<Position> {
        let beyond = self.in_flight.partition_point(|batch| batch.next <= offset);
        self.in_flight.get(beyond).map(|batch| batch.position)
    }

    /// The segment that holds `offset`, which is not below the log's start.
    pub(crate) fn segment_of(&self, offset: i64) -> Option<Segment> {
        let after = self.segments.partition_point(|segment| segment.base <= offset);
        self.segments.get(after.checked_sub(1)?).copied()
    }

    /// A batch in `segment` at or shortly before `offset`, if one is remembered.
    pub(crate) fn remembered(&self, segment: &Segment, offset: i64) -> Option<Place> {
        if offset == segment.base {
            return Some(Place { base: offset, strand: segment.strand, at: 0 });
        }
        let exact = |place: &&Place| place.base == offset && place.strand == segment.strand;
        if let Some(place) = self.cursors.iter().find(exact) {
            return Some(*place);
        }
        let after = self.recent.partition_point(|place| place.base <= offset);
        let place = self.recent.get(after.checked_sub(1)?)?;
        (place.strand == segment.strand).then_some(*place)
    }

    /// Remembers where a read ended, for the one that goes on from there.
    pub(crate) fn remember(&mut self, place: Place) {
        if !self.cursors.contains(&place) {
            push_bounded(&mut self.cursors, place, CURSORS);
        }
    }

    /// The largest epoch up to `epoch`, and where it ends; `current` is the one of this opening.
    pub(crate) fn epoch_end(&self, epoch: i32, current: i32) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > current {
            return None;
        }
        if epoch == current {
            return Some((epoch, self.next));
        }
        let after = self.epochs.partition_point(|known| known.epoch <= epoch);
        let end = self.epochs.get(after).map_or(self.next, |higher| higher.start);
        let known = after.checked_sub(1).and_then(|at| self.epochs.get(at));
        Some((known.map_or(epoch, |known| known.epoch), end))
    }

    /// The index row of the batch that comes next, at `place`.
    pub(crate) const fn index_entry(&self, place: Place) -> IndexEntry {
        IndexEntry { place, max_timestamp_before: self.max_timestamp }
    }
}

fn push_bounded(places: &mut VecDeque<Place>, place: Place, max: usize) {
    if places.len() == max {
        places.pop_front();
    }
    places.push_back(place);
}
