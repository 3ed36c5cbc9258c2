//! Reading many records in order: the iterator, batches, and finding a time.
//!
//! Durable records are shown where they lie in a mapped segment, or from a buffer that is filled from
//! its file; those that are not durable are shown where they lie in memory. A frame that is in no
//! single piece there is copied.

use std::fmt;
use std::hint;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use crate::core::{Core, SegmentList};
use crate::error::ReadError;
use crate::files::Opened;
use crate::find::{Bad, Interval, View};
use crate::frame::{HEADER_BYTES, Header, RECORD_PREFIX_BYTES};
use crate::index::{Found, Index};
use crate::position::{Epoch, Location, Offset};
use crate::read::{Record, damaged, io_error};
use crate::ring::ChunkRef;
use crate::segment::{ENDS_EARLY, Place, Segment};
use crate::walk::{check_header, check_payload};

/// How much is read at once where segments are not mapped.
const BUFFER_BYTES: usize = 256 << 10;

/// Shows the records of a log in order; see [`crate::Log::iter`].
///
/// It keeps the segment that it is in readable, also when that is trimmed meanwhile.
pub struct Records {
    core: Arc<Core>,
    /// Records before this one are not shown.
    from: Offset,
    /// The frame after the current one.
    next: Place,
    source: Source,
    /// Of the current frame.
    epoch: Epoch,
    /// What is left of the current frame.
    rest: Rest,
    /// For what cannot be shown where it is.
    buffer: Vec<u8>,
}

/// Where the current frame lies.
enum Source {
    Nowhere,
    /// Positions are those of the segment's file.
    Mapped {
        segment: Arc<Segment>,
        interval: Interval,
    },
    /// The buffer holds bytes of the segment from this location on, none of them beyond its end.
    File {
        segment: Arc<Segment>,
        /// Stays open, whatever becomes of its name.
        file: Arc<Opened>,
        begin: Location,
    },
    /// Positions count from this location.
    Memory {
        bytes: ChunkRef,
        begin: Location,
    },
    /// The buffer holds one frame, or nothing.
    Copied,
}

/// The records of the current frame that were not shown yet. Positions are those of the source.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    records: u32,
    offset: Offset,
    /// The length of the next record.
    position: u64,
    at: Location,
    timestamp_ms: i64,
}

