//! Finding records in a mapped segment: from an entry of the index frame by frame, or straight to the
//! frame where all frames are alike.
//!
//! Bytes are checked against their checksums when they are first looked at; how far that went is noted
//! in the index, interval by interval. What was checked is believed from then on.
//!
//! Not here: which segment to look in (`crate::read`).

use crate::frame::{self, HEADER_BYTES, Header};
use crate::index::{Checked, Found, Index};
use crate::mapped::Mapped;
use crate::position::{Location, Offset};
use crate::segment::{Place, Segment};
use crate::walk::{check_header, check_payload};

/// A segment as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) mapped: &'a Mapped,
    pub(crate) index: &'a Index,
    /// Where what may be read ends: between two frames.
    pub(crate) end: Location,
}

/// A part of a segment from one entry of its index to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    /// `None` for what lies before the first entry that is in the segment.
    slot: Option<usize>,
    place: Place,
    checked: Checked,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) at: Location,
    pub(crate) len: u32,
    pub(crate) timestamp_ms: i64,
}

/// The frame that belongs at a location is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) at: Location,
    pub(crate) why: &'static str,
}

impl Interval {
    fn checked_to(&self) -> Location {
        self.place.at.plus(self.checked.bytes)
    }

    /// Whether the frame that begins at this place was checked.
    #[inline]
    pub(crate) fn has_checked(&self, at: Location) -> bool {
        at < self.checked_to() && at >= self.place.at
    }

    /// The last place known to be the beginning of a frame, or end of the last one, that is not
    /// behind `offset`.
    #[inline]
    fn nearest(&self, offset: Offset) -> Place {
        let Checked { bytes, frame_bytes } = self.checked;
        if frame_bytes == 0 {
            return self.place;
        }
        let mut records = offset - self.place.offset;
        if records.saturating_mul(frame_bytes) > bytes {
            records = bytes / frame_bytes;
        }
        Place { offset: self.place.offset + records, at: self.place.at.plus(records * frame_bytes) }
    }

    /// Notes that the frame at the end of what was checked is good.
    fn extend(&mut self, header: &Header) {
        let Checked { bytes, frame_bytes } = self.checked;
        let size = header.frame_bytes();
        let alike = header.records == 1 && (bytes == 0 || frame_bytes == size);
        self.checked = Checked { bytes: bytes + size, frame_bytes: if alike { size } else { 0 } };
    }
}

impl View<'_> {
    /// The interval that an offset of this segment lies in.
    #[inline]
    pub(crate) fn interval(&self, offset: Offset) -> Interval {
        let base = self.segment.header.base;
        match self.index.find(offset).filter(|found| found.place.at >= base.at) {
            Some(found) => self.interval_of(found),
            // A segment may begin within an interval of its stretch.
            None => Interval { slot: None, place: base, checked: Checked::default() },
        }
    }

    /// The interval that a location of this segment lies in.
    pub(crate) fn interval_at(&self, at: Location) -> Interval {
        let base = self.segment.header.base;
        match self.index.find_at(at).filter(|found| found.place.at >= base.at) {
            Some(found) => self.interval_of(found),
            None => Interval { slot: None, place: base, checked: Checked::default() },
        }
    }

    /// Goes to the next interval if `at` lies in it.
    #[inline]
    pub(crate) fn follow(&self, interval: &mut Interval, at: Location) {
        let next = interval.slot.map_or(0, |slot| slot + 1);
        if next < self.index.len() {
            let place = self.index.place(next);
            if place.at <= at {
                *interval = self.interval_of(Found { slot: next, place });
            }
        }
    }

    #[inline]
    fn interval_of(&self, found: Found) -> Interval {
        let Found { slot, place } = found;
        Interval { slot: Some(slot), place, checked: self.index.checked(slot) }
    }

    /// Where a record lies; `None` if that is not below the end.
    #[inline]
    pub(crate) fn find(&self, offset: Offset) -> Result<Option<Hit>, Bad> {
        let mut interval = self.interval(offset);
        let mut place = interval.nearest(offset);
        while place.at < self.end {
            let header = self.frame(&mut interval, place)?;
            if offset < header.next() {
                return self.record(place, &header, offset).map(Some);
            }
            place = Place { offset: header.next(), at: place.at.plus(header.frame_bytes()) };
        }
        Ok(None)
    }

    /// The header of the frame at `place`, which lies in the interval or after it.
    #[inline]
    pub(crate) fn frame(&self, interval: &mut Interval, place: Place) -> Result<Header, Bad> {
        if interval.has_checked(place.at) {
            let from = self.segment.position(place.at);
            let bytes = self.mapped.bytes(from..from + HEADER_BYTES as u64);
            if let Some(bytes) = bytes.and_then(|bytes| bytes.first_chunk()) {
                return Ok(Header::peek(bytes));
            }
        }
        self.check_frame(interval, place)
    }

    fn check_frame(&self, interval: &mut Interval, place: Place) -> Result<Header, Bad> {
        let bad = |why| Bad { at: place.at, why };
        let left = self.end.get() - place.at.get();
        let from = self.segment.position(place.at);
        let bytes = self.mapped.bytes(from..from + left).unwrap_or_default();
        let salt = self.segment.header.salt;
        let header = check_header(bytes, salt, place.at, place.offset, left).map_err(bad)?;
        let frame = usize::try_from(header.frame_bytes()).ok().and_then(|len| bytes.get(..len));
        check_payload(&header, frame.ok_or_else(|| bad("the frame is cut short"))?).map_err(bad)?;
        self.segment.check_records(&header).map_err(bad)?;
        if let Some(slot) = interval.slot
            && place.at == interval.checked_to()
        {
            interval.extend(&header);
            self.index.note_checked(slot, interval.checked);
        }
        Ok(header)
    }

    /// Where in a frame a record lies.
    #[inline]
    fn record(&self, place: Place, header: &Header, offset: Offset) -> Result<Hit, Bad> {
        let from = self.segment.position(place.at) + HEADER_BYTES as u64;
        let payload = self.mapped.bytes(from..from + u64::from(header.payload_bytes));
        // The frame was checked; only a file that changed since brings us here.
        let bad = Bad { at: place.at, why: "the frame is not what it was" };
        let (start, len) =
            frame::nth_record(payload.ok_or(bad)?, offset - header.first).ok_or(bad)?;
        let at = place.at.plus(HEADER_BYTES as u64 + u64::from(start));
        Ok(Hit { at, len, timestamp_ms: header.timestamp_ms })
    }
}
