//! The handle to an open log.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use host::{DirEntry, DirLock, Host};

use crate::chunk;
use crate::commit::{BATCH_CLASSES, Progress, Ticket};
use crate::committer::{Committer, StartError};
use crate::core::{Core, Published, SegmentList, lock};
use crate::error::{AppendError, OpenError, ReadError, SyncError, WriteError};
use crate::files::Files;
use crate::frame;
use crate::index_file;
use crate::marker::{self, Marker};
use crate::mutation::{self, Step};
use crate::options::Options;
use crate::position::{Epoch, Landmark, Location, Offset};
use crate::read::{RecordRef, Slice};
use crate::records::{self, Batch, Records};
use crate::recovery::{self, Recovered, Recovery};
use crate::segment::{self, Header, Segment};
use crate::spare::{self, Spares, UNFINISHED_SUFFIX};
use crate::sync::{Condvar, Mutex};
use crate::tail::{Payload, Tail};
use crate::wait::{Arrival, Reached, Room};
use crate::waiters::Woken;
use crate::writer::Writer;

const LOCK_NAME: &str = "lock";

/// A log that is open. Cheap to clone; all clones are one log.
///
/// Dropping the last clone without [`Log::close`] is like a crash of the process: what was not
/// written out is gone, and the next open checks everything.
#[derive(Clone)]
pub struct Log {
    core: Arc<Core>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.core.dir)
            .field("positions", &self.positions())
            .finish()
    }
}

/// Where an append went. It can be redeemed for durability, at no cost when it is not: awaited,
/// waited for, or turned into a [`Ticket`].
#[derive(Clone, Copy)]
pub struct Appended<'a> {
    /// Offset of the first record.
    pub first: Offset,
    /// One past the offset of the last record.
    pub next: Offset,
    /// First byte of the first record. Each further record begins four bytes after the end of the
    /// one before it.
    pub at: Location,
    log: &'a Log,
}

impl Appended<'_> {
    /// A promise to be told when the records are durable; see [`Log::ticket`].
    pub fn ticket(&self) -> Ticket {
        self.log.ticket(self.next)
    }

    /// Waits in this thread until the records are durable: [`Log::wait_synced`] with the end of this append.
    pub fn wait_synced(&self) -> Result<(), SyncError> {
        self.log.wait_synced(self.next)
    }
}

impl IntoFuture for Appended<'_> {
    type Output = Result<(), SyncError>;
    type IntoFuture = Ticket;

    fn into_future(self) -> Ticket {
        self.ticket()
    }
}

impl fmt::Debug for Appended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appended")
            .field("first", &self.first)
            .field("next", &self.next)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// How far the log is. All but `start` are exclusive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// First record that was not trimmed.
    pub start: Offset,
    /// In memory.
    pub appended: Offset,
    /// Handed to the operating system: survives the process.
    pub written: Offset,
    /// Synced: survives the power.
    pub durable: Offset,
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// Its number; never reused.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Offset of its first record.
    pub first: Offset,
    /// One past its last written record.
    pub next: Offset,
    /// Epoch of its records.
    pub epoch: Epoch,
    /// Bytes of its frames.
    pub bytes: u64,
    /// Whether it will get no more records.
    pub sealed: bool,
    /// Its first byte.
    pub begin: Location,
    /// One past its last written byte.
    pub end: Location,
}

/// Counters since the log was opened, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `append` and `append_parts`.
    pub appends: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes appended, frame headers and marks included.
    pub bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// How many syncs made durable at once 1 record, 2 to 3, 4 to 7, ...; the last class has all
    /// that are more.
    pub records_per_sync: [u64; BATCH_CLASSES],
    /// How often somebody waited: for a sync that another led, for an arrival, for room.
    pub waits: u64,
    /// Segments that took over the file of a trimmed one.
    pub recycled: u64,
    /// Bytes at the log's end that were cut when it was opened, because nobody was promised them and
    /// they could not be read.
    pub torn_bytes: u64,
    /// Segment files now.
    pub segments: u64,
    /// Bytes of frames in segment files now. Room that is reserved is not counted.
    pub segment_bytes: u64,
    /// Bytes appended and not yet durable.
    pub unsynced_bytes: u64,
}