impl Rest {
    /// All records of the frame at `place`, which begins at `position` of its source.
    fn of(header: &Header, place: Place, position: u64) -> Self {
        Self {
            records: header.records,
            offset: header.first,
            position: position + HEADER_BYTES as u64,
            at: place.at.plus(HEADER_BYTES as u64),
            timestamp_ms: header.timestamp_ms,
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Records {
    /// Shows records from `from` on. `place` is the beginning of a frame that is not after it.
    fn new(core: &Arc<Core>, from: Offset, place: Place) -> Self {
        Self {
            core: Arc::clone(core),
            from,
            next: place,
            source: Source::Nowhere,
            epoch: Epoch::FIRST,
            rest: Rest::default(),
            buffer: Vec::new(),
        }
    }

    /// The next record; `None` when there is none yet. It may be called again after that, and goes on
    /// with what was appended meanwhile.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] when the record was trimmed before it was reached, and what reading it
    /// gives. After an error the same record is tried again.
    #[expect(
        clippy::should_implement_trait,
        reason = "a record is lent until the next one is asked for"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        loop {
            while self.rest.records > 0 {
                let (record, range) = self.step()?;
                if record.offset >= self.from {
                    let bytes = self.bytes(range).ok_or_else(|| self.changed())?;
                    return Ok(Some(Record { bytes, ..record }));
                }
            }
            if !self.advance_checked() && !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Steps over the next record of the current frame; its bytes are at these positions.
    fn step(&mut self) -> Result<(Record<'static>, Range<u64>), ReadError> {
        let Rest { position, at, offset, timestamp_ms, .. } = self.rest;
        let start = position + RECORD_PREFIX_BYTES;
        let len = self.bytes(position..start).and_then(<[u8]>::first_chunk);
        let len = u32::from_le_bytes(*len.ok_or_else(|| self.changed())?);
        let at = at.plus(RECORD_PREFIX_BYTES);
        self.rest.records -= 1;
        self.rest.offset = offset + 1;
        self.rest.position = start + u64::from(len);
        self.rest.at = at.plus(u64::from(len));
        let record = Record { offset, at, timestamp_ms, epoch: self.epoch, bytes: &[] };
        Ok((record, start..start + u64::from(len)))
    }

    /// The current frame was checked; only a file that changed since brings us here.
    #[cold]
    fn changed(&self) -> ReadError {
        let segment = self.segment().expect("frames in memory never change");
        damaged(segment, Bad { at: self.rest.at, why: "the frame is not what it was" })
    }

    /// Bytes of the current frame.
    #[inline]
    fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        match &self.source {
            Source::Mapped { segment, .. } => {
                segment.access.is_mapped().and_then(|mapped| mapped.bytes(range))
            }
            Source::Memory { bytes, .. } => within(bytes, range),
            Source::File { .. } | Source::Copied => within(&self.buffer, range),
            Source::Nowhere => None,
        }
    }

    /// Goes to the next frame, if it was checked: then it is durable and in this segment.
    #[inline]
    fn advance_checked(&mut self) -> bool {
        let Source::Mapped { segment, interval } = &self.source else { return false };
        if !interval.has_checked(self.next.at) {
            return false;
        }
        let from = segment.position(self.next.at);
        let mapped = segment.access.is_mapped();
        let bytes = mapped.and_then(|mapped| mapped.bytes(from..from + HEADER_BYTES as u64));
        let Some(head) = bytes.and_then(|bytes| bytes.first_chunk()) else { return false };
        self.go_to(&Header::peek(head), from);
        true
    }

    /// Makes the frame that comes next, at `position` of the source, the current one.
    #[inline]
    fn go_to(&mut self, header: &Header, position: u64) {
        self.rest = Rest::of(header, self.next, position);
        self.next = Place { offset: header.next(), at: self.next.at.plus(header.frame_bytes()) };
    }

    /// Goes to the next frame; false if there is none yet.
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            let end = self.core.published.appended_place();
            if self.next.at >= end.at {
                self.check_end()?;
                if self.next.offset >= end.offset {
                    return Ok(false);
                }
                // A record is missing, or one is just being appended: its offset is told before its place.
                let end = self.core.tail().next();
                if self.next.at >= end.at {
                    self.check_none_missing(end.offset)?;
                    return Ok(false);
                }
            }
            let durable_at = self.core.published.durable_at();
            let found = if self.next.at < durable_at {
                self.advance_in_file(durable_at)?
            } else {
                self.advance_in_memory()
            };
            if let Some((header, position)) = found {
                self.check_none_missing(header.first)?;
                self.go_to(&header, position);
                return Ok(true);
            }
        }
    }

    /// The next frame in its segment's file.
    fn advance_in_file(
        &mut self,
        durable_at: Location,
    ) -> Result<Option<(Header, u64)>, ReadError> {
        let at = self.next.at;
        let ends = |segment: &Arc<Segment>| segment.end().is_some_and(|end| at >= end.at);
        if self.segment().is_none_or(ends) {
            self.check_end()?;
            self.enter_segment(durable_at)?;
        }
        match &self.source {
            Source::Mapped { .. } => self.advance_mapped(durable_at),
            Source::File { .. } => self.advance_copied(durable_at),
            Source::Nowhere | Source::Memory { .. } | Source::Copied => Ok(None),
        }
    }

    /// The segment that the current frame was read from.
    fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.source {
            Source::Mapped { segment, .. } | Source::File { segment, .. } => Some(segment),
            Source::Nowhere | Source::Memory { .. } | Source::Copied => None,
        }
    }

    /// Where a segment ends, its records must end too. They are checked when the log is opened, but not
    /// if it was closed in order.
    fn check_end(&self) -> Result<(), ReadError> {
        let Some(segment) = self.segment() else { return Ok(()) };
        match segment.end() {
            Some(end) if self.next.at == end.at && self.next.offset != end.offset => {
                Err(damaged(segment, Bad { at: end.at, why: ENDS_EARLY }))
            }
            _ => Ok(()),
        }
    }

