//! Following a log from another process: reading what is in its files while somebody else writes.
//!
//! A [`Follower`] takes no lock, changes nothing and is not known to the log. What it may rely on
//! (`docs/formats/log.md`):
//!
//! - A frame that passes its checks, with the salt of its segment and its own place in them, is
//!   what the log wrote there. Everything is copied out before it is checked, so it does not matter
//!   what becomes of the file meanwhile: a trimmed segment's file may be written over.
//! - A segment ends where the next one begins, and what lies before that is durable.
//! - A name that is gone, or stands for a segment with another salt, means that the log was trimmed,
//!   cut or opened anew. Then the place is looked for again, by offset, in what is there now.
//! - Records in a later epoch that begin below what was read already have replaced it. Where a later
//!   epoch began is known only while the segment before it is there; trimmed, it is taken to have been below.
//! - Numbers of segments that a cut removed are used again, in a higher epoch and newest last. So headers are read
//!   newest first: ones of before and after a cut then show as epochs that fall.
//!
//! Frames are read first and names looked at afterwards: what is handed out was in the log when it was
//! read, which is up to [`STEP_BYTES`] ahead.
//!
//! Bytes that are no good frame are usually an append that is under way. They are damage only when
//! something says that a record there was durable: a next segment, or a frame behind. The latter
//! is searched for when nothing new came for [`QUIET`], a piece at each look, so that no look takes long, and again
//! and again, but for [`QUIET_MAX`] after a search.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::{DirEntry, Host, Monotonic, OpenMode};

use crate::error::{FollowError, OpenError};
use crate::files::Files;
use crate::frame;
use crate::low_water::LowWater;
use crate::position::{Epoch, Location, Offset};
use crate::read::{Record, visit_records};
use crate::segment::{self, Header, Place, Segment};
use crate::walk::{Behind, Region, Step, Walker, search_through};

/// How much is read at once at most, unless a frame is longer.
const STEP_BYTES: u64 = 256 << 10;
/// How much is read at once when little came at a time: what follows frames may be a long stretch of zeros.
const STEP_BYTES_MIN: u64 = 4 << 10;
/// How often a directory that changes under us is read again at once.
const TRIES: u32 = 16;
/// When nothing new came for so long, and each time after twice as long, claims are searched for.
const QUIET: Duration = Duration::from_millis(100);
/// At the latest so long after a search comes the next one: however long the log was idle, damage to what comes then
/// is told of.
const QUIET_MAX: Duration = Duration::from_mins(1);

/// What comes next in a log that is followed.
#[derive(Clone, Copy, Debug)]
pub enum Followed<'a> {
    /// The next record. It was written; whether it is durable, [`Follower::durable`] says later.
    Record(Record<'a>),
    /// Nothing more yet.
    Nothing,
    /// Records from `to` on that were read are void: the log lost or cut them. What has their
    /// offsets now belongs to `epoch` and comes next.
    ///
    /// Where `to` is the log's first record, ones before it may be void as well: what could tell was trimmed.
    /// Then `to` may also be the very record that would have come next.
    Rewound {
        /// Offset of the record that comes next.
        to: Offset,
        /// The log's epoch from there on.
        epoch: Epoch,
    },
}

/// Reads a log that another process has open, in order, as it grows. Takes no lock and changes nothing.
///
/// It sees what was written out ([`crate::Log::write_out`], which every sync does), also before it is durable.
/// Nobody tells it that there is more: ask again after a while.
pub struct Follower {
    files: Arc<Files>,
    dir: PathBuf,
    /// Where the next frame is; `None` until it was looked for.
    here: Option<Here>,
    /// The record to hand out next; `None`: the first one there is.
    wanted: Option<Offset>,
    /// What was handed out is the log's as of this epoch.
    epoch: Option<Epoch>,
    /// A record before the wanted one was handed out, here or to who resumes.
    shown: bool,
    durable: Offset,
    batch: Batch,
    /// How much is read at once.
    step_bytes: u64,
    /// Since nothing new was found here.
    idle: Option<Idle>,
    // Kept for its memory.
    buffer: Vec<u8>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("dir", &self.dir)
            .field("next", &self.wanted)
            .field("epoch", &self.epoch)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// A place between two frames of an open segment.
#[derive(Debug)]
struct Here {
    segment: Segment,
    place: Place,
}

/// Waiting at a place.
#[derive(Debug)]
struct Idle {
    since: Monotonic,
    /// When claims are to be searched for next.
    search_due: Monotonic,
    /// What the search that is under way has still to look through, the last first.
    to_search: Vec<Range<Location>>,
}

impl Idle {
    /// Takes the next piece to search, if there is one.
    fn next_piece(&mut self) -> Option<Range<Location>> {
        let stretch = self.to_search.pop()?;
        let piece = stretch.start..stretch.end.min(stretch.start.plus(STEP_BYTES));
        if piece.end < stretch.end {
            self.to_search.push(piece.end..stretch.end);
        }
        Some(piece)
    }
}

/// Records that were read and not yet handed out.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    records: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    offset: Offset,
    at: Location,
    timestamp_ms: i64,
    epoch: Epoch,
    range: Range<usize>,
}

