//! Reading: one record by its offset, and ranges of bytes by their location.
//!
//! What is durable is read from its segment file; what is not, from memory, so that nothing that a
//! failed sync left in the page cache is ever shown. No lock is taken, and nothing that readers on
//! other processors write to is written.
//!
//! Not here: many records in order (`crate::records`), the inside of a segment (`crate::find`).

use std::fmt;
use std::io;
use std::ops::{ControlFlow, Deref, Range};
use std::sync::Arc;

use arc_swap::Guard;
use bytes::{Bytes, BytesMut};

use crate::core::{Core, SegmentList};
use crate::error::ReadError;
use crate::files::{FileRef, Opened};
use crate::find::{Bad, Hit, View};
use crate::frame::{self, HEADER_BYTES, Header};
use crate::mapped::Mapped;
use crate::position::{Epoch, Location, Offset};
use crate::ring::ChunkRef;
use crate::segment::{ENDS_EARLY, Segment};
use crate::walk::{Frame, Step, Walker};

/// How much is read at once to copy one record.
const POINT_READ_BYTES: usize = 8 << 10;

/// A range of bytes of one record. It keeps its bytes readable while it lives, also when the
/// record is trimmed meanwhile.
#[derive(Clone)]
pub struct Slice {
    len: u32,
    source: Bits,
}

#[derive(Clone)]
enum Bits {
    /// Durable bytes of a file; they never change.
    File {
        segment: Arc<Segment>,
        /// Stays open, whatever becomes of its name.
        file: Arc<Opened>,
        at: Location,
    },
    Memory(Vec<Bytes>),
}

impl Slice {
    /// Length in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All the bytes; without a copy where they are still in memory in one piece.
    pub fn read(&self) -> io::Result<Bytes> {
        if let Bits::Memory(parts) = &self.source
            && let [part] = &parts[..]
        {
            return Ok(part.clone());
        }
        let mut bytes = BytesMut::zeroed(self.len as usize);
        self.read_into(&mut bytes)?;
        Ok(bytes.freeze())
    }

