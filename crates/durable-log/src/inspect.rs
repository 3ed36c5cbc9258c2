//! Looking at one file of a log without opening the log: for people and tools. Changes nothing.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::files::Files;
use crate::index_file;
use crate::low_water::{self, LowWater};
use crate::marker::{self, Marker};
use crate::position::{Epoch, Location, Offset};
use crate::read::{Record, visit_records};
use crate::seal::{self, Flaw};
use crate::segment::{self, Header, Place, Segment};
use crate::walk::{Behind, NO_HEADER, Region, Source, Step, Walker, search};

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedSegment {
    /// Version of its format.
    pub version: u32,
    /// Its number.
    pub number: u64,
    /// Offset of its first record.
    pub first: Offset,
    /// Location of its first frame.
    pub begin: Location,
    /// Salt of its checksums.
    pub salt: u64,
    /// Time of creation, milliseconds since 1970.
    pub created_ms: i64,
    /// Its epoch.
    pub epoch: Epoch,
    /// No frame before it has a later time, milliseconds since 1970; `None` when there is none.
    pub newest_ms: Option<i64>,
    /// Up to here the file may hold bytes of a former life, which are none of its own.
    pub stale_bytes: u64,
    /// One past the last good record.
    pub next: Offset,
    /// Where in the file the good frames end.
    pub end: u64,
    /// What stands there.
    pub ends: SegmentEnd,
    /// Size of the file.
    pub file_bytes: u64,
    /// The segment that goes on where this one ends; what this file holds from there on is not part of the log.
    pub followed_by: Option<InspectedNext>,
    /// Number of the cut (`.cut`) that replaces the whole segment, and is not finished.
    pub replaced_by: Option<u64>,
}

/// The beginning of the segment that follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedNext {
    /// Its number.
    pub number: u64,
    /// Offset of its first record.
    pub first: Offset,
    /// Where its first frame would begin in the file of the segment before it.
    pub position: u64,
}

/// What stands where the good frames of a segment end, as far as that can be told from the segment, the header of the
/// next one and the mark of a close beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentEnd {
    /// Whoever looked wanted to see no more.
    Stopped,
    /// The end of the file.
    File,
    /// The end of its part of the log: the next segment goes on there.
    Next,
    /// Nothing: zeros, or bytes of the file's former life. A segment that is written to ends so.
    Room(&'static str),
    /// Bytes that are no whole frame, and of which nothing says that they were promised: the torn end of a write, or
    /// damage that looks like one. An opening of the log cuts them.
    Torn {
        /// What is wrong with them.
        why: &'static str,
        /// How many, up to the last that means something.
        bytes: u64,
    },
    /// Bytes that should be frames: records below `promised` were durable.
    Damaged {
        /// What is wrong with them.
        why: &'static str,
        /// Where the promise ends.
        promised: Offset,
        /// What made it.
        by: Promise,
    },
}

/// What says of records that they were durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// A frame further on in the file.
    Frame,
    /// The segment that follows.
    NextSegment,
    /// The mark of an orderly close.
    Close,
}

/// A frame of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedFrame {
    /// Where in the file it begins.
    pub position: u64,
    /// Offset of its first record.
    pub first: Offset,
    /// How many records it has; 0 in a mark.
    pub records: u32,
    /// Bytes of its records and their lengths.
    pub payload_bytes: u32,
    /// All records below this were durable when it was built.
    pub synced_through: Offset,
    /// Time of the append, milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Reads a segment file (`.seg`, or `.cut`) and shows each good frame, then each of its records, until one of the