impl Log {
    /// Opens the log in `dir`, or begins one there, and says what was found.
    ///
    /// Everything found is durable on return. Records that nobody was promised may be among it;
    /// from now on they are as good as any. Opening begins a new segment.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`] and [`OpenError::UnknownVersion`] leave the directory as it was.
    pub fn open(host: &Host, dir: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_or_begin(host, dir, options, None, None)
    }

    /// [`Log::open`] for who kept a [`Landmark`] of this log: after a crash, segments that end before the one that
    /// it lies in are not checked again. As after an orderly close, damage to them is found by who reads it.
    ///
    /// A landmark that does not fit the log changes nothing: then all is checked. [`Recovery::reaches_landmark`] says
    /// whether this is the log that it was taken in, with all that was before it.
    pub fn open_from(
        host: &Host,
        dir: &Path,
        options: Options,
        landmark: Option<Landmark>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_or_begin(host, dir, options, None, landmark)
    }

    /// Begins a log in `dir`, where there is none, whose first record will have the offset `first`: it goes on
    /// from a log that is kept elsewhere. Durable on return.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`] of the kind `AlreadyExists` when there is a log.
    pub fn create_at(
        host: &Host,
        dir: &Path,
        options: Options,
        first: Offset,
    ) -> Result<Self, OpenError> {
        Ok(Self::open_or_begin(host, dir, options, Some(first), None)?.0)
    }

    fn open_or_begin(
        host: &Host,
        dir: &Path,
        options: Options,
        first: Option<Offset>,
        landmark: Option<Landmark>,
    ) -> Result<(Self, Recovery), OpenError> {
        options.check()?;
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        host.disk.create_dir_all(dir).map_err(io)?;
        // The directory can be there without being durable, when the process that made it ended before
        // it synced the name; then nothing in it would be durable either.
        mutation::sync_dir(Step::SyncNameOfLog, host, parent(dir)).map_err(io)?;
        let Some(lock) = host.disk.lock(&dir.join(LOCK_NAME)).map_err(io)? else {
            return Err(OpenError::Locked { dir: dir.to_owned() });
        };
        Self::open_locked(host, dir, options, lock.into(), first, landmark)
    }

    /// Opens the log again in the directory that this handle has locked. This handle has ended.
    pub(crate) fn open_again(&self) -> Result<Self, OpenError> {
        let Core { host, dir, options, lock, .. } = &*self.core;
        Ok(Self::open_locked(host, dir, options.clone(), Arc::clone(lock), None, None)?.0)
    }