    /// Copies all the bytes to `to`, which must be as long as the slice.
    pub fn read_into(&self, mut to: &mut [u8]) -> io::Result<()> {
        if to.len() != self.len as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match &self.source {
            Bits::File { segment, file, at } => file.read_exact_at(to, segment.position(*at)),
            Bits::Memory(parts) => {
                for part in parts {
                    let (now, later) = to.split_at_mut(part.len());
                    now.copy_from_slice(part);
                    to = later;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A record as [`crate::Records`] shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub offset: Offset,
    /// Its first byte.
    pub at: Location,
    /// When it was appended: milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Which life of the log's end it belongs to.
    pub epoch: Epoch,
    /// What was appended.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("at", &self.at)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("epoch", &self.epoch)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Visits the records of a frame that passed its checks.
pub(crate) fn visit_records(
    frame: &Frame<'_>,
    epoch: Epoch,
    visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut at = frame.at.plus(HEADER_BYTES as u64);
    let mut offset = frame.header.first;
    let mut rest = frame.payload;
    while let Some((bytes, after)) = frame::split_record(rest) {
        at = at.plus(frame::RECORD_PREFIX_BYTES);
        visit(Record { offset, at, timestamp_ms: frame.header.timestamp_ms, epoch, bytes })?;
        at = at.plus(bytes.len() as u64);
        offset = offset + 1;
        rest = after;
    }
    ControlFlow::Continue(())
}

/// One record, borrowed where it lies; dereferences to its bytes. Nothing is copied or allocated where
/// [`crate::Reads::Mapped`] works.
///
/// It keeps its bytes readable while it lives, also when the record is trimmed meanwhile; but with
/// them it keeps the whole log's segments of now. To keep a record for long, take
/// [`RecordRef::to_bytes`]. A thread that keeps more than eight at once pays a little for each further
/// one.
pub struct RecordRef {
    offset: Offset,
    at: Location,
    timestamp_ms: i64,
    epoch: Epoch,
    held: Held,
}

/// Where the bytes of a record are.
enum Held {
    /// In the mapping of one of these segments, at these positions of its file.
    File {
        list: Guard<Arc<SegmentList>>,
        segment: usize,
        range: Range<u64>,
    },
    /// In the tail.
    Memory {
        bytes: ChunkRef,
        range: Range<usize>,
    },
    Copied(Bytes),
}

impl RecordRef {
    /// Its number.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Its first byte.
    pub fn at(&self) -> Location {
        self.at
    }

    /// When it was appended: milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Which life of the log's end it belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The record's bytes in a form to keep, without a copy. They keep their segment's file, or 256 KiB
    /// of memory, for as long as they live.
    pub fn to_bytes(&self) -> Bytes {
        match &self.held {
            Held::File { list, segment, range } => {
                let (segment, range) = (Arc::clone(&list.files[*segment]), range.clone());
                Bytes::from_owner(Kept { segment, range })
            }
            Held::Memory { bytes, range } => bytes.share(range.clone()),
            Held::Copied(bytes) => bytes.clone(),
        }
    }
}

impl Deref for RecordRef {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.held {
            Held::File { list, segment, range } => mapped_bytes(&list.files[*segment], range),
            Held::Memory { bytes, range } => &bytes[range.clone()],
            Held::Copied(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for RecordRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef")
            .field("offset", &self.offset)
            .field("at", &self.at)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A record's bytes in the mapping of a segment that somebody keeps.
struct Kept {
    segment: Arc<Segment>,
    range: Range<u64>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        mapped_bytes(&self.segment, &self.range)
    }
}

/// Bytes that were looked at before, so they are mapped and durable.
#[inline]
fn mapped_bytes<'a>(segment: &'a Segment, range: &Range<u64>) -> &'a [u8] {
    let mapped = segment.access.is_mapped().expect("what was found in a mapping is mapped");
    mapped.bytes(range.clone()).expect("what was durable stays so")
}

impl Core {
    /// Finds one record.
    pub(crate) fn read(&self, offset: Offset) -> Result<RecordRef, ReadError> {
        loop {
            // Before the list: all that is durable by then is in it.
            let durable_at = self.published.durable_at();
            if offset < self.published.durable()
                && let Some(record) = self.read_file(self.segments(), offset, durable_at)?
            {
                return Ok(record);
            }
            if offset >= self.published.appended() {
                return Err(self.beyond());
            }
            if let Some(record) = self.read_tail(offset, durable_at) {
                return Ok(record);
            }
            // It became durable meanwhile.
            std::hint::spin_loop();
        }
    }

    /// Finds a record in the segment files; `None` if it is not below `durable_at`.
    fn read_file(
        &self,
        list: Guard<Arc<SegmentList>>,
        offset: Offset,
        durable_at: Location,
    ) -> Result<Option<RecordRef>, ReadError> {
        let Some(number) = list.holder(offset) else {
            return Err(ReadError::Trimmed { start: list.start() });
        };
        let segment = &*list.files[number];
        let sealed = segment.end();
        let end = sealed.map_or(durable_at, |end| end.at.min(durable_at));
        let missing = || match sealed {
            Some(sealed) if sealed.at <= durable_at && offset < sealed.offset => {
                Err(damaged(segment, Bad { at: sealed.at, why: ENDS_EARLY }))
            }
            _ => Ok(None),
        };
        let Some(mapped) = self.mapped(segment, end) else {
            return self.copy_record(segment, offset, end)?.map_or_else(missing, |r| Ok(Some(r)));
        };
        let Some(hit) = self.find_mapped(segment, mapped, offset, end)? else { return missing() };
        let from = segment.position(hit.at);
        let range = from..from + u64::from(hit.len);
        let epoch = segment.header.epoch;
        let held = Held::File { list, segment: number, range };
        Ok(Some(RecordRef { offset, at: hit.at, timestamp_ms: hit.timestamp_ms, epoch, held }))
    }

    #[inline]
    fn find_mapped(
        &self,
        segment: &Segment,
        mapped: &Mapped,
        offset: Offset,
        end: Location,
    ) -> Result<Option<Hit>, ReadError> {
        let index = self.index_of(segment).map_err(|source| self.not_read(segment, source))?;
        let mut view = View { segment, mapped, index, end };
        loop {
            match view.find(offset) {
                Ok(hit) => return Ok(hit),
                Err(bad) => match self.other_index(segment, view.index) {
                    Ok(Some(index)) => view.index = index,
                    Ok(None) => return Err(damaged(segment, bad)),
                    Err(source) => return Err(io_error(segment, source)),
                },
            }
        }
    }

    /// Reads a record with the system's help; `None` if it is not below `end`.
    fn copy_record(
        &self,
        segment: &Segment,
        offset: Offset,
        end: Location,
    ) -> Result<Option<RecordRef>, ReadError> {
        let io = |source| self.not_read(segment, source);
        let mut index = self.index_of(segment).map_err(io)?;
        let source = |to: &mut [u8], at| segment.read_at(to, at);
        loop {
            let from = segment.enter(index.find(offset).map(|found| found.place));
            if from.at >= end {
                return Ok(None);
            }
            let salt = segment.header.salt;
            let mut walker = Walker::new(&source, salt, from.at, from.offset, end, Vec::new())
                .reading(POINT_READ_BYTES);
            let bad = loop {
                match walker.step().map_err(io)? {
                    Step::Frame(frame) if offset < frame.header.next() => {
                        let epoch = segment.header.epoch;
                        let Frame { at, header, payload } = frame;
                        let record = RecordRef::copied(offset, at, epoch, &header, payload);
                        return Ok(Some(record));
                    }
                    Step::Frame(_) => {}
                    Step::End => return Ok(None),
                    Step::Bad(why) => break why,
                }
            };
            match self.other_index(segment, index).map_err(io)? {
                Some(other) => index = other,
                None => return Err(damaged(segment, Bad { at: walker.at(), why: bad })),
            }
        }
    }

    /// Finds a record in memory; `None` when it is not there any more.
    fn read_tail(&self, offset: Offset, durable_at: Location) -> Option<RecordRef> {
        let (mut at, mut bytes) = self.enter_tail(offset, durable_at)?;
        loop {
            let mut from = 0;
            while let Some(head) = bytes.get(from..).and_then(|rest| rest.first_chunk()) {
                let header = Header::peek(head);
                if offset < header.first {
                    return None;
                }
                if offset < header.next() {
                    return self.in_tail(bytes, from, at.plus(from as u64), &header, offset);
                }
                let size = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
                from = from.saturating_add(size);
            }
            if from == 0 {
                // A header in two pieces.
                let header = self.tail_header(at)?;
                if header.first <= offset && offset < header.next() {
                    return self.copy_from_tail(offset, at, &header);
                }
                at = at.plus(header.frame_bytes());
            }
            at = at.plus(from as u64);
            bytes = self.tail_bytes(at)?;
        }
    }

    /// A frame in memory that is not after the one with this record, and the bytes from there on.
    fn enter_tail(&self, offset: Offset, durable_at: Location) -> Option<(Location, ChunkRef)> {
        let list = self.segments();
        let mut stretch = &list.stretch;
        while let Some(next) = stretch.next.get().filter(|next| next.base.offset <= offset) {
            stretch = next;
        }
        let found = stretch.index.find(offset)?;
        let at = stretch.index.nearest(found, offset).max(durable_at);
        Some((at, self.tail_bytes(at)?))
    }

    /// The record in the frame that begins `from` bytes into what is borrowed.
    fn in_tail(
        &self,
        bytes: ChunkRef,
        from: usize,
        at: Location,
        header: &Header,
        offset: Offset,
    ) -> Option<RecordRef> {
        let begin = from + HEADER_BYTES;
        let Some(payload) = bytes.get(begin..begin + header.payload_bytes as usize) else {
            return self.copy_from_tail(offset, at, header);
        };
        let (start, len) = frame::nth_record(payload, offset - header.first)?;
        let begin = begin + start as usize;
        let at = at.plus((HEADER_BYTES + start as usize) as u64);
        let (epoch, timestamp_ms) = (self.published.epoch(), header.timestamp_ms);
        let held = Held::Memory { bytes, range: begin..begin + len as usize };
        Some(RecordRef { offset, at, timestamp_ms, epoch, held })
    }

    /// The header of the frame at `at`, wherever its bytes are in memory.
    pub(crate) fn tail_header(&self, at: Location) -> Option<Header> {
        let mut bytes = [0; HEADER_BYTES];
        (self.copy_tail(&mut bytes, at)? == HEADER_BYTES).then(|| Header::peek(&bytes))
    }

    fn copy_from_tail(&self, offset: Offset, at: Location, header: &Header) -> Option<RecordRef> {
        let mut payload = vec![0; header.payload_bytes as usize];
        let copied = self.copy_tail(&mut payload, at.plus(HEADER_BYTES as u64))?;
        let epoch = self.published.epoch();
        (copied == payload.len()).then(|| RecordRef::copied(offset, at, epoch, header, &payload))
    }

    pub(crate) fn slice(&self, at: Location, len: u32) -> Result<Slice, ReadError> {
        let end = Location::new(at.get().saturating_add(u64::from(len)));
        if end > self.published.appended_at() {
            return Err(self.beyond());
        }
        if end > self.published.durable_at()
            && let Some(parts) = self.ring.share(at, len)
        {
            return Ok(Slice { len, source: Bits::Memory(parts) });
        }
        // Durable by now: memory lets go of nothing else.
        if end > self.published.durable_at() {
            return Err(self.beyond());
        }
        let Some(segment) = self.segment_of(at) else {
            return Err(ReadError::Trimmed { start: self.start() });
        };
        if segment.end().is_some_and(|sealed| end > sealed.at) {
            return Err(self.beyond());
        }
        let file = self.file_of(&segment)?.share();
        Ok(Slice { len, source: Bits::File { segment, file, at } })
    }

    /// The file of a segment, for a reader.
    pub(crate) fn file_of(&self, segment: &Segment) -> Result<FileRef, ReadError> {
        segment.file().map_err(|source| self.not_read(segment, source))
    }

    /// What to say when the system does not let us read a segment.
    pub(crate) fn not_read(&self, segment: &Segment, source: io::Error) -> ReadError {
        let start = self.start();
        match source.kind() {
            // It was trimmed after it was found and before its file was open.
            io::ErrorKind::NotFound if segment.header.base.offset < start => {
                ReadError::Trimmed { start }
            }
            _ => io_error(segment, source),
        }
    }

    pub(crate) fn beyond(&self) -> ReadError {
        ReadError::Beyond { end: self.published.appended() }
    }
}

impl RecordRef {
    /// Copies a record out of a frame that is known to be good.
    fn copied(offset: Offset, at: Location, epoch: Epoch, header: &Header, payload: &[u8]) -> Self {
        let (start, len) = frame::nth_record(payload, offset - header.first)
            .expect("the lengths of a good frame add up");
        let bytes = Bytes::copy_from_slice(&payload[start as usize..][..len as usize]);
        let at = at.plus(HEADER_BYTES as u64 + u64::from(start));
        Self { offset, at, timestamp_ms: header.timestamp_ms, epoch, held: Held::Copied(bytes) }
    }
}

pub(crate) fn io_error(segment: &Segment, source: io::Error) -> ReadError {
    ReadError::Io { path: segment.path.clone(), source }
}

pub(crate) fn damaged(segment: &Segment, bad: Bad) -> ReadError {
    let (path, at) = (segment.path.clone(), segment.position(bad.at));
    ReadError::Damaged { path, at, why: bad.why.to_owned() }
}
