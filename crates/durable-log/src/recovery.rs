//! Recovery: what is in a directory, what of it was promised, and what is cut.
//!
//! All segments are checked, the last one beyond its first bad frame too. Every frame says how far
//! the log was durable when it was built; the highest such claim found anywhere decides. Damage
//! below it is an error, and nothing on disk is changed. Damage at or above it is the torn end of
//! an append that nobody was promised: it is copied to `torn/` and cut, also when whole frames
//! follow it, as a power cut may leave them.
//!
//! What is kept of the un-promised end is written again and synced before anybody hears of it,
//! because a sync that failed in an earlier life may have left it in the page cache alone. The
//! caller then begins a new segment (`crate::log`); its header makes the end found here a fact, so
//! that a recovery that crashed is repeated with the same result.
//!
//! An orderly close leaves a mark (`crate::marker`) with which all of this is skipped.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::low_water::LowWater;
use crate::marker::Marker;
use crate::mutation::{self, Step as LeftOut, left_out};
use crate::position::{Epoch, Location, Offset};
use crate::segment::{self, Place, Segment};
use crate::spare;
use crate::walk::{Region, Source, Step, Walker, search};

const TORN_DIR: &str = "torn";
const COPY_BYTES: usize = 1 << 20;
/// How closely the place of the highest claim is remembered.
const STEP_BYTES: u64 = 64 << 10;

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The log was closed in order, so its frames were not checked again.
    pub clean: bool,
    /// Records in the log.
    pub records: u64,
    /// Bytes of the log, frame headers included.
    pub bytes: u64,
    /// Segment files found.
    pub segments: u64,
    /// The end that nobody was promised and that was cut off.
    pub torn: Option<Torn>,
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
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) end: Place,
    pub(crate) next_number: u64,
    /// The epoch that begins now, or goes on after an orderly close.
    pub(crate) epoch: Epoch,
    /// No frame has a later time.
    pub(crate) newest_ms: i64,
    /// Files of segments that were trimmed before.
    pub(crate) leftovers: Vec<PathBuf>,
    pub(crate) report: Recovery,
}

/// Reads, checks and repairs the log in `dir`.
pub(crate) fn recover(host: &Host, dir: &Path) -> Result<Recovered, OpenError> {
    let (mut segments, leftovers) = open_segments(host, dir)?;
    let marker = Marker::read(host, dir)?;
    let Some(last) = segments.back() else {
        let report =
            Recovery { clean: marker.is_none(), records: 0, bytes: 0, segments: 0, torn: None };
        return Ok(Recovered {
            segments,
            end: Place::default(),
            next_number: 1,
            epoch: Epoch::FIRST,
            newest_ms: i64::MIN,
            leftovers,
            report,
        });
    };
    let last = Arc::clone(last);
    let marker = marker.filter(|mark| {
        (mark.segment == last.header.number && mark.salt == last.header.salt)
            || left_out(LeftOut::CheckMarkedSegment)
    });
    let (end, newest_ms, torn) = match &marker {
        Some(marker) => (check_marked(&last, marker)?, marker.newest_ms, None),
        None => check_all(host, dir, &segments)?,
    };
    // Without an orderly close, records may be gone that somebody saw.
    let epoch = if marker.is_some() || left_out(LeftOut::RaiseEpoch) {
        last.header.epoch
    } else {
        last.header.epoch.next()
    };
    last.seal(end);
    let first = segments.front().map_or(end, |first| first.header.base);
    let report = Recovery {
        clean: marker.is_some(),
        records: end.offset - first.offset,
        bytes: end.at.get() - first.at.get(),
        segments: segments.len() as u64,
        torn,
    };
    // A segment in which nothing is gives its place to the next one, so that they do not pile up.
    let mut next_number = last.header.number + 1;
    if end == last.header.base && report.torn.is_none() {
        next_number -= 1;
        segments.pop_back();
    }
    let newest_ms = newest_ms.max(last.header.newest_ms);
    Ok(Recovered { segments, end, next_number, epoch, newest_ms, leftovers, report })
}

