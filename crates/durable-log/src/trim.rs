//! Trimming: removing whole segments from the beginning, by offset, age or size.
//!
//! One segment goes by its name alone. Of several names a power cut may keep any, so several go by a
//! low-water mark (`crate::low_water`) first; then their order does not matter and one sync of the
//! directory is enough. A disk without room for the mark has them go one by one. Readers that hold a
//! segment keep it: its file then only loses its name. Files that nobody holds become spares
//! (`crate::spare`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Core, lock};
use crate::error::TrimError;
use crate::log::Log;
use crate::low_water::LowWater;
use crate::mutation::{self, Step, left_out};
use crate::position::Offset;
use crate::segment::Segment;
use crate::spare::is_no_space;
use crate::sync::spawn;

/// A file system takes its time to free as much, longer than a thread takes to begin.
const MUCH_BYTES: u64 = 256 << 10;
/// As long it takes to free so many files, were they small: some 0.1 ms for each.
const MANY_FILES: usize = 2;
/// Files of smaller segments are not opened for a thread to close.
const CLOSED_LATER_BYTES_MIN: u64 = 16 << 10;
/// Most files that a trim keeps open for a thread to close.
const CLOSED_LATER_MAX: usize = 16;

/// What a log need not keep; see [`Log::retain`]. Without limits everything stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments that were ended so long ago go.
    pub max_age: Option<Duration>,
    /// The oldest segments go while the log's frames take more bytes than this.
    pub max_bytes: Option<u64>,
    /// Segments whose records all lie below this go.
    pub from: Option<Offset>,
}

impl Log {
    /// Removes all sealed segments whose records all lie below `before`; returns the new start.
    /// Durable on return. What readers hold stays readable. The active segment stays, however many of its
    /// records lie below: [`Log::roll`] seals it.
    ///
    /// # Errors
    ///
    /// After one, segments may be gone already; a later call goes on.
    pub fn trim(&self, before: Offset) -> Result<Offset, TrimError> {
        self.retain(&Retention { from: Some(before), ..Retention::default() })
    }

    /// Removes the oldest sealed segments for as long as one of the limits says that they may go;
    /// returns the new start. Durable on return. What readers hold stays readable.
    ///
    /// The active segment always stays: end it first with [`Log::roll`] or
    /// [`segment_age_max`](field@crate::Options::segment_age_max).
    ///
    /// # Errors
    ///
    /// After one, segments may be gone already; a later call goes on.
    pub fn retain(&self, retention: &Retention) -> Result<Offset, TrimError> {
        let core = self.core();
        let _one_at_a_time = lock(&core.trim);
        core.check_trim()?;
        let (end, now_ms) = (core.published.written_at(), core.now_ms());
        let segments = core.segments();
        let goes = |pair: &[Arc<Segment>]| {
            let (segment, next) = (&pair[0], &pair[1]);
            let bytes = end.get().saturating_sub(segment.header.base.at.get());
            let age_ms = u64::try_from(now_ms.saturating_sub(next.header.created_ms)).unwrap_or(0);
            retention.from.is_some_and(|from| next.header.base.offset <= from)
                || retention.max_bytes.is_some_and(|most| bytes > most)
                || retention.max_age.is_some_and(|most| Duration::from_millis(age_ms) >= most)
        };
        let count = segments.files.windows(2).take_while(|pair| goes(pair)).count();
        drop(segments);
        core.remove_oldest(count)?;
        Ok(core.start())
    }
}

impl Core {
    /// Removes so many segments, of which there are more. The caller holds the trim lock.
    ///
    /// The log is seen to begin later only once that is durable, or may be.
    fn remove_oldest(&self, count: usize) -> Result<(), TrimError> {
        match count {
            0 => Ok(()),
            1 => self.remove_one(),
            _ => self.remove_many(count),
        }
    }

