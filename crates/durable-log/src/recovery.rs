//! Recovery: what is in a directory, what of it was promised, and what is cut.
//!
//! All segments are checked, the last one beyond its first bad frame too. Every frame says how far
//! the log was durable when it was built; the highest such claim found anywhere decides. Damage
//! below it is an error, and nothing on disk is changed. Damage at or above it is the torn end of
//! an append that nobody was promised: it is copied to `torn/` and cut, also when whole frames
//! follow it, as a power cut may leave them.
//!
//! Where records name files of somebody else's (`crate::before_sync`), an un-promised record whose files are not
//! whole ends the log as a torn one does.
//!
//! What is kept of the un-promised end is written again and synced before anybody hears of it,
//! because a sync that failed in an earlier life may have left it in the page cache alone. The
//! caller then begins a new segment (`crate::log`); its header makes the end found here a fact, so
//! that a recovery that crashed is repeated with the same result. Only then what is behind the end is
//! cut off: an opening that is refused, for whatever reason, has changed no segment.
//!
//! In `list`: which segments there are. In `check`: what they hold. In `torn`: the end.
//!
//! Who kept a landmark of the log (`crate::position`) vouches for the segments before the one that it lies in: they
//! were durable and had been checked, and are not checked again.
//!
//! An orderly close leaves a mark (`crate::marker`) with which all of this is skipped.

pub(crate) mod check;
mod list;
mod torn;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::before_sync::{self, BeforeSync};
use crate::error::OpenError;
use crate::files::Files;
use crate::marker::Marker;
use crate::mutation::{Step as LeftOut, left_out};
use crate::position::{Epoch, Landmark, Location};
use crate::recovery::check::Tail;
use crate::recovery::list::Found;
use crate::segment::{Header, Place, Segment};

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The log was closed in order, or is new: no frame was checked. Damage to what was closed in order is found
    /// by who reads it, and not by the opening.
    pub clean: bool,
    /// Records in the log.
    pub records: u64,
    /// Bytes of the log, frame headers included.
    pub bytes: u64,
    /// Segment files found.
    pub segments: u64,
    /// The end that nobody was promised and that was cut off.
    pub torn: Option<Torn>,
    /// The landmark that was given is one of this log, and all that was before it is there.
    pub reaches_landmark: bool,
}

/// A torn tail: bytes after the last good frame that were never promised.
#[derive(Clone, Debug)]
pub struct Torn {
    /// The segment that was cut.
    pub path: PathBuf,
    /// Where it was cut: bytes from the beginning of the file.
    pub at: u64,
    /// How many bytes were cut off, zeros at their end not counted.
    pub bytes: u64,
    /// The copy of the bytes; `None` when there was no room for one: then they stay where they
    /// were, never to be read.
    pub kept_as: Option<PathBuf>,
}

/// The segments of a log, all sealed, and the place where the next one begins.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: Place,
    pub(crate) next_number: u64,
    /// The epoch that begins now, or goes on after an orderly close.
    pub(crate) epoch: Epoch,
    /// No frame has a later time.
    pub(crate) newest_ms: i64,
    /// Files of segments that were trimmed before.
    pub(crate) leftovers: Vec<PathBuf>,
    /// The segment whose end is to be cut.
    cut: Option<(Arc<Segment>, Tail)>,
    pub(crate) report: Recovery,
}

impl Recovered {
    /// What opening finds in an empty directory.
    fn nothing(clean: bool, leftovers: Vec<PathBuf>) -> Self {
        let report = Recovery {
            clean,
            records: 0,
            bytes: 0,
            segments: 0,
            torn: None,
            reaches_landmark: false,
        };
        Self {
            segments: Vec::new(),
            end: Place::default(),
            next_number: 1,
            epoch: Epoch::FIRST,
            newest_ms: i64::MIN,
            leftovers,
            cut: None,
            report,
        }
    }

    /// Gives back what is behind the end. Called when the next segment is there, whose header says
    /// for good where the end is: until then nothing is cut, and a start that is refused changes no
    /// segment.
    pub(crate) fn cut(&mut self) {
        if let Some((segment, tail)) = self.cut.take() {
            torn::cut(&segment, &tail);
            segment.close_file();
        }
    }
}