/// Opens all segments and checks that each begins where the one before it may end.
fn open_segments(
    host: &Host,
    dir: &Path,
) -> Result<(VecDeque<Arc<Segment>>, Vec<PathBuf>), OpenError> {
    let names =
        host.disk.list(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|entry| segment::number(&entry.name)).collect();
    numbers.sort_unstable();
    let mark = LowWater::read(host, dir)?;
    let trimmed = mark.map_or(0, |mark| numbers.partition_point(|number| *number < mark.segment));
    if let Some(mark) = mark
        && trimmed == numbers.len()
        && !left_out(LeftOut::CheckFirstMissing)
    {
        let why =
            format!("it says that the log begins with segment {}, which is missing", mark.segment);
        return Err(LowWater::does_not_fit(dir, why));
    }
    let leftovers =
        numbers.drain(..trimmed).map(|number| dir.join(segment::name(number))).collect();
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::with_capacity(numbers.len() + 1);
    for number in numbers {
        if let Some(before) = segments.back()
            && number != before.header.number + 1
            && !left_out(LeftOut::CheckMissing)
        {
            let path = dir.join(segment::name(before.header.number + 1));
            return Err(OpenError::Damaged {
                path,
                at: 0,
                why: "this segment is missing".to_owned(),
            });
        }
        let next = Segment::open(host, dir, number)?;
        if let Some(before) = segments.back() {
            check_joint(before, &next)?;
            before.seal(next.header.base);
        }
        segments.push_back(Arc::new(next));
    }
    if let (Some(mark), Some(first)) = (mark, segments.front()) {
        check_mark(dir, mark, first)?;
    }
    Ok((segments, leftovers))
}

/// Checks that the first segment that is there is the one that the mark speaks of, or a later one.
fn check_mark(dir: &Path, mark: LowWater, first: &Segment) -> Result<(), OpenError> {
    let (number, offset) = (first.header.number, first.header.base.offset);
    let fits = if number == mark.segment { offset == mark.first } else { offset >= mark.first };
    if fits || left_out(LeftOut::CheckLowWaterFits) {
        return Ok(());
    }
    let why = format!(
        "it says that segment {} begins at offset {}, but segment {number} begins at {offset}",
        mark.segment, mark.first
    );
    Err(LowWater::does_not_fit(dir, why))
}

/// Checks that `next` begins at a place that lies in `before`.
fn check_joint(before: &Segment, next: &Segment) -> Result<(), OpenError> {
    let (from, to) = (before.header.base, next.header.base);
    if (to.at < from.at || to.offset < from.offset) && !left_out(LeftOut::CheckJoint) {
        let why = format!("it begins at offset {}, before the segment that it follows", to.offset);
        return Err(OpenError::Damaged { path: next.path.clone(), at: 24, why });
    }
    let (from, to) = (&before.header, &next.header);
    if (to.epoch < from.epoch || to.newest_ms < from.newest_ms) && !left_out(LeftOut::CheckEpoch) {
        let why =
            format!("its epoch {} or its time is before that of segment {}", to.epoch, from.number);
        return Err(OpenError::Damaged { path: next.path.clone(), at: 56, why });
    }
    let to = next.header.base;
    let size = size_of_file(before)?;
    if size < before.position(to.at) && !left_out(LeftOut::CheckSealedSize) {
        let why = format!(
            "the file ends here, but its segment goes on to byte {}",
            before.position(to.at)
        );
        return Err(OpenError::Damaged { path: before.path.clone(), at: size, why });
    }
    Ok(())
}

/// After an orderly close only sizes are checked.
fn check_marked(last: &Segment, marker: &Marker) -> Result<Place, OpenError> {
    let base = last.header.base;
    if marker.end.at < base.at || marker.end.offset < base.offset {
        let why = "the log was closed before the place where this segment begins".to_owned();
        return Err(OpenError::Damaged { path: last.path.clone(), at: 24, why });
    }
    let size = size_of_file(last)?;
    if size < last.position(marker.end.at) && !left_out(LeftOut::CheckMarkedSize) {
        let why = format!(
            "the file ends here, but the log was closed at {}",
            last.position(marker.end.at)
        );
        return Err(OpenError::Damaged { path: last.path.clone(), at: size, why });
    }
    Ok(marker.end)
}