    /// Sees that the next record is that of `offset` or one after it, where the log says that all before
    /// `offset` lie before this place.
    #[inline]
    fn check_none_missing(&self, offset: Offset) -> Result<(), ReadError> {
        if self.next.offset < offset { Err(self.missing()) } else { Ok(()) }
    }

    /// Says which segment lacks the next record.
    #[cold]
    fn missing(&self) -> ReadError {
        let list = self.core.segments();
        let Some(number) = list.holder(self.next.offset) else {
            return ReadError::Trimmed { start: list.start() };
        };
        let segment = &list.files[number];
        let at = segment.end().map_or(self.next.at, |end| end.at).max(segment.header.base.at);
        damaged(segment, Bad { at, why: ENDS_EARLY })
    }

    /// Goes to the segment that the next frame lies in.
    fn enter_segment(&mut self, durable_at: Location) -> Result<(), ReadError> {
        let list = self.core.segments();
        let Some(segment) = list.of(self.next.at).map(Arc::clone) else {
            return Err(ReadError::Trimmed { start: list.start() });
        };
        let end = end_of(&segment, durable_at);
        self.check_none_missing(segment.header.base.offset)?;
        self.epoch = segment.header.epoch;
        let mapped = self.core.mapped(&segment, end);
        self.source = match mapped {
            Some(mapped) => {
                let index = self
                    .core
                    .index_of(&segment)
                    .map_err(|source| self.core.not_read(&segment, source))?;
                let view = View { segment: &segment, mapped, index, end };
                let interval = view.interval_at(self.next.at);
                Source::Mapped { segment, interval }
            }
            None => {
                self.buffer.clear();
                let file = self.core.file_of(&segment)?.share();
                Source::File { segment, file, begin: self.next.at }
            }
        };
        Ok(())
    }

    fn advance_mapped(&mut self, durable_at: Location) -> Result<Option<(Header, u64)>, ReadError> {
        let Source::Mapped { segment, interval } = &mut self.source else { return Ok(None) };
        let end = end_of(segment, durable_at);
        let Some(mapped) = self.core.mapped(segment, end).filter(|_| self.next.at < end) else {
            return Ok(None);
        };
        let index =
            self.core.index_of(segment).map_err(|source| self.core.not_read(segment, source))?;
        let view = View { segment, mapped, index, end };
        view.follow(interval, self.next.at);
        let header = view.frame(interval, self.next).map_err(|bad| damaged(segment, bad))?;
        Ok(Some((header, segment.position(self.next.at))))
    }

    fn advance_copied(&mut self, durable_at: Location) -> Result<Option<(Header, u64)>, ReadError> {
        let Source::File { segment, file, begin } = &mut self.source else { return Ok(None) };
        let segment = &**segment;
        let (at, left) = (self.next.at, end_of(segment, durable_at).get() - self.next.at.get());
        let bad = |why| damaged(segment, Bad { at, why });
        let mut from = usize::try_from(at.get() - begin.get()).unwrap_or(usize::MAX);
        if from.saturating_add(HEADER_BYTES) > self.buffer.len() {
            *begin = at;
            from = 0;
            fill(&mut self.buffer, (segment, file), at, BUFFER_BYTES as u64, left)?;
        }
        let head = self.buffer.get(from..).unwrap_or_default();
        let header =
            check_header(head, segment.header.salt, at, self.next.offset, left).map_err(bad)?;
        let size = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        if from.saturating_add(size) > self.buffer.len() {
            *begin = at;
            from = 0;
            fill(
                &mut self.buffer,
                (segment, file),
                at,
                header.frame_bytes().max(BUFFER_BYTES as u64),
                left,
            )?;
        }
        let frame = self.buffer.get(from..from.saturating_add(size));
        check_payload(&header, frame.ok_or_else(|| bad("the frame is cut short"))?).map_err(bad)?;
        segment.check_records(&header).map_err(bad)?;
        Ok(Some((header, from as u64)))
    }

