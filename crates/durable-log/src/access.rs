//! How the file of a segment is looked at: its index, and its mapping where there is one.
//!
//! Both come into being when they are first needed and then stay with the segment. A segment that was
//! written since the log was opened has the index of its stretch; that of an older one is read
//! from its index file, or made again.

use std::io;
use std::sync::{Arc, OnceLock};

use host::File;

use crate::core::{Core, lock};
use crate::index::Index;
use crate::index_file;
use crate::mapped::Mapped;
use crate::options::Reads;
use crate::position::Location;
use crate::segment::{self, Place, Segment};
use crate::sync::Mutex;

/// What readers need of a segment.
#[derive(Debug, Default)]
pub(crate) struct Access {
    index: OnceLock<Arc<Index>>,
    /// Made from the segment's frames, because the other one was found to be wrong.
    rebuilt: OnceLock<Arc<Index>>,
    /// One at a time reads or makes the index.
    loading: Mutex<()>,
    mapped: OnceLock<Option<Mapped>>,
}

impl Access {
    /// Says that this is the index. The first call counts.
    pub(crate) fn set_index(&self, index: &Arc<Index>) {
        self.index.get_or_init(|| Arc::clone(index));
    }

    /// The mapping, if there is one by now.
    #[inline]
    pub(crate) fn is_mapped(&self) -> Option<&Mapped> {
        self.mapped.get()?.as_ref()
    }

    #[inline]
    fn index(&self) -> Option<&Index> {
        self.rebuilt.get().or_else(|| self.index.get()).map(|index| &**index)
    }
}

impl Core {
    /// The index of a segment.
    pub(crate) fn index_of<'s>(&self, segment: &'s Segment) -> io::Result<&'s Index> {
        match segment.access.index() {
            Some(index) => Ok(index),
            None => self.load_index(segment),
        }
    }

    #[cold]
    fn load_index<'s>(&self, segment: &'s Segment) -> io::Result<&'s Index> {
        let _one_at_a_time = lock(&segment.access.loading);
        if let Some(index) = segment.access.index() {
            return Ok(index);
        }
        // Segments that were found when the log was opened are sealed.
        let end = segment.end().unwrap_or(segment.header.base);
        let index = match index_file::read(&self.host, segment, end) {
            Some(index) => Arc::new(index),
            None => index_file::rebuild(&self.host, segment, end, segment.header.newest_ms)?,
        };
        Ok(segment.access.index.get_or_init(|| index))
    }

    /// The index of a segment in which `seen` led astray, made from its frames. `None` when `seen`
    /// was that already, or came from appends: then it is the segment that is damaged.
    #[cold]
    pub(crate) fn other_index<'s>(
        &self,
        segment: &'s Segment,
        seen: &Index,
    ) -> io::Result<Option<&'s Index>> {
        let _one_at_a_time = lock(&segment.access.loading);
        let current = segment.access.index().filter(|index| !std::ptr::eq(*index, seen));
        if current.is_some() || segment.access.rebuilt.get().is_some() {
            return Ok(current);
        }
        let Some(end) = segment.end() else { return Ok(None) };
        let index = index_file::rebuild(&self.host, segment, end, segment.header.newest_ms)?;
        Ok(Some(segment.access.rebuilt.get_or_init(|| index)))
    }

    /// Keeps the index of a segment that ended at `end` on the disk, if it has one.
    pub(crate) fn keep_index(&self, segment: &Segment, end: Place) {
        if let Some(index) = segment.access.index() {
            index_file::write(&self.host, segment, index, end);
        }
    }

    /// The segment's file as memory, if that is wanted and possible, readable up to `end`.
    #[inline]
    pub(crate) fn mapped<'s>(&self, segment: &'s Segment, end: Location) -> Option<&'s Mapped> {
        if self.options.reads == Reads::Copied {
            return None;
        }
        let mapped = match segment.access.mapped.get() {
            Some(mapped) => mapped.as_ref()?,
            None => map(segment)?,
        };
        mapped.extend(segment.position(end));
        Some(mapped)
    }
}

/// Maps the file, or notes that it cannot be mapped. That it cannot be opened is found again by who then
/// reads it.
#[cold]
fn map(segment: &Segment) -> Option<&Mapped> {
    let file = segment.file().ok()?;
    segment.access.mapped.get_or_init(|| map_file(segment, &*file)).as_ref()
}

fn map_file(segment: &Segment, file: &dyn File) -> Option<Mapped> {
    // The active segment gets more bytes; its stretch says how many at most.
    let growing = segment.access.index().map_or(0, Index::bytes_max);
    let frames = match segment.end() {
        Some(end) => end.at.get() - segment.header.base.at.get(),
        None => growing,
    };
    match file.map(segment::HEADER_BYTES as u64 + frames) {
        Ok(mapping) => Some(Mapped::new(mapping)),
        Err(error) => {
            tracing::debug!(segment = %segment.path.display(), %error, "the segment is read, not mapped");
            None
        }
    }
}