/// two breaks or a frame is not good. Who wants the header alone breaks at the first frame. Of the files beside it the
/// header of the next segment and the mark of a close are looked at.
///
/// # Errors
///
/// A header that is damaged or of an unknown version, and what the operating system says.
pub fn inspect(
    host: &Host,
    path: &Path,
    visit_frame: &mut dyn FnMut(InspectedFrame) -> ControlFlow<()>,
    visit_record: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
) -> Result<InspectedSegment, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = host.disk.open(path, OpenMode::Read).map_err(io)?;
    let header = segment::read_header(path, &*file)?;
    let file_bytes = file.size().map_err(io)?;
    let segment = Segment::new(&Files::new(host, 1), header, path.to_owned(), file);
    let source = |to: &mut [u8], at| segment.read_at(to, at);
    let base = header.base;
    let end = segment.location(file_bytes);
    let mut walker = Walker::new(&source, header.salt, base.at, base.offset, end, Vec::new());
    let bad = loop {
        match walker.step().map_err(io)? {
            Step::Frame(frame) => {
                let shown = InspectedFrame {
                    position: segment.position(frame.at),
                    first: frame.header.first,
                    records: frame.header.records,
                    payload_bytes: frame.header.payload_bytes,
                    synced_through: frame.header.synced_through(),
                    timestamp_ms: frame.header.timestamp_ms,
                };
                if visit_frame(shown).is_break()
                    || visit_records(&frame, header.epoch, visit_record).is_break()
                {
                    break Some(SegmentEnd::Stopped);
                }
            }
            Step::End => break None,
            Step::Bad(why) => break Some(SegmentEnd::Torn { why, bytes: 0 }),
        }
    };
    let place = Place { offset: walker.expect(), at: walker.at() };
    let beside = Beside::find(host, path, &header);
    let ends = match bad {
        Some(SegmentEnd::Torn { why, .. }) => {
            what_ends(&segment, &source, place, end, why, &beside).map_err(io)?
        }
        Some(stopped) => stopped,
        None => beside.promise(place).map_or(SegmentEnd::File, |(promised, by)| {
            SegmentEnd::Damaged { why: "the file ends here", promised, by }
        }),
    };
    Ok(InspectedSegment {
        version: segment::VERSION,
        number: header.number,
        first: base.offset,
        begin: base.at,
        salt: header.salt,
        created_ms: header.created_ms,
        epoch: header.epoch,
        newest_ms: (header.newest_ms != i64::MIN).then_some(header.newest_ms),
        stale_bytes: header.stale_bytes,
        next: place.offset,
        end: segment.position(place.at),
        ends,
        file_bytes,
        followed_by: beside.next.map(|next| InspectedNext {
            number: next.number,
            first: next.base.offset,
            position: segment.position(next.base.at),
        }),
        replaced_by: beside.replaced_by,
    })
}

/// What the files beside a segment say about its end.
#[derive(Debug)]
struct Beside {
    next: Option<Header>,
    replaced_by: Option<u64>,
    closed: Option<Place>,
}

impl Beside {
    /// Looks at what is there; what cannot be read says nothing.
    fn find(host: &Host, path: &Path, header: &Header) -> Self {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or_else(|| Path::new("."));
        let entries = host.disk.list(dir).unwrap_or_default();
        let cuts = entries.iter().filter_map(|entry| segment::cut_number(&entry.name));
        let is_cut = path.extension().is_some_and(|extension| extension == "cut");
        // A segment that replaces others has no next one before it has done so.
        let cut = if is_cut { None } else { cuts.min() };
        let next = match cut {
            Some(cut) if cut <= header.number => None,
            Some(cut) if cut == header.number + 1 => Some(segment::cut_name(cut)),
            _ if is_cut => None,
            _ => Some(segment::name(header.number + 1)),
        };
        let read = |name: String| {
            let path = dir.join(name);
            let file = host.disk.open(&path, OpenMode::Read).ok()?;
            segment::read_header(&path, &*file).ok()
        };
        let next = next.and_then(read).filter(|next| {
            next.number == header.number + 1
                && next.base.at >= header.base.at
                && next.base.offset >= header.base.offset
        });
        let closed = Marker::read(host, dir).ok().flatten();
        let closed =
            closed.filter(|mark| (mark.segment, mark.salt) == (header.number, header.salt));
        let replaced_by = cut.filter(|cut| *cut <= header.number);
        Self { next, replaced_by, closed: closed.map(|mark| mark.end) }
    }

    /// What was promised beyond `place`, where the good frames end.
    fn promise(&self, place: Place) -> Option<(Offset, Promise)> {
        let next = self.next.map(|next| (next.base, Promise::NextSegment));
        let closed = self.closed.map(|end| (end, Promise::Close));
        next.or(closed)
            .filter(|(end, _)| place.at < end.at || place.offset < end.offset)
            .map(|(end, by)| (end.offset, by))
    }
}

/// What the bytes at `place`, which are no good frame for the reason `why`, are.
fn what_ends(
    segment: &Segment,
    source: &Source<'_>,
    place: Place,
    end: Location,
    why: &'static str,
    beside: &Beside,
) -> io::Result<SegmentEnd> {
    if let Some((promised, by)) = beside.promise(place) {
        return Ok(SegmentEnd::Damaged { why, promised, by });
    }
    if beside.next.is_some() {
        return Ok(SegmentEnd::Next);
    }
    let base = segment.header.base.offset;
    let stale_end = segment.stale_end();
    let region = Region { salt: segment.header.salt, base, stale_end };
    let written = segment.written(place.at)?;
    let Behind { synced_through, end: used } =
        search(source, &written, region, place.at, end, Vec::new())?;
    if synced_through > place.offset {
        return Ok(SegmentEnd::Damaged { why, promised: synced_through, by: Promise::Frame });
    }
    Ok(match used.get() - place.at.get() {
        0 if why == NO_HEADER && place.at < stale_end => {
            SegmentEnd::Room("bytes of the file's former life")
        }
        0 => SegmentEnd::Room(why),
        bytes => SegmentEnd::Torn { why, bytes },
    })
}

