//! What has to be durable before records are: files of somebody else's that they name.
//!
//! The log asks at every place that makes records durable, before it does: a sync of what was written
//! (`crate::commit`), a rescue (`crate::writer`), and an opening, for each record that it would keep although
//! nobody is known to have been promised it. So no durable position, and no claim in a frame, ever passes a record
//! whose files are not durable.
//!
//! Not here: what the files are.

use std::fmt;
use std::io;

use crate::core::Core;
use crate::error::{Ended, OpenError};
use crate::frame;
use crate::mutation::{Step as LeftOut, left_out};
use crate::position::Offset;
use crate::read::Record;
use crate::recovery::check::Tail;
use crate::recovery::io_error;
use crate::segment::{Place, Segment};
use crate::waiters::Woken;
use crate::walk::{Frame, Source, Step, Walker};

/// Makes durable what records need beside the log, and tells at an opening whether it is there.
///
/// Asked with locks of the log held and one question at a time: it must not call the log. Appends go on meanwhile.
pub trait BeforeSync: fmt::Debug + Send + Sync {
    /// Makes durable what the records below `end` need; what it made durable before it need not do again.
    ///
    /// # Errors
    ///
    /// Are final: the log becomes durable no further, and refuses everything until it is opened again.
    fn before_sync(&self, end: Offset) -> io::Result<()>;

    /// Whether all that a record needs is there, whole; makes it durable if so, also when an earlier process tried and
    /// failed. If not, the opening cuts off this record and all that follow, as the torn end of the log.
    ///
    /// Asked by an opening, in order, for the records that were not known to be durable. An opening that is
    /// interrupted asks again.
    ///
    /// # Errors
    ///
    /// The opening is refused.
    fn recovered(&self, record: &Record<'_>) -> io::Result<bool>;
}

impl Core {
    /// Asks before records below `end` become durable.
    pub(crate) fn before_sync(&self, end: Offset) -> io::Result<()> {
        self.options.before_sync.as_ref().map_or(Ok(()), |asked| asked.before_sync(end))
    }

    /// The same; after an error the log has failed, and whoever waits is woken when `woken` is dropped.
    pub(crate) fn ask_before_sync(&self, end: Offset, woken: &mut Woken) -> Result<(), Ended> {
        self.before_sync(end).map_err(|error| {
            self.progress().counts.failed_syncs += 1;
            let dir = self.dir.display();
            self.fail(format!("{dir}: what its records need is not durable: {error}"), woken)
        })
    }
}

/// Cuts off, of what nobody is known to have been promised, all from the first record on that needs what is not
/// there.
pub(crate) fn check_recovered(
    asked: &dyn BeforeSync,
    segment: &Segment,
    tail: &mut Tail,
) -> Result<(), OpenError> {
    if left_out(LeftOut::AskRecovered) {
        return Ok(());
    }
    let source: Box<Source<'_>> = Box::new(|to, at| segment.read_at(to, at));
    let Place { offset, at } = tail.promised;
    let salt = segment.header.salt;
    let mut walker = Walker::new(&source, salt, at, offset, tail.end.at, Vec::new());
    while let Step::Frame(frame) = walker.step().map_err(|source| io_error(segment, source))? {
        let is_promised = frame.header.next() <= tail.known;
        if !is_promised && !stays(asked, segment, &frame)? {
            tail.end = Place { offset: frame.header.first, at: frame.at };
            return Ok(());
        }
    }
    Ok(())
}

/// Whether all records of a frame can stay.
fn stays(asked: &dyn BeforeSync, segment: &Segment, frame: &Frame<'_>) -> Result<bool, OpenError> {
    let (mut rest, mut offset) = (frame.payload, frame.header.first);
    while let Some((bytes, after)) = frame::split_record(rest) {
        let begin = (frame.payload.len() - after.len() - bytes.len()) as u64;
        let at = frame.at.plus(frame::HEADER_BYTES as u64 + begin);
        let (timestamp_ms, epoch) = (frame.header.timestamp_ms, segment.header.epoch);
        let record = Record { offset, at, timestamp_ms, epoch, bytes };
        if !asked.recovered(&record).map_err(|source| io_error(segment, source))? {
            return Ok(false);
        }
        (rest, offset) = (after, offset + 1);
    }
    Ok(true)
}