    /// The next frame in memory; `None` when it is durable by now.
    fn advance_in_memory(&mut self) -> Option<(Header, u64)> {
        let at = self.next.at;
        let known = match &self.source {
            Source::Memory { bytes, begin } => at
                .get()
                .checked_sub(begin.get())
                .filter(|from| whole_frame(bytes, *from).is_some())
                .is_some(),
            _ => false,
        };
        if !known {
            self.epoch = self.core.published.epoch();
            self.source = match self.core.tail_bytes(at) {
                Some(bytes) if whole_frame(&bytes, 0).is_some() => {
                    Source::Memory { bytes, begin: at }
                }
                Some(_) => {
                    self.copy_frame(at)?;
                    Source::Copied
                }
                None => return None,
            };
        }
        match &self.source {
            Source::Memory { bytes, begin } => {
                let from = at.get() - begin.get();
                Some((whole_frame(bytes, from)?, from))
            }
            _ => Some((whole_frame(&self.buffer, 0)?, 0)),
        }
    }

    /// Copies a frame that is in several pieces of memory.
    fn copy_frame(&mut self, at: Location) -> Option<()> {
        let size = usize::try_from(self.core.tail_header(at)?.frame_bytes()).ok()?;
        self.buffer.clear();
        self.buffer.resize(size, 0);
        (self.core.copy_tail(&mut self.buffer, at)? == size).then_some(())
    }
}

/// Where what may be read of a segment ends.
fn end_of(segment: &Segment, durable_at: Location) -> Location {
    segment.end().map_or(durable_at, |end| end.at.min(durable_at))
}