    fn open_locked(
        host: &Host,
        dir: &Path,
        options: Options,
        lock: Arc<dyn DirLock>,
        first: Option<Offset>,
        landmark: Option<Landmark>,
    ) -> Result<(Self, Recovery), OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let files = Files::new(host, options.open_files_max);
        // What a process that was killed left may be there and not be durable. Whatever is decided by a name
        // here, a cut above all, must still be so after a power cut.
        mutation::sync_dir(Step::SyncFound, host, dir).map_err(io)?;
        let asked = options.before_sync.as_deref();
        let mut recovered = recovery::recover(&files, dir, asked, landmark)?;
        if let Some(first) = first {
            if recovered.report.segments > 0 {
                return Err(io(std::io::ErrorKind::AlreadyExists.into()));
            }
            recovered.end.offset = first;
        }
        let active = begin(&files, dir, &options, &recovered)?;
        recovered.cut();
        recovered.segments.push(Arc::clone(&active));
        let Recovered { segments, end, report, leftovers, .. } = recovered;
        tidy(host, dir, &leftovers).map_err(io)?;
        let torn_bytes = report.torn.as_ref().map_or(0, |torn| torn.bytes);
        // As many chunks as may be in use at once, within reason.
        let pool_max =
            usize::try_from(options.unsynced_bytes_max).unwrap_or(usize::MAX) / chunk::CHUNK_BYTES;
        let Header { number, salt, newest_ms, epoch, .. } = active.header;
        let tail = Tail::new(end, salt, newest_ms, options.segment_bytes, pool_max.clamp(2, 4096))
            .with_age_max(options.segment_age_max());
        active.access.set_index(&tail.stretch().index);
        let core = Core {
            host: host.clone(),
            dir: dir.to_owned(),
            writer: Mutex::new(Writer::new(Arc::clone(tail.stretch()), end)),
            ring: Arc::clone(tail.ring()),
            sync: Mutex::default(),
            progress: Mutex::new(Progress::new(end, active, host.clock.monotonic())),
            segments: ArcSwap::from_pointee(SegmentList {
                files: segments,
                stretch: Arc::clone(tail.stretch()),
            }),
            changing_segments: Mutex::default(),
            tail: Mutex::new(tail),
            trim: Mutex::default(),
            spares: Mutex::new(Spares::new(number, host.random.next_u64())),
            files,
            committer_wanted: Condvar::new(),
            published: Published::new(end, epoch),
            torn_bytes,
            options,
            lock,
        };
        Ok((Self { core: Arc::new(core) }, report))
    }

    /// Appends records as one unit: after a crash either all of them are there or none.
    ///
    /// Copies into memory, never waits for a disk, and promises nothing yet: see
    /// [`Log::write_out`], [`Log::sync`] and [`Log::ticket`]. No records are a valid append that
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// All leave the log as it was. After [`AppendError::NoSpace`] a [`Log::write_out`] tries
    /// again; the committer does so by itself.
    pub fn append(&self, records: &[&[u8]]) -> Result<Appended<'_>, AppendError> {
        if records.is_empty() {
            return self.append_nothing();
        }
        self.put(Payload::Records(records))
    }

    /// Appends one record that is gathered from `parts`; otherwise as [`Log::append`].
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Appended<'_>, AppendError> {
        self.put(Payload::Parts(parts))
    }

    fn put(&self, payload: Payload<'_>) -> Result<Appended<'_>, AppendError> {
        let core = &*self.core;
        let (size, limit) = (payload.bytes(), core.options.append_bytes_max);
        let payload_bytes = u32::try_from(size).ok().filter(|bytes| *bytes <= limit);
        let payload_bytes =
            payload_bytes.ok_or_else(|| AppendError::TooLarge { size, limit: u64::from(limit) })?;
        let measured = payload.measure(payload_bytes, core.host.clock.wall_coarse().millis());
        let mut woken = Woken::default();
        let mut tail = core.tail_to_append();
        let durable = core.published.durable();
        let before = tail.unsynced_bytes();
        let Range { start: place, end: next } =
            tail.append(measured, durable, &|| core.host.random.next_u64())?;
        tail.appends.appends += 1;
        tail.appends.records += next.offset - place.offset;
        core.published.set_appended(next);
        tail.waiters.take_reached(next.offset, &mut woken);
        drop(tail);
        let after = before + (next.at.get() - place.at.get());
        let long = core.is_far_ahead(after, next.offset - durable)
            && !core.is_far_ahead(before, place.offset - durable);
        if before == 0 || long {
            core.note_unsynced(long);
        }
        Ok(self.appended(place, next.offset))
    }

    fn append_nothing(&self) -> Result<Appended<'_>, AppendError> {
        let tail = self.core.tail();
        if let Some(refusal) = &tail.refusal {
            return Err(refusal.clone());
        }
        let next = tail.next();
        Ok(self.appended(next, next.offset))
    }

    fn appended(&self, place: segment::Place, next: Offset) -> Appended<'_> {
        Appended { first: place.offset, next, at: frame::first_record(place.at), log: self }
    }

    /// Whether fewer than [`Options::unsynced_bytes_max`] bytes are unsynced. Also true when the
    /// log refuses appends, so that the writer hears of it.
    pub fn has_room(&self) -> bool {
        self.core.has_room()
    }

    /// Ready when [`Log::has_room`]. Without a committer it syncs in the first poll.
    pub fn room(&self) -> Room {
        Room::new(Arc::clone(&self.core))
    }

    /// [`Log::room`] for threads.
    pub fn wait_room(&self) {
        self.room().wait();
    }

    /// Hands everything that is appended now to the operating system, so that it survives the
    /// process; returns how far that is.
    pub fn write_out(&self) -> Result<Offset, WriteError> {
        self.core.write_out().map(|place| place.offset)
    }

    /// Makes everything that is appended now durable; returns how far that is. Concurrent callers
    /// share syncs.
    pub fn sync(&self) -> Result<Offset, SyncError> {
        self.core.sync_all()
    }

    /// A promise to be told when everything below `up_to` is durable. An `up_to` beyond what is
    /// appended now is cut to that.
    ///
    /// [`Ticket::wait`] waits in the calling thread, which leads a sync if nobody does. As a future
    /// it leaves that to the committer; without one its first poll syncs.
    pub fn ticket(&self, up_to: Offset) -> Ticket {
        Ticket::new(Arc::clone(&self.core), up_to)
    }

    /// Waits until everything below `up_to` is durable, in this thread, which leads the sync if
    /// nobody does. An `up_to` beyond what is appended now is cut to that.
    ///
    /// The same as [`Log::ticket`] and [`Ticket::wait`] at once. A ticket is for who goes on meanwhile, hands the
    /// wait to somebody else or awaits it; it is also told of every sync since it was made that found no room.
    /// [`Appended::wait_synced`] saves to name the end of an append.
    pub fn wait_synced(&self, up_to: Offset) -> Result<(), SyncError> {
        let published = &self.core.published;
        self.core.wait_synced(up_to.min(published.appended()), published.no_space())
    }

    /// A promise to be told when the record `offset` is so far; it need not be appended yet.
    pub fn wait_for(&self, offset: Offset, reached: Reached) -> Arrival {
        Arrival::new(Arc::clone(&self.core), offset, reached)
    }

    /// Starts a thread that syncs for futures, ahead of those who will wait, and what nobody waits
    /// for, as the options say; until the guard is dropped. Then another may be started.
    ///
    /// For programs that leave the thread to the log; [`Log::run_committer`] is for those that make, name and end
    /// their threads themselves. After [`Log::truncate_after`] the committer belongs to the handle that has ended
    /// and has nothing to do any more: drop its guard, and start one for the handle that was returned.
    ///
    /// # Errors
    ///
    /// A log has at most one committer; none after [`Log::stop_committer`], nor in a handle that
    /// [`Log::truncate_after`] replaced.
    pub fn start_committer(&self) -> Result<Committer, StartError> {
        Committer::start(self)
    }

    /// The body of the committer, for who has a thread for it; returns after
    /// [`Log::stop_committer`], and at once when there is a committer already. [`Log::start_committer`] has a
    /// thread of its own instead, and can be ended and started again.
    pub fn run_committer(&self) {
        self.core.run_committer();
    }

    /// Ends the committer for good, also one that begins later, and every [`Arrival`] whose record
    /// is not there yet.
    pub fn stop_committer(&self) {
        self.core.stop_committer();
    }

    /// How far the log is.
    pub fn positions(&self) -> Positions {
        // In this order each is at most the one read after it.
        let start = self.core.start();
        let durable = self.core.published.durable();
        let written = self.core.published.written();
        let appended = self.core.published.appended();
        Positions { start, appended, written, durable }
    }

    /// The epoch of what is appended now: no record that this log ever showed before has the same
    /// offset and the same epoch.
    pub fn epoch(&self) -> Epoch {
        self.core.published.epoch()
    }

    /// A range of bytes of one record, for who kept its location from [`Appended::at`], [`crate::Record::at`] or
    /// [`RecordRef::at`].
    ///
    /// Neither a checksum nor where records begin and end is looked at: any range of the log's bytes is given as
    /// it is, headers of frames included, and so is what the disk made of it. Who is to notice keeps a checksum
    /// in the record, or takes [`Log::read`].
    pub fn slice(&self, at: Location, len: u32) -> Result<Slice, ReadError> {
        self.core.slice(at, len)
    }

    /// One record, durable or not.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] names the file and the byte where the damage is, which can be a little
    /// before the record: all from the last entry of the index on is looked at.
    ///
    /// # Cost
    ///
    /// The record is looked for in its frame, which is one append, from the first on: in one of many records that
    /// takes time in proportion to those before it. With [`crate::Reads::Copied`] all of the frame is read and
    /// checked. To read many, take [`Log::iter`].
    #[inline]
    pub fn read(&self, offset: Offset) -> Result<RecordRef, ReadError> {
        self.core.read(offset)
    }

    /// Shows records in order from `from` on, durable or not; `from` may be the end of the log.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trimmed`] and [`ReadError::Beyond`] when `from` is not in the log.
    pub fn iter(&self, from: Offset) -> Result<Records, ReadError> {
        records::iter(&self.core, from)
    }

    /// Copies records from `from` on into `batch`, in place of what is there, and returns the offset
    /// after them. They have at most `bytes_max` bytes together, but there is at least one if there
    /// is one in the log.
    ///
    /// # Errors
    ///
    /// As [`Log::iter`] and [`Records::next`]. The records before the one that failed are in `batch`.
    pub fn read_batch(
        &self,
        from: Offset,
        bytes_max: usize,
        batch: &mut Batch,
    ) -> Result<Offset, ReadError> {
        records::read_batch(&self.core, from, bytes_max, batch)
    }

    /// The first record that was appended at `timestamp_ms` (milliseconds since 1970) or later, by the
    /// clock of then; `None` if there is none. Clocks go back: later records may be of earlier times.
    pub fn offset_at(&self, timestamp_ms: i64) -> Result<Option<Offset>, ReadError> {
        records::offset_at(&self.core, timestamp_ms)
    }

    /// Seals the active segment at what is appended now, makes it durable and begins the next one,
    /// so that all before it can be trimmed. Does nothing when the active segment is empty, nor in a log that was
    /// closed.
    pub fn roll(&self) -> Result<(), SyncError> {
        Ok(self.core.roll()?)
    }

    /// All segments, oldest first. The last one is the active one.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let written = self.core.progress().written;
        let segments = self.core.segments();
        let describe = |segment: &Arc<Segment>| describe(segment, segment.end().unwrap_or(written));
        segments.files.iter().map(describe).collect()
    }

    /// The place behind the record before `up_to`, to be kept beside what was made of the records before it, for
    /// [`Log::open_from`]. `None` when that record is not durable, or was trimmed.
    pub fn landmark(&self, up_to: Offset) -> Option<Landmark> {
        if up_to > self.core.published.durable() {
            return None;
        }
        let segments = self.core.segments();
        let holds = |segment: &&Arc<Segment>| segment.header.base.offset < up_to;
        let segment = segments.files.iter().rev().find(holds)?;
        let Header { number, salt, .. } = segment.header;
        Some(Landmark { next: up_to, segment: number, salt })
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        // Before the end, which never goes back: a trim in between leaves the first segment too early, not too late.
        let (segments, first) = {
            let segments = self.core.segments();
            let first = segments.files.first().map(|first| first.header.base);
            (segments.files.len() as u64, first)
        };
        let (counts, written) = {
            let progress = self.core.progress();
            (progress.counts, progress.written)
        };
        let first = first.unwrap_or(written);
        let tail = self.core.tail();
        Stats {
            appends: tail.appends.appends,
            records: tail.appends.records,
            bytes: tail.appends.bytes,
            syncs: counts.syncs,
            failed_syncs: counts.failed_syncs,
            records_per_sync: counts.records_per_sync,
            waits: counts.waits,
            recycled: lock(&self.core.spares).reused,
            torn_bytes: self.core.torn_bytes,
            segments,
            segment_bytes: written.at.get() - first.at.get(),
            unsynced_bytes: tail.unsynced_bytes(),
        }
    }

    /// Refuses further appends through any clone, makes everything durable and leaves a mark that
    /// lets the next open skip its checks.
    ///
    /// # Errors
    ///
    /// The log is closed to appends in any case; without the mark the next open checks everything.
    /// A [`Log::truncate_after`] through another clone may end this handle first: then the log goes on in
    /// the handle that it returned, and is not closed.
    pub fn close(self) -> Result<(), SyncError> {
        let core = &*self.core;
        core.refuse_appends();
        core.write_out()?;
        core.sync_all()?;
        let mut writer = core.writer();
        // A cut may have ended this handle while this waited; then the files are another one's.
        core.check_alive()?;
        core.discard_spare(&mut writer);
        let (active, end) = {
            let progress = core.progress();
            (Arc::clone(&progress.active), progress.durable)
        };
        core.cut_roomy(&mut writer);
        core.cut(&active, end);
        core.keep_index(&active, end);
        let newest_ms = core.tail().newest_ms();
        let mark =
            Marker { segment: active.header.number, salt: active.header.salt, end, newest_ms };
        let marked = mark.write(&core.host, &core.dir);
        marked.map_err(|error| {
            let why = format!("closing {}: {error}", core.dir.display());
            core.fail(why, &mut writer.woken).into()
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Whether storage failed, so that everything is refused until the log is opened again. A handle that
    /// [`Log::truncate_after`] replaced refuses everything, too, but has not failed.
    pub fn has_failed(&self) -> bool {
        self.core.has_ended() && !self.core.published.is_replaced()
    }
}

fn describe(segment: &Segment, end: segment::Place) -> SegmentInfo {
    let base = segment.header.base;
    SegmentInfo {
        number: segment.header.number,
        path: segment.path.clone(),
        first: base.offset,
        next: end.offset,
        epoch: segment.header.epoch,
        bytes: end.at.get() - base.at.get(),
        sealed: segment.end().is_some(),
        begin: base.at,
        end: end.at,
    }
}

/// The directory that holds the name of `dir`.
fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Begins the segment that this opening of the log writes to.
fn begin(
    files: &Arc<Files>,
    dir: &Path,
    options: &Options,
    found: &Recovered,
) -> Result<Arc<Segment>, OpenError> {
    let host = &files.host;
    let header = Header {
        number: found.next_number,
        base: found.end,
        salt: host.random.next_u64(),
        created_ms: host.clock.wall().millis(),
        epoch: found.epoch,
        newest_ms: found.newest_ms,
        stale_bytes: 0,
    };
    // A full disk is no reason not to open: then the room is found, or not, when it is written to.
    let segment = match spare::make(host, dir, "first", options.segment_bytes) {
        Err(error) if spare::is_no_space(&error) => spare::make(host, dir, "first", 0),
        result => result,
    }
    .and_then(|blank| segment::establish(files, dir, blank, header, 0, &mut |_| Ok(())));
    match segment {
        Ok(segment) => Ok(Arc::new(segment)),
        Err(error) if spare::is_no_space(&error) => Err(OpenError::NoSpace { dir: dir.to_owned() }),
        Err(source) => Err(OpenError::Io { path: dir.to_owned(), source }),
    }
}

/// Removes what an earlier life left behind: the mark of its close, trimmed segments, indexes of
/// segments that are gone, and unfinished files.
fn tidy(host: &Host, dir: &Path, leftovers: &[PathBuf]) -> std::io::Result<()> {
    spare::remove_if_there(host, &dir.join(marker::NAME))?;
    for path in leftovers {
        host.disk.unlink(path)?;
    }
    let entries = host.disk.list(dir)?;
    let is_there = |name: &str| entries.iter().any(|entry| entry.name == name);
    for DirEntry { name, .. } in &entries {
        let is_orphan =
            index_file::number(name).is_some_and(|number| !is_there(&segment::name(number)));
        if is_orphan || name.ends_with(UNFINISHED_SUFFIX) {
            // A handle that was ended by a cut may have removed its file meanwhile.
            spare::remove_if_there(host, &dir.join(name))?;
        }
    }
    mutation::sync_dir(Step::SyncTidy, host, dir)
}
