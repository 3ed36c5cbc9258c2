//! Checking frames: what each segment holds, and up to where it was promised.
//!
//! Sealed segments are checked by several threads when there is much to check; the last one, whose end
//! is looked for, by the caller. Changes nothing.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;

use crate::core::lock;
use crate::error::OpenError;
use crate::frame;
use crate::marker::Marker;
use crate::mutation::{Step as LeftOut, left_out};
use crate::position::{Landmark, Location, Offset};
use crate::recovery::{damaged, io_error, size_of_file};
use crate::segment::{Place, Segment};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, spawn};
use crate::walk::{Region, Source, Step, Walker, search};

/// How closely the place of the highest claim is remembered.
const STEP_BYTES: u64 = 64 << 10;
/// Threads besides the caller.
const HELPERS: usize = 3;
/// Less than this is not worth a thread.
const BYTES_PER_HELPER_MIN: u64 = 8 << 20;

/// After an orderly close only sizes are checked: whether the frames are there is seen by who reads them.
pub(super) fn check_marked(last: &Segment, marker: &Marker) -> Result<Place, OpenError> {
    let base = last.header.base;
    if marker.end.at < base.at || marker.end.offset < base.offset {
        let why = "the log was closed before the place where this segment begins".to_owned();
        return Err(OpenError::Damaged { path: last.path.clone(), at: 24, why });
    }
    let bytes = marker.end.at.get() - base.at.get();
    if !frame::can_hold(bytes, marker.end.offset - base.offset) && !left_out(LeftOut::CheckFits) {
        let why = "the log was closed where no frame of this segment can end".to_owned();
        let at = last.position(marker.end.at);
        return Err(OpenError::Damaged { path: last.path.clone(), at, why });
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

/// Checks every frame of all segments, of which all but the last are sealed, from the one on in which the landmark
/// lies.
pub(super) fn check_all(
    segments: &[Arc<Segment>],
    last: &Segment,
    landmark: Option<Landmark>,
) -> Result<Tail, OpenError> {
    let first = landmark.map_or(0, |landmark| landmark.segment);
    let is_unchecked =
        |segment: &&Arc<Segment>| segment.end().is_some() && segment.header.number >= first;
    let sealed: Vec<_> = segments.iter().filter(is_unchecked).map(Arc::clone).collect();
    let bytes_of = |segment: &Arc<Segment>| {
        segment.end().map_or(0, |end| end.at.get() - segment.header.base.at.get())
    };
    let bytes: u64 = sealed.iter().map(bytes_of).sum();
    let helpers = usize::try_from(bytes / BYTES_PER_HELPER_MIN).unwrap_or(HELPERS).min(HELPERS);
    let work = Arc::new(Work { sealed, next: AtomicUsize::new(0), found: Mutex::new(None) });
    let helpers: Vec<_> = (0..helpers)
        .filter_map(|_| {
            let work = Arc::clone(&work);
            spawn("log-check", move || work.run()).ok()
        })
        .collect();
    let tail = check_tail(last);
    work.run();
    for helper in helpers {
        helper.join().unwrap_or_else(|panic| resume_unwind(panic));
    }
    match lock(&work.found).take() {
        Some((_, error)) => Err(error),
        None => tail,
    }
}

/// The sealed segments that are to be checked.
#[derive(Debug)]
struct Work {
    sealed: Vec<Arc<Segment>>,
    /// The first one that nobody has taken.
    next: AtomicUsize,
    /// The first one with an error.
    found: Mutex<Option<(usize, OpenError)>>,
}

impl Work {
    /// Checks until nothing is left or something is wrong.
    fn run(&self) {
        let mut buffer = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = self.sealed.get(index) else { return };
            let Some(end) = segment.end().filter(|_| !left_out(LeftOut::CheckSealed)) else {
                return;
            };
            let checked = check_sealed(segment, end, &mut buffer);
            segment.close_file();
            let Err(error) = checked else { continue };
            let mut found = lock(&self.found);
            if found.as_ref().is_none_or(|(first, _)| index < *first) {
                *found = Some((index, error));
            }
            return;
        }
    }
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
pub(crate) struct Tail {
    /// After the last good frame.
    pub(crate) end: Place,
    /// The latest time of its frames.
    pub(super) newest_ms: i64,
    /// All frames that end at or before this were durable.
    pub(crate) promised: Place,
    /// All records before this were durable; not before `promised`, and within a frame or two of it.
    pub(crate) known: Offset,
    /// After the last byte that is not zero and not of a former life.
    pub(super) used: Location,
    pub(super) size: u64,
}

/// Looks for the end of the last segment.
fn check_tail(segment: &Segment) -> Result<Tail, OpenError> {
    let source = source_of(segment);
    let base = segment.header.base;
    let size = size_of_file(segment)?;
    let file_end = segment.location(size);
    let written = segment.written(base.at).map_err(|source| io_error(segment, source))?;
    let mut claims = Claims::new(base);
    let mut walker =
        Walker::new(&source, segment.header.salt, base.at, base.offset, file_end, Vec::new());
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
    let mut behind = search(&source, &written, place, end.at, file_end, walker.into_buffer())
        .map_err(|source| io_error(segment, source))?;
    if left_out(LeftOut::CheckClaimsBehind) {
        behind.synced_through = Offset::ZERO;
    }
    if claims.highest.max(behind.synced_through) > end.offset && !left_out(LeftOut::CheckClaims) {
        return Err(damaged(segment, end.at, why));
    }
    claims.raise(behind.synced_through);
    let Claims { promised, highest: known, .. } = claims;
    Ok(Tail { end, newest_ms, promised, known, used: behind.end, size })
}

/// Follows the highest claim and, roughly, the place up to which it vouches.
#[derive(Debug)]
struct Claims {
    highest: Offset,
    promised: Place,
    /// Ends of frames above the claim, not all of them.
    open: VecDeque<Place>,
}

impl Claims {
    fn new(promised: Place) -> Self {
        Self { highest: promised.offset, promised, open: VecDeque::new() }
    }

    fn frame(&mut self, synced_through: Offset, end: Place) {
        let last = self.open.back().map_or(self.promised.at, |place| place.at);
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
            self.promised = place;
            self.open.pop_front();
        }
    }
}

fn source_of(segment: &Segment) -> Box<Source<'_>> {
    Box::new(|to, at| segment.read_at(to, at))
}