fn within(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// The header of the frame at `from`, if all of the frame is in `bytes`, which are believed.
fn whole_frame(bytes: &[u8], from: u64) -> Option<Header> {
    let rest = bytes.get(usize::try_from(from).ok()?..)?;
    let header = Header::peek(rest.first_chunk()?);
    (header.frame_bytes() <= rest.len() as u64).then_some(header)
}

/// Fills the buffer from a segment with `wanted` bytes, or what is `left` before its end. That much
/// of the segment was written once.
fn fill(
    buffer: &mut Vec<u8>,
    (segment, file): (&Segment, &Opened),
    at: Location,
    wanted: u64,
    left: u64,
) -> Result<(), ReadError> {
    let len = usize::try_from(wanted.min(left)).unwrap_or(usize::MAX);
    buffer.resize(len, 0);
    let mut filled = 0;
    while filled < len {
        let n = file.read_at(&mut buffer[filled..], segment.position(at) + filled as u64);
        match n.map_err(|source| io_error(segment, source))? {
            0 => break,
            n => filled += n,
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// Records that were copied out of a log by [`crate::Log::read_batch`]. Used again, it allocates no more.
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Copied>,
}

#[derive(Clone, Copy, Debug)]
struct Copied {
    offset: Offset,
    at: Location,
    timestamp_ms: i64,
    epoch: Epoch,
    /// Where its bytes end.
    end: usize,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("records", &self.records.len())
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its records in order.
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter { bytes: &self.bytes, records: self.records.iter(), start: 0 }
    }

    fn push(&mut self, record: Record<'_>) {
        self.bytes.extend_from_slice(record.bytes);
        let Record { offset, at, timestamp_ms, epoch, .. } = record;
        self.records.push(Copied { offset, at, timestamp_ms, epoch, end: self.bytes.len() });
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Record<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// The records of a [`Batch`] in order; see [`Batch::iter`].
#[derive(Clone)]
pub struct BatchIter<'a> {
    bytes: &'a [u8],
    records: slice::Iter<'a, Copied>,
    /// Where the next record's bytes begin.
    start: usize,
}

impl fmt::Debug for BatchIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let Copied { offset, at, timestamp_ms, epoch, end } = *self.records.next()?;
        let bytes = &self.bytes[self.start..end];
        self.start = end;
        Some(Record { offset, at, timestamp_ms, epoch, bytes })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

/// Shows records from `from` on.
pub(crate) fn iter(core: &Arc<Core>, from: Offset) -> Result<Records, ReadError> {
    Ok(Records::new(core, from, core.place_before(from)?))
}

/// Copies records from `from` on.
pub(crate) fn read_batch(
    core: &Arc<Core>,
    from: Offset,
    bytes_max: usize,
    batch: &mut Batch,
) -> Result<Offset, ReadError> {
    batch.bytes.clear();
    batch.records.clear();
    let mut records = iter(core, from)?;
    let mut next = from;
    while let Some(record) = records.next()? {
        if !batch.is_empty() && batch.bytes.len() + record.bytes.len() > bytes_max {
            break;
        }
        batch.push(record);
        next = record.offset + 1;
    }
    Ok(next)
}

/// The first record that was appended at `timestamp_ms` or later.
pub(crate) fn offset_at(core: &Arc<Core>, timestamp_ms: i64) -> Result<Option<Offset>, ReadError> {
    loop {
        let (from, place) = core.place_before_time(timestamp_ms)?;
        let mut records = Records::new(core, from, place);
        loop {
            match records.next() {
                Ok(Some(record)) if record.timestamp_ms >= timestamp_ms => {
                    return Ok(Some(record.offset));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                // Then an earlier one is not there either: look again at what is.
                Err(ReadError::Trimmed { .. }) => break,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Core {
    /// The beginning of a frame at or before `offset`, not far before it.
    fn place_before(&self, offset: Offset) -> Result<Place, ReadError> {
        loop {
            // Before the list: all that is durable by then is in it.
            let durable = self.published.durable();
            if let Some(place) = self.place_in_list(&self.segments(), durable, offset)? {
                return Ok(place);
            }
            // The segment that it was to be in ended meanwhile, so that it is durable by now.
            hint::spin_loop();
        }
    }

    /// [`Core::place_before`] in these segments; `None` if the record is in one that is sealed and is not below
    /// `durable`.
    fn place_in_list(
        &self,
        list: &SegmentList,
        durable: Offset,
        offset: Offset,
    ) -> Result<Option<Place>, ReadError> {
        if offset < durable {
            let Some(number) = list.holder(offset) else {
                return Err(ReadError::Trimmed { start: list.start() });
            };
            return self.place_in(&list.files[number], |index| index.find(offset)).map(Some);
        }
        if offset < list.start() {
            return Err(ReadError::Trimmed { start: list.start() });
        }
        if offset > self.published.appended() {
            return Err(self.beyond());
        }
        let mut stretch = &list.stretch;
        if offset < stretch.base.offset {
            return Ok(None);
        }
        while let Some(next) = stretch.next.get().filter(|next| next.base.offset <= offset) {
            stretch = next;
        }
        // Without an entry nothing was appended to the stretch: then its base is the end of the log.
        Ok(Some(stretch.index.find(offset).map_or(stretch.base, |found| found.place)))
    }

    /// The first record that may be of this time, and the beginning of a frame at or before it.
    fn place_before_time(&self, timestamp_ms: i64) -> Result<(Offset, Place), ReadError> {
        let list = self.segments();
        let after = list.files.partition_point(|segment| segment.header.newest_ms < timestamp_ms);
        let Some(first) = list.files.first() else { return Ok((list.start(), list.stretch.base)) };
        let Some(number) = after.checked_sub(1) else {
            // A clock that went back: what was trimmed was later than that.
            return Ok((first.header.base.offset, first.header.base));
        };
        let place = self.place_in(&list.files[number], |index| index.find_time(timestamp_ms))?;
        Ok((place.offset, place))
    }

    /// The place in a segment that `find` finds in its index, if a frame begins there.
    fn place_in(
        &self,
        segment: &Segment,
        find: impl Fn(&Index) -> Option<Found>,
    ) -> Result<Place, ReadError> {
        let io = |source| self.not_read(segment, source);
        let mut index = self.index_of(segment).map_err(io)?;
        loop {
            let place = segment.enter(find(index).map(|found| found.place));
            let mut head = [0; HEADER_BYTES];
            // The index of a segment that is written to is that of the appends: then bytes may be only
            // in memory.
            let good = segment.end().is_none()
                || (segment.read_at(&mut head, place.at).map_err(io)? == HEADER_BYTES
                    && Header::decode(&head, segment.header.salt, place.at)
                        .is_some_and(|header| header.first == place.offset));
            // Without another index it is the segment that is damaged, as its reader will see.
            match good {
                true => return Ok(place),
                false => match self.other_index(segment, index).map_err(io)? {
                    Some(other) => index = other,
                    None => return Ok(place),
                },
            }
        }
    }
}
