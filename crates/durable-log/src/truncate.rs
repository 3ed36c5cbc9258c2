//! Cutting the end off: what is kept, the one moment at which the cut is decided, and the new epoch.
//!
//! The segment that holds the cut is followed by a new one whose base is the frame that is cut, with a
//! higher epoch. Records of that frame that stay are its first frame, with their offsets and locations:
//! they are a prefix of the old frame. A mark behind them says that they are durable.
//!
//! The new segment is written whole and synced under a name of its own, `NUMBER.cut`. Once that name is
//! durable, the cut is decided: everything in segments of its number and later is gone. The log is then
//! opened anew, which finishes a cut that it finds (`crate::recovery`): later segments are removed, their
//! names synced, and the new segment gets its own name. So a power cut leaves the log as it was or cut.
//!
//! Files of segments from before the cut are never used again: readers of the old handle may hold them,
//! and no handle knows of those of another (`crate::spare`). The file before the cut keeps its bytes: who reads it may go on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::core::{Core, lock};
use crate::crc;
use crate::error::{AppendError, Ended, TruncateError, WriteError};
use crate::frame::{self, Header as FrameHeader};
use crate::log::Log;
use crate::marker::Marker;
use crate::mutation::{self, Step as LeftOut};
use crate::position::Offset;
use crate::segment::{self, ENDS_EARLY, Header, Place, Segment};
use crate::spare;
use crate::walk::{Frame, Step, Walker};
use crate::writer::Writer;

/// What stays of a log.
#[derive(Debug)]
struct Cut {
    /// The last segment of which anything stays.
    segment: Arc<Segment>,
    /// The frame that is cut, or the end of the segment.
    at: Place,
    /// No frame before it has a later time.
    newest_ms: i64,
    /// What of the cut frame stays.
    kept: Option<Kept>,
}

/// The beginning of a frame.
#[derive(Debug)]
struct Kept {
    records: u32,
    payload: Vec<u8>,
    timestamp_ms: i64,
}

impl Log {
    /// Keeps the records below `end` and cuts off the rest, durably; returns the log as it is then, in a
    /// higher [`crate::Epoch`]. Everything that is kept is durable, too.
    ///
    /// This handle and its clones are of the time before: they refuse everything but reads of what they
    /// know, and whoever waits through them for a record that is cut off, or syncs, is told that they were
    /// replaced. When nothing is at or above `end`, nothing changes and the log that is returned is this
    /// one. A [`crate::Committer`] stays with this handle, where it has nothing to do: the new one needs its own.
    ///
    /// # Errors
    ///
    /// All but [`TruncateError::Open`] and [`TruncateError::Failed`] leave the log as it was. After
    /// these two the log has to be opened again, and is cut or not.
    pub fn truncate_after(&self, end: Offset) -> Result<Self, TruncateError> {
        let core = self.core();
        // Declared first: whoever is woken goes on when both locks are let go.
        let mut writer;
        let no_trim = lock(&core.trim);
        writer = core.writer();
        core.exclude_appends()?;
        let decided = match core.decide(&mut writer, end) {
            Ok(decided) => decided,
            Err(error) => {
                core.admit_appends();
                return Err(error);
            }
        };
        if !decided {
            core.admit_appends();
            return Ok(self.clone());
        }
        core.end_life(&mut writer, end);
        drop(no_trim);
        drop(writer);
        self.open_again().map_err(TruncateError::Open)
    }
}

impl Core {
    fn exclude_appends(&self) -> Result<(), TruncateError> {
        let mut tail = self.tail();
        match &tail.refusal {
            None => {
                tail.refusal = Some(AppendError::Truncating);
                Ok(())
            }
            Some(AppendError::Failed { why }) => {
                Err(TruncateError::Failed { why: Arc::clone(why) })
            }
            Some(AppendError::Replaced) => Err(TruncateError::Replaced),
            Some(_) => Err(TruncateError::Closed),
        }
    }

    fn admit_appends(&self) {
        let mut tail = self.tail();
        if matches!(tail.refusal, Some(AppendError::Truncating)) {
            tail.refusal = None;
        }
    }

    /// Makes everything durable, then the cut; false when there is nothing to cut.
    fn decide(&self, writer: &mut Writer, end: Offset) -> Result<bool, TruncateError> {
        let start = self.start();
        if end < start {
            return Err(TruncateError::Trimmed { start });
        }
        let written = self.write_out_locked(writer).and_then(|_| {
            let sync = lock(&self.sync);
            self.settle(writer, &sync)
        });
        written.map_err(|error| match error {
            WriteError::NoSpace => TruncateError::NoSpace,
            WriteError::Replaced => TruncateError::Replaced,
            WriteError::Failed { why } => TruncateError::Failed { why },
        })?;
        if end >= self.published.durable() {
            return Ok(false);
        }
        let cut = self.find_cut(end)?;
        self.commit_cut(writer, &cut)?;
        Ok(true)
    }

    /// Walks through the segment in which `end` lies. Everything is durable.
    fn find_cut(&self, end: Offset) -> Result<Cut, TruncateError> {
        let segment = {
            let list = self.segments();
            let after = list.files.partition_point(|segment| segment.header.base.offset < end);
            Arc::clone(&list.files[after.saturating_sub(1)])
        };
        let Header { base, salt, mut newest_ms, .. } = segment.header;
        let last = segment.end().unwrap_or_else(|| self.published.durable_place());
        let source = |to: &mut [u8], at| segment.read_at(to, at);
        let mut walker = Walker::new(&source, salt, base.at, base.offset, last.at, Vec::new());
        let kept = loop {
            let before = walker.expect();
            let step = walker.step();
            match step.map_err(|source| TruncateError::Io { path: segment.path.clone(), source })? {
                Step::Frame(frame) if frame.header.next() > end || before >= end => {
                    let at = Place { offset: before, at: frame.at };
                    let kept = Kept::of(&frame, end);
                    break Some((at, kept));
                }
                Step::Frame(frame) => newest_ms = newest_ms.max(frame.header.timestamp_ms),
                Step::End if before == last.offset => break None,
                step => {
                    let why = if let Step::Bad(why) = step { why } else { ENDS_EARLY };
                    let at = segment.position(walker.at());
                    let path = segment.path.clone();
                    return Err(TruncateError::Damaged { path, at, why: why.to_owned() });
                }
            }
        };
        let (at, kept) = kept.unwrap_or((last, None));
        Ok(Cut { segment: Arc::clone(&segment), at, newest_ms, kept })
    }