/// Checks every frame; cuts what is torn.
fn check_all(
    host: &Host,
    dir: &Path,
    segments: &VecDeque<Arc<Segment>>,
) -> Result<(Place, i64, Option<Torn>), OpenError> {
    let mut buffer = Vec::new();
    let (mut end, mut newest_ms) = (Place::default(), i64::MIN);
    let mut torn = None;
    for segment in segments {
        match segment.end() {
            Some(_) if left_out(LeftOut::CheckSealed) => {}
            Some(sealed) => check_sealed(segment, sealed, &mut buffer)?,
            None => {
                let tail = check_tail(segment, &mut buffer)?;
                torn = repair(host, dir, segment, &tail)?;
                (end, newest_ms) = (tail.end, tail.newest_ms);
            }
        }
    }
    Ok((end, newest_ms, torn))
}

/// In a sealed segment everything was promised.
fn check_sealed(segment: &Segment, end: Place, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
    let source = source_of(segment);
    let base = segment.header.base;
    let mut walker = Walker::new(
        &source,
        segment.header.salt,
        base.at,
        base.offset,
        end.at,
        std::mem::take(buffer),
    );
    let bad = loop {
        match walker.step().map_err(|source| io_error(segment, source))? {
            Step::Frame(_) => {}
            Step::End => break None,
            Step::Bad(why) => break Some(why),
        }
    };
    let gap = (walker.expect() != end.offset && !left_out(LeftOut::CheckSealedEnd))
        .then_some("the next segment does not begin with the next record");
    match bad.or(gap) {
        None => {
            *buffer = walker.into_buffer();
            Ok(())
        }
        Some(why) => Err(damaged(segment, walker.at(), why)),
    }
}

/// What the last segment holds.
#[derive(Debug)]
struct Tail {
    /// After the last good frame.
    end: Place,
    /// The latest time of its frames.
    newest_ms: i64,
    /// All frames that end at or before this were durable.
    promised: Location,
    /// After the last byte that is not zero and not of a former life.
    used: Location,
    size: u64,
}

fn check_tail(segment: &Segment, buffer: &mut Vec<u8>) -> Result<Tail, OpenError> {
    let source = source_of(segment);
    let base = segment.header.base;
    let size = size_of_file(segment)?;
    let file_end = segment.location(size);
    let mut claims = Claims::new(base.offset, base.at);
    let mut walker = Walker::new(
        &source,
        segment.header.salt,
        base.at,
        base.offset,
        file_end,
        std::mem::take(buffer),
    );
    let mut newest_ms = i64::MIN;
    let why = loop {
        match walker.step().map_err(|source| io_error(segment, source))? {
            Step::Frame(frame) => {
                let end = Place {
                    offset: frame.header.next(),
                    at: frame.at.plus(frame.header.frame_bytes()),
                };
                newest_ms = newest_ms.max(frame.header.timestamp_ms);
                claims.frame(frame.header.synced_through(), end);
            }
            Step::End => break "the file ends",
            Step::Bad(why) => break why,
        }
    };
    let end = Place { offset: walker.expect(), at: walker.at() };
    let place =
        Region { salt: segment.header.salt, base: base.offset, stale_end: segment.stale_end() };
    let mut behind = search(&source, place, end.at, file_end, walker.into_buffer())
        .map_err(|source| io_error(segment, source))?;
    if left_out(LeftOut::CheckClaimsBehind) {
        behind.synced_through = Offset::ZERO;
    }
    if claims.highest.max(behind.synced_through) > end.offset && !left_out(LeftOut::CheckClaims) {
        return Err(damaged(segment, end.at, why));
    }
    claims.raise(behind.synced_through);
    Ok(Tail { end, newest_ms, promised: claims.promised, used: behind.end, size })
}

/// Follows the highest claim and, roughly, the place up to which it vouches.
#[derive(Debug)]
struct Claims {
    highest: Offset,
    promised: Location,
    /// Ends of frames above the claim, not all of them.
    open: VecDeque<Place>,
}

impl Claims {
    fn new(highest: Offset, promised: Location) -> Self {
        Self { highest, promised, open: VecDeque::new() }
    }

    fn frame(&mut self, synced_through: Offset, end: Place) {
        let last = self.open.back().map_or(self.promised, |place| place.at);
        if end.at.get() - last.get() >= STEP_BYTES {
            self.open.push_back(end);
        }
        self.raise(synced_through);
    }