/// Reads, checks and repairs the log in `dir`.
pub(crate) fn recover(
    files: &Arc<Files>,
    dir: &Path,
    asked: Option<&dyn BeforeSync>,
    landmark: Option<Landmark>,
) -> Result<Recovered, OpenError> {
    let host = &files.host;
    let Found { mut segments, leftovers, unfinished } = list::find(files, dir)?;
    let marker = Marker::read(host, dir)?;
    let Some(last) = segments.pop() else {
        return Ok(Recovered::nothing(marker.is_none(), leftovers));
    };
    let marker = marker.filter(|mark| {
        (mark.segment == last.header.number && mark.salt == last.header.salt)
            || left_out(LeftOut::CheckMarkedSegment)
    });
    let landmark = landmark.filter(|landmark| is_known(landmark, &segments, &last));
    let (end, newest_ms, tail) = match &marker {
        Some(marker) => (check::check_marked(&last, marker)?, marker.newest_ms, None),
        None => check_unmarked(&segments, &last, landmark, asked)?,
    };
    last.close_file();
    // Nothing was changed so far, and from here on nothing is refused.
    let last = match unfinished {
        Some(unfinished) => Arc::new(unfinished.finish(files, dir)?),
        None => last,
    };
    // Until all that is left of it is durable.
    last.hold_file().map_err(|source| io_error(&last, source))?;
    let torn = match &tail {
        Some(tail) => torn::repair(host, dir, &last, tail)?,
        None => None,
    };
    last.seal(end);
    let first = segments.first().map_or(last.header.base, |first| first.header.base);
    let report = Recovery {
        clean: marker.is_some(),
        records: end.offset - first.offset,
        bytes: end.at.get() - first.at.get(),
        segments: segments.len() as u64 + 1,
        torn,
        reaches_landmark: landmark.is_some_and(|landmark| landmark.next <= end.offset),
    };
    let newest_ms = newest_ms.max(last.header.newest_ms);
    // Without an orderly close, records may be gone that somebody saw.
    let same = marker.is_some() || left_out(LeftOut::RaiseEpoch);
    let epoch = if same { last.header.epoch } else { last.header.epoch.next() };
    let mut recovered = Recovered {
        segments,
        end,
        next_number: last.header.number + 1,
        epoch,
        newest_ms,
        leftovers,
        cut: None,
        report,
    };
    if end == last.header.base && recovered.report.torn.is_none() {
        // A segment in which nothing is gives its place to the next one, so that they do not pile up.
        recovered.next_number -= 1;
        return Ok(recovered);
    }
    let stays = recovered.report.torn.as_ref().is_some_and(|torn| torn.kept_as.is_none());
    recovered.cut = tail.filter(|_| !stays).map(|tail| (Arc::clone(&last), tail));
    if recovered.cut.is_none() {
        last.close_file();
    }
    recovered.segments.push(last);
    Ok(recovered)
}

/// The end of a log that was not closed in order, the latest time before it, and what is behind it.
fn check_unmarked(
    segments: &[Arc<Segment>],
    last: &Segment,
    landmark: Option<Landmark>,
    asked: Option<&dyn BeforeSync>,
) -> Result<(Place, i64, Option<Tail>), OpenError> {
    let mut tail = check::check_all(segments, last, landmark)?;
    if let Some(asked) = asked {
        before_sync::check_recovered(asked, last, &mut tail)?;
    }
    Ok((tail.end, tail.newest_ms, Some(tail)))
}

/// Whether the record before a landmark is one of these segments, as far as their headers, and their ends if they are
/// sealed, say.
fn is_known(landmark: &Landmark, segments: &[Arc<Segment>], last: &Arc<Segment>) -> bool {
    segments.iter().chain([last]).any(|segment| {
        let Header { number, salt, base, .. } = segment.header;
        ((number, salt) == (landmark.segment, landmark.salt) || left_out(LeftOut::CheckLandmark))
            && base.offset < landmark.next
            && segment.end().is_none_or(|end| landmark.next <= end.offset)
    })
}

fn size_of_file(segment: &Segment) -> Result<u64, OpenError> {
    segment.file().and_then(|file| file.size()).map_err(|source| io_error(segment, source))
}

pub(crate) fn io_error(segment: &Segment, source: io::Error) -> OpenError {
    OpenError::Io { path: segment.path.clone(), source }
}

fn damaged(segment: &Segment, at: Location, why: &str) -> OpenError {
    OpenError::Damaged { path: segment.path.clone(), at: segment.position(at), why: why.to_owned() }
}