/// How far frames are good.
#[derive(Clone, Copy, Debug)]
struct Good {
    end: Place,
    /// What their claims say.
    durable: Offset,
    why: &'static str,
}

/// What the names say about a segment.
#[derive(Debug)]
enum Around {
    /// It is no longer part of the log, or things are changing.
    Gone,
    /// It is the last one.
    Last,
    /// It ends where this one begins.
    Before(Box<Segment>),
}

enum Turn {
    /// Something was read, or the place changed.
    Again,
    Nothing,
    Rewound(Offset, Epoch),
}

impl Follower {
    /// Begins at the first record that is there. A directory without a segment is a log that has not begun, and
    /// is waited for.
    ///
    /// # Errors
    ///
    /// [`FollowError::Unreadable`], for a directory that is not there, too: it is as likely misspelt as about to
    /// come. Who starts before the log does tries again.
    pub fn open(host: &Host, dir: &Path) -> Result<Self, FollowError> {
        let mut follower = Self {
            files: Files::new(host, 1),
            dir: dir.to_owned(),
            here: None,
            wanted: None,
            epoch: None,
            shown: false,
            durable: Offset::ZERO,
            batch: Batch::default(),
            step_bytes: STEP_BYTES_MIN,
            idle: None,
            buffer: Vec::new(),
        };
        follower.find()?;
        Ok(follower)
    }

    /// Goes to the record with this offset, whether it is there yet or not. An error shows in what follows.
    pub fn seek(&mut self, to: Offset) {
        self.go(Some(to), None);
    }

    /// As [`Follower::seek`], for who knows the epoch of the record before `to`: if the log lost that record
    /// meanwhile, [`Followed::Rewound`] comes first.
    pub fn resume(&mut self, epoch: Epoch, to: Offset) {
        self.go(Some(to), Some(epoch));
    }

    fn go(&mut self, wanted: Option<Offset>, epoch: Option<Epoch>) {
        self.here = None;
        self.batch.clear();
        (self.wanted, self.epoch, self.shown) = (wanted, epoch, epoch.is_some());
        self.idle = None;
    }

    /// Offset of the record that comes next.
    pub fn next_offset(&self) -> Offset {
        self.wanted.unwrap_or(Offset::ZERO)
    }

    /// Epoch of the record that was handed out last, or of the place that was gone to.
    pub fn epoch(&self) -> Epoch {
        self.epoch.unwrap_or(Epoch::FIRST)
    }

    /// All records below this are durable. Only later records tell it of the ones before them, or a mark that the
    /// committer leaves when the log is idle ([`sync_interval`](field@crate::Options::sync_interval)); an orderly
    /// close tells it nothing of the last ones.
    pub fn durable(&self) -> Offset {
        self.durable
    }