    fn raise(&mut self, synced_through: Offset) {
        self.highest = self.highest.max(synced_through);
        while let Some(place) =
            self.open.front().copied().filter(|place| place.offset <= self.highest)
        {
            self.promised = place.at;
            self.open.pop_front();
        }
    }
}

/// Keeps torn bytes aside, cuts the segment at its end and makes what is left durable.
fn repair(
    host: &Host,
    dir: &Path,
    segment: &Segment,
    tail: &Tail,
) -> Result<Option<Torn>, OpenError> {
    let cut = segment.position(tail.end.at);
    let torn_bytes = tail.used.get() - tail.end.at.get();
    let torn = match torn_bytes {
        0 => None,
        bytes => {
            let kept_as = keep_aside(host, dir, segment, tail)?;
            tracing::warn!(
                segment = %segment.path.display(), at = cut, bytes, kept_as = ?kept_as,
                "cut an unreadable end off the log and kept it aside; nothing in the log says that it was durable"
            );
            Some(Torn { path: segment.path.clone(), at: cut, bytes, kept_as })
        }
    };
    if !left_out(LeftOut::WriteRecoveredAgain) {
        write_again(segment, tail.promised, tail.end.at)
            .map_err(|source| io_error(segment, source))?;
    }
    let stays = torn.as_ref().is_some_and(|torn| torn.kept_as.is_none());
    if tail.size > cut && !stays {
        segment.file.set_size(cut).map_err(|source| io_error(segment, source))?;
    }
    mutation::sync_data(LeftOut::SyncRecovered, &*segment.file)
        .map_err(|source| io_error(segment, source))?;
    Ok(torn)
}

/// Copies the torn bytes to a file of their own; `None` if there is no room for it.
fn keep_aside(
    host: &Host,
    dir: &Path,
    segment: &Segment,
    tail: &Tail,
) -> Result<Option<PathBuf>, OpenError> {
    let torn_dir = dir.join(TORN_DIR);
    let name = format!("{:020}-{}.torn", segment.header.number, segment.position(tail.end.at));
    let path = torn_dir.join(name);
    let copy = || -> io::Result<()> {
        host.disk.create_dir_all(&torn_dir)?;
        spare::remove_if_there(host, &path)?;
        let file = host.disk.open(&path, OpenMode::CreateNew)?;
        let start = tail.end.at;
        each_block(segment, start, tail.used, |block, at| {
            file.write_all_at(block, at.get() - start.get())
        })?;
        mutation::sync_data(LeftOut::SyncTornCopy, &*file)?;
        mutation::sync_dir(LeftOut::SyncNameOfTornCopy, host, &torn_dir)
    };
    match copy() {
        Ok(()) => Ok(Some(path)),
        Err(error) if spare::is_no_space(&error) => {
            tracing::warn!(path = %path.display(), "no room to keep the torn end of the log aside");
            Ok(None)
        }
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// Writes bytes over themselves, so that the next sync really puts them on the disk.
fn write_again(segment: &Segment, from: Location, to: Location) -> io::Result<()> {
    each_block(segment, from, to, |block, at| {
        segment.file.write_all_at(block, segment.position(at))
    })
}

fn each_block(
    segment: &Segment,
    from: Location,
    to: Location,
    mut visit: impl FnMut(&[u8], Location) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = from;
    let mut buffer =
        vec![0; COPY_BYTES.min(usize::try_from(to.get() - from.get()).unwrap_or(COPY_BYTES))];
    while at < to {
        let left = usize::try_from(to.get() - at.get()).unwrap_or(usize::MAX);
        let block_bytes = left.min(buffer.len());
        let block = &mut buffer[..block_bytes];
        segment.file.read_exact_at(block, segment.position(at))?;
        visit(block, at)?;
        at = at.plus(block.len() as u64);
    }
    Ok(())
}

fn source_of(segment: &Segment) -> Box<Source<'_>> {
    Box::new(|to, at| segment.read_at(to, at))
}

fn size_of_file(segment: &Segment) -> Result<u64, OpenError> {
    segment.file.size().map_err(|source| io_error(segment, source))
}

fn io_error(segment: &Segment, source: io::Error) -> OpenError {
    OpenError::Io { path: segment.path.clone(), source }
}

fn damaged(segment: &Segment, at: Location, why: &str) -> OpenError {
    OpenError::Damaged { path: segment.path.clone(), at: segment.position(at), why: why.to_owned() }
}
