//! Reading: slices of records, and scans.
//!
//! What is durable is read from its segment file; what is not, from memory, so that nothing that a
//! failed sync left in the page cache is ever shown.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::core::Core;
use crate::error::ReadError;
use crate::frame;
use crate::position::{Location, Offset};
use crate::segment::Segment;
use crate::walk::{Frame, Step, Walker};

/// A range of bytes of one record. It keeps its bytes readable while it lives, also when the
/// record is trimmed meanwhile.
#[derive(Clone, Debug)]
pub struct Slice {
    len: u32,
    source: Bits,
}

#[derive(Clone, Debug)]
enum Bits {
    /// Durable bytes of a file; they never change.
    File {
        segment: Arc<Segment>,
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
            Bits::File { segment, at } => segment.file.read_exact_at(to, segment.position(*at)),
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

/// A record as [`crate::Log::scan`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its number.
    pub offset: Offset,
    /// Its first byte.
    pub at: Location,
    /// When it was appended: milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What was appended.
    pub bytes: &'a [u8],
}

/// Visits the records of a frame that passed its checks.
pub(crate) fn visit_records(
    frame: &Frame<'_>,
    visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut at = frame.at.plus(frame::HEADER_BYTES as u64);
    let mut offset = frame.header.first;
    let mut rest = frame.payload;
    while let Some((bytes, after)) = frame::split_record(rest) {
        at = at.plus(frame::RECORD_PREFIX_BYTES);
        visit(Record { offset, at, timestamp_ms: frame.header.timestamp_ms, bytes })?;
        at = at.plus(bytes.len() as u64);
        offset = offset + 1;
        rest = after;
    }
    ControlFlow::Continue(())
}

/// What a scan reads of one segment.
struct Run {
    segment: Arc<Segment>,
    end: Location,
}

impl Core {
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
        Ok(Slice { len, source: Bits::File { segment, at } })
    }

    fn beyond(&self) -> ReadError {
        ReadError::Beyond { end: self.published.appended() }
    }

    /// Reads written bytes of the log wherever they are now. `fallback` is where they were, should
    /// they have been trimmed.
    fn read_at(&self, to: &mut [u8], at: Location, fallback: &Segment) -> io::Result<usize> {
        let durable = self.published.durable_at();
        if at >= durable
            && let Some(bytes) = self.tail_bytes(at)
        {
            let n = to.len().min(bytes.len());
            to[..n].copy_from_slice(&bytes[..n]);
            return Ok(n);
        }
        let segment = self.segment_of(at);
        let segment = segment.as_deref().unwrap_or(fallback);
        let durable = self.published.durable_at().max(durable);
        let left = usize::try_from(durable.get().saturating_sub(at.get())).unwrap_or(usize::MAX);
        let n = to.len().min(left);
        segment.read_at(&mut to[..n], at)
    }

    /// Visits what is written, from `from` on.
    pub(crate) fn scan(
        &self,
        from: Offset,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut visit = |record: Record<'_>| {
            if record.offset < from { ControlFlow::Continue(()) } else { visit(record) }
        };
        let mut buffer = Vec::new();
        for run in self.runs(from)? {
            match self.scan_run(&run, buffer, &mut visit)? {
                ControlFlow::Continue(returned) => buffer = returned,
                ControlFlow::Break(()) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The segments that hold records from `from` on.
    fn runs(&self, from: Offset) -> Result<Vec<Run>, ReadError> {
        // What cannot be written out is not scanned; its writer was told.
        self.write_out().map_or_else(|error| tracing::debug!(%error, "a scan ends early"), drop);
        let written = self.progress().written;
        let segments = self.segments();
        let start = segments.start();
        if from < start {
            return Err(ReadError::Trimmed { start });
        }
        if from > written.offset {
            return Err(ReadError::Beyond { end: written.offset });
        }
        let run = |segment: &Arc<Segment>| {
            let end = segment.end().filter(|end| end.at < written.at).unwrap_or(written);
            (end.offset > from).then(|| Run { segment: Arc::clone(segment), end: end.at })
        };
        Ok(segments.files.iter().filter_map(run).collect())
    }

    fn scan_run(
        &self,
        run: &Run,
        buffer: Vec<u8>,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<u8>>, ReadError> {
        let segment = &*run.segment;
        let source = |to: &mut [u8], at| self.read_at(to, at, segment);
        let base = segment.header.base;
        let mut walker =
            Walker::new(&source, segment.header.salt, base.at, base.offset, run.end, buffer);
        loop {
            let step = walker.step();
            match step.map_err(|source| ReadError::Io { path: segment.path.clone(), source })? {
                Step::Frame(frame) => {
                    if visit_records(&frame, visit).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Step::End => return Ok(ControlFlow::Continue(walker.into_buffer())),
                Step::Bad(why) => {
                    let at = segment.position(walker.at());
                    let (path, why) = (segment.path.clone(), why.to_owned());
                    return Err(ReadError::Damaged { path, at, why });
                }
            }
        }
    }
}