    /// The next record, if it is there.
    ///
    /// # Errors
    ///
    /// After any of them a later call tries again at the same place.
    pub fn read_next(&mut self) -> Result<Followed<'_>, FollowError> {
        let mut found = 0;
        loop {
            if let Some(held) = self.batch.take_from(self.next_offset()) {
                (self.wanted, self.shown) = (Some(held.offset + 1), true);
                let Held { offset, at, timestamp_ms, epoch, range } = held;
                let bytes = &self.batch.bytes[range];
                return Ok(Followed::Record(Record { offset, at, timestamp_ms, epoch, bytes }));
            }
            found += u32::from(self.here.is_none());
            if found > TRIES {
                // The directory keeps changing.
                return Ok(Followed::Nothing);
            }
            match self.turn()? {
                Turn::Again => {}
                Turn::Nothing => return Ok(Followed::Nothing),
                Turn::Rewound(to, epoch) => return Ok(Followed::Rewound { to, epoch }),
            }
        }
    }

    /// Reads on from here, or looks for the place. After an error there is no place, so that it is looked for.
    fn turn(&mut self) -> Result<Turn, FollowError> {
        let Some(here) = self.here.take() else { return self.find() };
        let mut good = self.read(&here, None)?;
        let mut around = self.around(&here.segment);
        if matches!(around, Around::Last) && good.end != here.place {
            // A cut that is under way has removed the segments behind it, and with them the word where this
            // one ends; when it is no longer under way, the names say so.
            around = if self.is_being_cut()? { Around::Gone } else { self.around(&here.segment) };
        }
        let base = match around {
            Around::Gone => return self.find(),
            Around::Before(next) if next.header.base.at <= here.place.at => {
                return self.cross(&here, *next);
            }
            Around::Before(next) => Some(next.header.base),
            Around::Last => None,
        };
        if let Some(base) = base {
            if good.end.at > base.at || good.end == here.place {
                good = self.read(&here, Some(base.at))?;
            }
            good.durable = good.durable.max(base.offset);
            if good.end == here.place {
                return self.bad(&here, here.place.at, good.why);
            }
            if good.end.at == base.at && good.end.offset != base.offset {
                let why = "the next segment does not begin with the next record";
                return self.bad(&here, base.at, why);
            }
        } else if good.end == here.place {
            return self.look_behind(here);
        }
        self.durable = self.durable.max(good.durable);
        self.idle = None;
        let all_good = 2 * (good.end.at.get() - here.place.at.get()) > self.step_bytes;
        let next_step = if all_good { 2 * self.step_bytes } else { STEP_BYTES_MIN };
        self.step_bytes = next_step.min(STEP_BYTES);
        self.here = Some(Here { place: good.end, ..here });
        Ok(Turn::Again)
    }

    /// Reads good frames from here on into the batch, at most up to `end`, which is durable.
    fn read(&mut self, here: &Here, end: Option<Location>) -> Result<Good, FollowError> {
        self.batch.clear();
        let segment = &here.segment;
        let io = |source| OpenError::Io { path: segment.path.clone(), source };
        let mut good = Good { end: here.place, durable: Offset::ZERO, why: "" };
        let header = first_header(segment, here.place.at).map_err(io)?;
        if header.is_none() && end.is_none() {
            return Ok(good);
        }
        let frame_bytes = header.map_or(0, |header| header.frame_bytes());
        let most = here.place.at.plus(frame_bytes.max(self.step_bytes));
        let end = end.map_or(most, |end| end.min(most));
        let source = |to: &mut [u8], at| segment.read_at(to, at);
        let Place { offset, at } = here.place;
        let buffer = std::mem::take(&mut self.buffer);
        let mut walker = Walker::new(&source, segment.header.salt, at, offset, end, buffer);
        loop {
            match walker.step().map_err(io)? {
                Step::Frame(frame) => {
                    good.durable = good.durable.max(frame.header.synced_through());
                    let _ = visit_records(&frame, segment.header.epoch, &mut |record| {
                        self.batch.hold(record);
                        ControlFlow::Continue(())
                    });
                }
                Step::End => break,
                Step::Bad(why) => {
                    good.why = why;
                    break;
                }
            }
        }
        good.end = Place { offset: walker.expect(), at: walker.at() };
        self.buffer = walker.into_buffer();
        Ok(good)
    }

    /// Goes on in the next segment, which begins at or before the place that was reached.
    fn cross(&mut self, here: &Here, next: Segment) -> Result<Turn, FollowError> {
        self.batch.clear();
        let Header { base, epoch, .. } = next.header;
        // The place may be one that was walked to again, below what was handed out.
        let replaces = base.at < here.place.at || self.shown && base.offset < self.next_offset();
        if replaces && epoch > here.segment.header.epoch {
            return Ok(self.rewind(next));
        }
        if base.at == here.place.at && base.offset != here.place.offset {
            let why = "the next segment does not begin with the next record";
            return self.bad(here, base.at, why);
        }
        // Beginning earlier in the same epoch, it holds again what a sync that failed may have lost.
        self.enter(next, here.place);
        Ok(Turn::Again)
    }

    fn enter(&mut self, segment: Segment, place: Place) {
        self.epoch = Some(segment.header.epoch);
        self.durable = self.durable.max(segment.header.base.offset);
        self.idle = None;
        self.here = Some(Here { segment, place });
    }

    /// Goes to where a segment of a later epoch begins, before what was handed out.
    fn rewind(&mut self, segment: Segment) -> Turn {
        let Header { base, epoch, .. } = segment.header;
        self.wanted = Some(base.offset);
        self.durable = base.offset;
        self.enter(segment, base);
        Turn::Rewound(base.offset, epoch)
    }

    /// What was durable here is not good: damage, unless the segment was removed meanwhile.
    fn bad(&mut self, here: &Here, at: Location, why: &str) -> Result<Turn, FollowError> {
        if matches!(self.around(&here.segment), Around::Gone) {
            return self.find();
        }
        let (path, at) = (here.segment.path.clone(), here.segment.position(at));
        Err(OpenError::Damaged { path, at, why: why.to_owned() }.into())
    }

    /// Stays here, and when that lasts looks for a frame behind that says that one was durable here.
    fn look_behind(&mut self, here: Here) -> Result<Turn, FollowError> {
        if self.is_claimed(&here)? {
            // What the claim speaks of was written before it. So it must be there now.
            let good = self.read(&here, Some(Location::new(segment::NUMBER_MAX)))?;
            self.batch.clear();
            if good.end == here.place {
                return self.bad(&here, here.place.at, good.why);
            }
        }
        self.here = Some(here);
        Ok(Turn::Nothing)
    }

    /// Whether a frame behind says that a record here was durable. Each call looks through one piece at most, if it is
    /// time for that.
    fn is_claimed(&mut self, here: &Here) -> Result<bool, OpenError> {
        let now = self.files.host.clock.monotonic();
        let fresh = || Idle { since: now, search_due: now + QUIET, to_search: Vec::new() };
        let idle = self.idle.get_or_insert_with(fresh);
        let segment = &here.segment;
        let io = |source| OpenError::Io { path: segment.path.clone(), source };
        if idle.to_search.is_empty() {
            if now < idle.search_due {
                return Ok(false);
            }
            idle.to_search = segment.written(here.place.at).map_err(io)?;
            idle.to_search.reverse();
        }
        let piece = idle.next_piece();
        if idle.to_search.is_empty() {
            idle.search_due = now + now.since(idle.since).min(QUIET_MAX);
        }
        let Some(piece) = piece else { return Ok(false) };
        let source = |to: &mut [u8], at| segment.read_at(to, at);
        let Header { salt, base, .. } = segment.header;
        let region = Region { salt, base: base.offset, stale_end: segment.stale_end() };
        let mut behind = Behind { synced_through: Offset::ZERO, end: piece.start };
        // A header may begin in this piece and end behind it.
        let piece = piece.start..piece.end.plus(frame::HEADER_BYTES as u64);
        search_through(&source, region, piece, &mut self.buffer, &mut behind).map_err(io)?;
        Ok(behind.synced_through > here.place.offset)
    }

    /// What the names say about a segment now.
    fn around(&self, segment: &Segment) -> Around {
        let Header { number, salt, .. } = segment.header;
        // Newest first: when this one is still there afterwards, the next one followed it.
        let next = self.segment(number + 1);
        match (self.segment(number), next) {
            (Ok(Some(same)), Ok(next)) if same.header.salt == salt => match next {
                Some(next) => Around::Before(Box::new(next)),
                None => Around::Last,
            },
            // Whatever it is, it shows again when the place is looked for.
            _ => Around::Gone,
        }
    }

    /// Opens a segment by its number; `None` when there is none, or its file is just becoming another one.
    fn segment(&self, number: u64) -> Result<Option<Segment>, OpenError> {
        let path = self.dir.join(segment::name(number));
        let file = match self.files.host.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        let header = segment::read_header(&path, &*file)?;
        Ok((header.number == number).then(|| Segment::new(&self.files, header, path, file)))
    }

    /// Looks for the place of the wanted record in what is there now.
    fn find(&mut self) -> Result<Turn, FollowError> {
        self.batch.clear();
        let mut headers = self.survey();
        for _ in 1..TRIES {
            if matches!(headers, Ok(Some(_))) {
                break;
            }
            headers = self.survey();
        }
        let Some(headers) = headers? else { return Ok(Turn::Nothing) };
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok(Turn::Nothing);
        };
        // Epochs only rise: the newest segment was removed for one that is about to come.
        if self.epoch.is_some_and(|epoch| epoch > last.epoch) {
            return Ok(Turn::Nothing);
        }
        let wanted = *self.wanted.get_or_insert(first.base.offset);
        let later = |header: &Header| self.epoch.is_some_and(|epoch| header.epoch > epoch);
        // The later epoch may have begun before the first segment.
        let unknown = wanted == first.base.offset && wanted > Offset::ZERO && self.shown;
        let replaced = match later(first) && unknown {
            true => Some(first),
            false => headers.iter().find(|header| later(header) && header.base.offset < wanted),
        };
        let Some(header) =
            replaced.or_else(|| headers.iter().rfind(|header| header.base.offset <= wanted))
        else {
            return Err(FollowError::Trimmed { start: first.base.offset });
        };
        match self.segment(header.number)? {
            Some(segment) if segment.header != *header => Ok(Turn::Nothing),
            None => Ok(Turn::Nothing),
            Some(segment) if replaced.is_some() => Ok(self.rewind(segment)),
            Some(segment) => {
                self.enter(segment, header.base);
                Ok(Turn::Again)
            }
        }
    }

    fn list(&self) -> Result<Vec<DirEntry>, OpenError> {
        let listed = self.files.host.disk.list(&self.dir);
        listed.map_err(|source| OpenError::Io { path: self.dir.clone(), source })
    }

    /// Whether the log's end was decided to be elsewhere and its segments do not all say so yet.
    fn is_being_cut(&self) -> Result<bool, OpenError> {
        Ok(self.list()?.iter().any(|entry| segment::cut_number(&entry.name).is_some()))
    }

    /// The headers of all segments; `None` when they changed meanwhile or are about to.
    fn survey(&self) -> Result<Option<Vec<Header>>, OpenError> {
        let from = LowWater::read(&self.files.host, &self.dir)?.map_or(0, |mark| mark.segment);
        let listed = self.list()?;
        if listed.iter().any(|entry| segment::cut_number(&entry.name).is_some()) {
            return Ok(None);
        }
        let names = listed.iter().map(|entry| &*entry.name);
        let mut numbers: Vec<u64> =
            names.filter_map(segment::number).filter(|number| *number >= from).collect();
        numbers.sort_unstable();
        let mut headers: Vec<Header> = Vec::with_capacity(numbers.len());
        for number in numbers.into_iter().rev() {
            let Some(Segment { header, .. }) = self.segment(number)? else { return Ok(None) };
            let follows = |next: &Header| number + 1 == next.number && header.epoch <= next.epoch;
            if !headers.last().is_none_or(follows) {
                return Ok(None);
            }
            headers.push(header);
        }
        headers.reverse();
        Ok(Some(headers))
    }
}

/// The header of the frame that begins at `at`, if one does.
fn first_header(segment: &Segment, at: Location) -> io::Result<Option<frame::Header>> {
    let mut bytes = [0; frame::HEADER_BYTES];
    match segment.file()?.read_exact_at(&mut bytes, segment.position(at)) {
        Ok(()) => Ok(frame::Header::decode(&bytes, segment.header.salt, at)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    fn hold(&mut self, record: Record<'_>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(record.bytes);
        let Record { offset, at, timestamp_ms, epoch, .. } = record;
        let range = begin..self.bytes.len();
        self.records.push_back(Held { offset, at, timestamp_ms, epoch, range });
    }

    /// The first record from `wanted` on.
    fn take_from(&mut self, wanted: Offset) -> Option<Held> {
        while let Some(held) = self.records.pop_front() {
            if held.offset >= wanted {
                return Some(held);
            }
        }
        None
    }
}