    fn remove_one(&self) -> Result<(), TrimError> {
        let first = Arc::clone(&self.segments().files[0]);
        let io = |source| TrimError::Io { path: first.path.clone(), source };
        // Readers find it in the list until the name is durably gone.
        if !left_out(Step::HoldTrimmedFile) {
            first.hold_file().map_err(io)?;
        }
        let parked = self.park(&first, 0).inspect_err(|_| first.release_file()).map_err(io)?;
        mutation::sync_dir(Step::SyncTrim, &self.host, &self.dir)
            .map_err(|source| self.dir_error(source))?;
        drop(first);
        let removed = self.change_segments(|list| list.files.remove(0));
        match parked {
            Some(parked) => self.keep(parked.unless_held(self, removed)),
            None => let_go(vec![removed]),
        }
        Ok(())
    }

    fn remove_many(&self, count: usize) -> Result<(), TrimError> {
        let first = self.segments().files[count].header;
        let mark = LowWater { segment: first.number, first: first.base.offset };
        if !left_out(Step::LowWater) {
            match mark.write(&self.host, &self.dir) {
                Ok(()) => {}
                // A full disk has no room for the mark; one by one they go without it, and make some.
                Err(error) if is_no_space(&error) => {
                    return (0..count).try_for_each(|_| self.remove_one());
                }
                Err(source) => {
                    self.heed_mark(mark, count);
                    return Err(self.dir_error(source));
                }
            }
        }
        let removed =
            self.change_segments(|list| -> Vec<_> { list.files.drain(..count).collect() });
        let (mut blanks, mut gone) = (Vec::new(), Vec::new());
        for segment in removed {
            // What is open is closed by a thread, which then gives the room back; else it is given
            // back here.
            if segment.frames_bytes() >= CLOSED_LATER_BYTES_MIN
                && gone.len() < CLOSED_LATER_MAX
                && let Err(error) = segment.hold_file()
            {
                tracing::debug!(path = %segment.path.display(), %error, "a trimmed segment's file was not opened");
            }
            match self.park(&segment, blanks.len()) {
                Ok(Some(parked)) => blanks.extend(parked.unless_held(self, segment)),
                Ok(None) => gone.push(segment),
                Err(error) => {
                    // The mark says that it is gone; its file goes when the log is opened again.
                    tracing::warn!(path = %segment.path.display(), %error, "a trimmed segment's file stays for now");
                }
            }
        }
        mutation::sync_dir(Step::SyncTrimOfMany, &self.host, &self.dir)
            .map_err(|source| self.dir_error(source))?;
        // Only now no power cut gives the files their old names back.
        self.keep(blanks);
        let_go(gone);
        Ok(())
    }

    /// After an error while the mark was left: if it is there, it counts, though a power cut may take it
    /// back. What is below it keeps its files until the log is opened again.
    fn heed_mark(&self, mark: LowWater, count: usize) {
        if matches!(LowWater::read(&self.host, &self.dir), Ok(Some(found)) if found == mark) {
            self.change_segments(|list| drop(list.files.drain(..count)));
        }
    }

    /// A handle that has ended must not touch what another one may own.
    fn check_trim(&self) -> Result<(), TrimError> {
        self.progress().check_alive()
    }

    fn dir_error(&self, source: io::Error) -> TrimError {
        TrimError::Io { path: self.dir.clone(), source }
    }
}

/// Closes files that have no name any more. That frees their room and their pages, which takes
/// milliseconds for a large file and adds up for many small ones: a thread does it then, and nobody waits for it.
fn let_go(segments: Vec<Arc<Segment>>) {
    let bytes = || segments.iter().map(|segment| segment.frames_bytes());
    let files = bytes().filter(|bytes| *bytes >= CLOSED_LATER_BYTES_MIN).count();
    if files < MANY_FILES && bytes().sum::<u64>() < MUCH_BYTES {
        return;
    }
    if let Err(error) = spawn("log-trim", move || drop(segments)) {
        tracing::debug!(%error, "no thread to close trimmed files in; they were closed here");
    }
}
