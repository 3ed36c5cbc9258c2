//! Which segments a log has: names, the low-water mark, and a cut of the end that was not finished.
//!
//! Reads headers only and changes nothing, but for [`Unfinished::finish`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::Host;

use crate::error::OpenError;
use crate::files::Files;
use crate::frame;
use crate::low_water::LowWater;
use crate::mutation::{Step as LeftOut, left_out};
use crate::segment::{self, Segment};
use crate::spare;

/// What is there.
#[derive(Debug)]
pub(super) struct Found {
    /// In order, without gaps; all but the last are sealed.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Files of segments that were trimmed.
    pub(super) leftovers: Vec<PathBuf>,
    pub(super) unfinished: Option<Unfinished>,
}

/// A cut of the log's end that was decided and not finished: the last segment has not its own name
/// yet, and those that it replaces are still there.
#[derive(Debug)]
pub(super) struct Unfinished {
    number: u64,
    /// Newest first.
    replaced: Vec<PathBuf>,
}

impl Unfinished {
    /// Removes what was cut and gives the last segment its name; returns that segment anew.
    pub(super) fn finish(self, files: &Arc<Files>, dir: &Path) -> Result<Segment, OpenError> {
        let host = &files.host;
        let finish = || {
            for path in &self.replaced {
                spare::remove_if_there(host, path)?;
            }
            segment::name_after_cut(host, dir, self.number)
        };
        finish().map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let path = dir.join(segment::name(self.number));
        Segment::find(files, &path, self.number).map(|(segment, _)| segment)
    }
}

/// The numbers in the names.
struct Names {
    /// Ascending.
    numbers: Vec<u64>,
    cut: Option<u64>,
}

fn names(host: &Host, dir: &Path) -> Result<Names, OpenError> {
    let entries =
        host.disk.list(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let mut numbers: Vec<u64> =
        entries.iter().filter_map(|entry| segment::number(&entry.name)).collect();
    numbers.sort_unstable();
    let mut cuts = entries.iter().filter_map(|entry| segment::cut_number(&entry.name));
    let cut = cuts.next();
    if let Some(second) = cuts.next() {
        let path = dir.join(segment::cut_name(second));
        let why = "the end of the log was cut twice at once".to_owned();
        return Err(OpenError::Damaged { path, at: 0, why });
    }
    Ok(Names { numbers, cut })
}

/// Finds all segments and checks that each begins where the one before it may end.
pub(super) fn find(files: &Arc<Files>, dir: &Path) -> Result<Found, OpenError> {
    let host = &files.host;
    let Names { mut numbers, cut } = names(host, dir)?;
    let unfinished = cut.map(|number| {
        let first = numbers.partition_point(|other| *other < number);
        let replaced = numbers.drain(first..).rev();
        let replaced = replaced.map(|number| dir.join(segment::name(number))).collect();
        numbers.push(number);
        Unfinished { number, replaced }
    });
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
    let segments = open_all(files, dir, &numbers, cut)?;
    if let (Some(mark), Some(first)) = (mark, segments.first()) {
        check_mark(dir, mark, first)?;
    }
    Ok(Found { segments, leftovers, unfinished })
}

fn open_all(
    files: &Arc<Files>,
    dir: &Path,
    numbers: &[u64],
    cut: Option<u64>,
) -> Result<Vec<Arc<Segment>>, OpenError> {
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(numbers.len() + 1);
    let mut size_before = 0;
    for number in numbers {
        if let Some(before) = segments.last()
            && *number != before.header.number + 1
            && !left_out(LeftOut::CheckMissing)
        {
            let path = dir.join(segment::name(before.header.number + 1));
            let why = "this segment is missing".to_owned();
            return Err(OpenError::Damaged { path, at: 0, why });
        }
        let is_cut = cut == Some(*number);
        let name = if is_cut { segment::cut_name(*number) } else { segment::name(*number) };
        let (next, size) = Segment::find(files, &dir.join(name), *number)?;
        if let Some(before) = segments.last() {
            check_joint(before, size_before, &next)?;
            before.seal(next.header.base);
        }
        size_before = size;
        segments.push(Arc::new(next));
    }
    Ok(segments)
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

/// Checks that `next` begins at a place that lies in `before`, whose file has that size.
fn check_joint(before: &Segment, size: u64, next: &Segment) -> Result<(), OpenError> {
    let (from, to) = (before.header.base, next.header.base);
    if (to.at < from.at || to.offset < from.offset) && !left_out(LeftOut::CheckJoint) {
        let why = format!("it begins at offset {}, before the segment that it follows", to.offset);
        return Err(OpenError::Damaged { path: next.path.clone(), at: 24, why });
    }
    if !frame::can_hold(to.at.get() - from.at.get(), to.offset - from.offset)
        && !left_out(LeftOut::CheckFits)
    {
        let why = format!("it begins at offset {}, with too few bytes before it", to.offset);
        return Err(OpenError::Damaged { path: next.path.clone(), at: 24, why });
    }
    let (from, to) = (&before.header, &next.header);
    if (to.epoch < from.epoch || to.newest_ms < from.newest_ms) && !left_out(LeftOut::CheckEpoch) {
        let why =
            format!("its epoch {} or its time is before that of segment {}", to.epoch, from.number);
        return Err(OpenError::Damaged { path: next.path.clone(), at: 56, why });
    }
    let to = next.header.base;
    if size < before.position(to.at) && !left_out(LeftOut::CheckSealedSize) {
        let why = format!(
            "the file ends here, but its segment goes on to byte {}",
            before.position(to.at)
        );
        return Err(OpenError::Damaged { path: before.path.clone(), at: size, why });
    }
    Ok(())
}
