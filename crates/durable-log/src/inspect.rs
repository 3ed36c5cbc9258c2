//! Looking at one file of a log without opening the log: for people and tools. Changes nothing.

use std::ops::ControlFlow;
use std::path::Path;

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::files::Files;
use crate::marker::Marker;
use crate::position::{Epoch, Location, Offset};
use crate::read::{Record, visit_records};
use crate::segment::{self, Segment};
use crate::walk::{NO_HEADER, Step, Walker};

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedSegment {
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
    /// What is wrong with the bytes there; `None` if the file ends there. In a segment that was not
    /// closed in order, zeros are usual.
    pub end_reason: Option<&'static str>,
    /// Size of the file.
    pub file_bytes: u64,
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

/// Reads a segment file and shows each good frame, then each of its records, until one of the two
/// breaks or a frame is not good.
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
    let end_reason = loop {
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
                    break Some("stopped by the reader");
                }
            }
            Step::End => break None,
            Step::Bad(why) => break Some(why),
        }
    };
    let is_stale = end_reason == Some(NO_HEADER) && walker.at() < segment.stale_end();
    let end_reason = if is_stale { Some("bytes of the file's former life") } else { end_reason };
    Ok(InspectedSegment {
        number: header.number,
        first: base.offset,
        begin: base.at,
        salt: header.salt,
        created_ms: header.created_ms,
        epoch: header.epoch,
        newest_ms: (header.newest_ms != i64::MIN).then_some(header.newest_ms),
        stale_bytes: header.stale_bytes,
        next: walker.expect(),
        end: segment.position(walker.at()),
        end_reason,
        file_bytes,
    })
}

/// What the mark of an orderly close in the log's directory says: the number of the last segment
/// and the log's end. `None` if there is no whole mark.
pub fn inspect_marker(
    host: &Host,
    dir: &Path,
) -> Result<Option<(u64, Offset, Location)>, OpenError> {
    Ok(Marker::read(host, dir)?.map(|mark| (mark.segment, mark.end.offset, mark.end.at)))
}