    /// Writes the segment that replaces all later ones, and decides the cut by its name.
    fn commit_cut(&self, writer: &mut Writer, cut: &Cut) -> Result<(), TruncateError> {
        let number = cut.segment.header.number + 1;
        let header = Header {
            number,
            base: cut.at,
            salt: self.host.random.next_u64(),
            created_ms: self.now_ms(),
            epoch: self.published.epoch().next(),
            newest_ms: cut.newest_ms,
            stale_bytes: 0,
        };
        let (frames, end, newest_ms) = cut.frames(&header, self.now_ms());
        let mark = Marker { segment: number, salt: header.salt, end, newest_ms };
        let to = self.dir.join(segment::cut_name(number));
        let blank =
            spare::make(&self.host, &self.dir, "cut", 0).map_err(|source| self.not_cut(source))?;
        let mut fill =
            |new: &Segment| new.file()?.write_all_at(&frames, new.position(header.base.at));
        // The mark counts for the new segment alone, so it says nothing yet. With it the log that is opened
        // next need not be checked.
        let prepared = segment::write_whole(&self.files, header, &to, &blank, 0, &mut fill)
            .and_then(|_| mark.write(&self.host, &self.dir));
        if let Err(source) = prepared {
            spare::discard(&self.host, blank);
            return Err(self.not_cut(source));
        }
        self.name_cut(writer, &blank.path, &to)
    }

    /// Decides the cut by its name.
    fn name_cut(&self, writer: &mut Writer, from: &Path, to: &Path) -> Result<(), TruncateError> {
        let disk = &self.host.disk;
        match disk.rename(from, to) {
            // Without a file to be named, the name cannot come later either.
            Err(source) if self.has_no_name(to) && disk.unlink(from).is_ok() => {
                Err(self.not_cut(source))
            }
            named => named
                .and_then(|()| mutation::sync_dir(LeftOut::SyncCut, &self.host, &self.dir))
                .map_err(|error| {
                    let why = format!("cutting the log's end in {}: {error}", self.dir.display());
                    self.fail(why, &mut writer.woken).into()
                }),
        }
    }

    /// Whether it is known that a name is not there, although an error came when it was given.
    fn has_no_name(&self, path: &Path) -> bool {
        let listed = self.host.disk.list(&self.dir);
        let name = path.file_name();
        listed.is_ok_and(|entries| entries.iter().all(|entry| name != Some(entry.name.as_ref())))
    }

    fn not_cut(&self, source: io::Error) -> TruncateError {
        if spare::is_no_space(&source) {
            return TruncateError::NoSpace;
        }
        TruncateError::Io { path: self.dir.clone(), source }
    }

    /// Makes this handle refuse everything: the log goes on in another one.
    fn end_life(&self, writer: &mut Writer, end: Offset) {
        let dir = self.dir.display();
        tracing::info!(%dir, %end, "the log's end is cut; what used it before has to take the new handle");
        self.published.set_cut(end);
        self.end(|| Ended::Replaced, &mut writer.woken);
    }
}

impl Kept {
    /// The records of a frame that lie below `end`; `None` if there are none.
    fn of(frame: &Frame<'_>, end: Offset) -> Option<Self> {
        let first = frame.header.first;
        let records = u32::try_from(end.get().saturating_sub(first.get())).ok()?;
        let mut rest = frame.payload;
        for _ in 0..records {
            rest = frame::split_record(rest)?.1;
        }
        let payload = frame.payload[..frame.payload.len() - rest.len()].to_vec();
        let timestamp_ms = frame.header.timestamp_ms;
        (records > 0).then_some(Self { records, payload, timestamp_ms })
    }
}

impl Cut {
    /// The frames of the new segment, the place after them, and the latest time up to there.
    fn frames(&self, segment: &Header, now_ms: i64) -> (Vec<u8>, Place, i64) {
        let mut bytes = Vec::new();
        let (mut end, mut newest_ms) = (self.at, self.newest_ms);
        if let Some(Kept { records, payload, timestamp_ms }) = &self.kept {
            end = push_frame(&mut bytes, segment, end, *records, payload, *timestamp_ms);
            let mark_ms = newest_ms.max(*timestamp_ms).max(now_ms);
            end = push_frame(&mut bytes, segment, end, 0, &[], mark_ms);
            newest_ms = mark_ms;
        }
        (bytes, end, newest_ms)
    }
}

/// Adds a frame all before which is durable.
fn push_frame(
    bytes: &mut Vec<u8>,
    segment: &Header,
    at: Place,
    records: u32,
    payload: &[u8],
    timestamp_ms: i64,
) -> Place {
    let header = FrameHeader {
        // A part of a payload, and those are at most 1 GiB.
        payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        payload_crc: crc::crc32c(payload),
        records,
        unsynced_before: 0,
        first: at.offset,
        timestamp_ms,
    };
    bytes.extend_from_slice(&header.encode(segment.salt, at.at));
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    Place { offset: header.next(), at: at.at.plus(header.frame_bytes()) }
}