/// What the mark of an orderly close says, `clean`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedMarker {
    /// Version of its format.
    pub version: u32,
    /// Number of the last segment.
    pub segment: u64,
    /// The salt of that segment.
    pub salt: u64,
    /// One past the last record.
    pub next: Offset,
    /// One past the last frame.
    pub end: Location,
    /// No frame of the log has a later time, milliseconds since 1970; `None` when there is none.
    pub newest_ms: Option<i64>,
}

/// Reads the mark of an orderly close.
///
/// # Errors
///
/// One that is damaged or of an unknown version, and what the operating system says. For an opening log a damaged
/// mark is as good as none.
pub fn inspect_marker(host: &Host, path: &Path) -> Result<InspectedMarker, OpenError> {
    let bytes = marker::read_small(host, path)?.ok_or_else(|| missing(path))?;
    let mark = Marker::decode(&bytes).map_err(|flaw| flawed(path, flaw))?;
    Ok(InspectedMarker {
        version: marker::VERSION,
        segment: mark.segment,
        salt: mark.salt,
        next: mark.end.offset,
        end: mark.end.at,
        newest_ms: (mark.newest_ms != i64::MIN).then_some(mark.newest_ms),
    })
}

/// What the low-water mark says, `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedLowWater {
    /// Version of its format.
    pub version: u32,
    /// Number of the first segment that is not trimmed.
    pub segment: u64,
    /// Offset of its first record.
    pub first: Offset,
}

/// Reads the low-water mark.
///
/// # Errors
///
/// One that is damaged or of an unknown version, and what the operating system says.
pub fn inspect_low_water(host: &Host, path: &Path) -> Result<InspectedLowWater, OpenError> {
    let mark = LowWater::read_file(host, path)?.ok_or_else(|| missing(path))?;
    Ok(InspectedLowWater { version: low_water::VERSION, segment: mark.segment, first: mark.first })
}

/// What an index file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedIndex {
    /// Version of its format.
    pub version: u32,
    /// Number of the segment.
    pub segment: u64,
    /// The salt of that segment.
    pub salt: u64,
    /// Bytes of that segment's frames.
    pub frames_bytes: u64,
    /// How many entries it has.
    pub entries: u64,
}

/// An entry of an index file: a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedEntry {
    /// Where in the segment's file the frame begins.
    pub position: u64,
    /// How many records of the segment come before it.
    pub records_before: u64,
    /// No frame of the log before it has a later time, milliseconds since 1970; `None` when there is none.
    pub newest_ms: Option<i64>,
}

/// Reads an index file (`.idx`). Whether it fits its segment is not looked at.
///
/// # Errors
///
/// One that is damaged or of an unknown version, and what the operating system says. For the log such an index is
/// as good as none.
pub fn inspect_index(
    host: &Host,
    path: &Path,
) -> Result<(InspectedIndex, Vec<InspectedEntry>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = host.disk.open(path, OpenMode::Read).map_err(io)?;
    let size = file.size().map_err(io)?;
    let len = usize::try_from(size).ok().filter(|_| size <= index_file::BYTES_MAX);
    let len = len.ok_or_else(|| flawed(path, Flaw::Checksum))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let kept = index_file::look(&bytes).map_err(|flaw| flawed(path, flaw))?;
    let entries: Vec<_> = kept
        .entries
        .map(|entry| InspectedEntry {
            position: entry.frames_bytes + segment::HEADER_BYTES as u64,
            records_before: entry.records,
            newest_ms: (entry.newest_ms != i64::MIN).then_some(entry.newest_ms),
        })
        .collect();
    let index = InspectedIndex {
        version: index_file::VERSION,
        segment: kept.segment,
        salt: kept.salt,
        frames_bytes: kept.frames_bytes,
        entries: entries.len() as u64,
    };
    Ok((index, entries))
}

fn missing(path: &Path) -> OpenError {
    OpenError::Io { path: path.to_owned(), source: io::ErrorKind::NotFound.into() }
}

fn flawed(path: &Path, flaw: Flaw) -> OpenError {
    let why = match flaw {
        Flaw::Version(version) => {
            let at = seal::VERSION_AT;
            return OpenError::UnknownVersion { path: path.to_owned(), at, version };
        }
        Flaw::Magic => "this is another kind of file",
        Flaw::Short => "the file has not the length of its kind",
        Flaw::Checksum => "the file does not match its checksum",
    };
    OpenError::Damaged { path: path.to_owned(), at: 0, why: why.to_owned() }
}
