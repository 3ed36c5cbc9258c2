//! Spare files: what is to become the next segment.
//!
//! A spare is made new, with its room reserved, or kept from a segment that was trimmed. Writing
//! into a kept file changes neither its size nor its extents, so a sync of it has only data to
//! bring to the disk. It still holds its former life's bytes: the next segment's header says how far
//! (`crate::segment`), and recovery reads over them (`crate::recovery`).
//!
//! A file is kept only when this handle made its segment and nobody else holds it, when no sync of it ever
//! failed, when its size is about right, when the disk has room to spare, and after its old name is durably
//! gone: a segment's bytes may be overwritten only when no power cut brings the segment back. What was
//! found when the log was opened may be held by readers of a handle that has ended.
//!
//! All names end in [`UNFINISHED_SUFFIX`]; what bears one is removed when the log is opened. They hold a
//! number that is each handle's own: one that was ended by a cut may still be making a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{File, Host, OpenMode};

use crate::core::{Core, lock};
use crate::index_file;
use crate::mutation::{Step, left_out};
use crate::segment::Segment;

/// Ends the names of files that are not yet what they will be; removed when the log is opened.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";
/// A disk that cannot give even this much for a segment is full.
const RESERVE_BYTES_MIN: u64 = 256 << 10;
/// A file is kept only while the disk has room for so many more: else its room is what is wanted.
const ROOM_FOR_MORE: u64 = 4;

/// A file that is to become a segment.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    /// Room in it.
    pub(crate) bytes: u64,
    /// How much of it a former life wrote, at most.
    pub(crate) stale_bytes: u64,
}

/// The files that trimmed segments left for later ones.
#[derive(Debug)]
pub(crate) struct Spares {
    /// Random, so that no other handle gives the same names.
    life: u64,
    kept: Vec<Blank>,
    /// The first segment that this opening of the log began.
    own_from: u64,
    /// Names given to new files.
    named: u64,
    /// How often a kept file was used.
    pub(crate) reused: u64,
}

impl Spares {
    /// None yet, for a log in which this opening begins with segment `own_from`.
    pub(crate) fn new(own_from: u64, life: u64) -> Self {
        Self { own_from, life, kept: Vec::new(), named: 0, reused: 0 }
    }
}

impl Core {
    /// A file for the next segment: a kept one, or a new one with room for `bytes`.
    pub(crate) fn blank(&self, bytes: u64) -> io::Result<Blank> {
        if self.has_ended() {
            // Another handle may have taken over, and with it the disk's room.
            return Err(io::Error::other("the log has failed"));
        }
        let name = {
            let mut spares = lock(&self.spares);
            if let Some(mut kept) = spares.kept.pop() {
                spares.reused += 1;
                drop(spares);
                return match kept.extend(bytes) {
                    Ok(()) => Ok(kept),
                    Err(error) => {
                        discard(&self.host, kept);
                        Err(error)
                    }
                };
            }
            spares.named += 1;
            format!("next-{:016x}-{}", spares.life, spares.named)
        };
        make(&self.host, &self.dir, &name, bytes)
    }

    /// Takes a segment's name away: for another one if the file is worth keeping, else for good. Who
    /// may still read the segment needs its file held. `also` other files are about to be kept.
    pub(crate) fn park(&self, segment: &Segment, also: usize) -> io::Result<Option<Parked>> {
        index_file::remove(&self.host, segment);
        let Some(bytes) = self.keepable(segment, also) else {
            return remove_if_there(&self.host, &segment.path).map(|()| None);
        };
        let life = lock(&self.spares).life;
        let name = format!("spare-{life:016x}-{}{UNFINISHED_SUFFIX}", segment.header.number);
        let path = self.dir.join(name);
        match self.host.disk.rename(&segment.path, &path) {
            // A trim that failed after this renamed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        Ok(Some(Parked { path, bytes }))
    }

    /// The size of a file that is worth keeping.
    pub(crate) fn keepable(&self, segment: &Segment, also: usize) -> Option<u64> {
        let wanted = self.options.segment_bytes;
        let suspect = segment.is_suspect() && !left_out(Step::DropSuspectFile);
        let room = {
            let spares = lock(&self.spares);
            segment.header.number >= spares.own_from
                && spares.kept.len() + also < self.options.spare_files_max
        };
        if suspect || !room {
            return None;
        }
        let space = self.host.disk.space(&self.dir).ok()?;
        if space.available_bytes < wanted.saturating_mul(ROOM_FOR_MORE) {
            return None;
        }
        let size = segment.file().and_then(|file| file.size()).ok()?;
        (size <= wanted && size >= wanted - wanted / 4).then_some(size)
    }

    /// Keeps files whose old names are durably gone.
    pub(crate) fn keep(&self, blanks: impl IntoIterator<Item = Blank>) {
        for blank in blanks {
            let mut spares = lock(&self.spares);
            if spares.kept.len() < self.options.spare_files_max {
                spares.kept.push(blank);
            } else {
                drop(spares);
                discard(&self.host, blank);
            }
        }
    }

    /// Removes all kept files.
    pub(crate) fn discard_kept(&self) {
        let kept = std::mem::take(&mut lock(&self.spares).kept);
        kept.into_iter().for_each(|blank| discard(&self.host, blank));
    }
}

/// A trimmed segment's file under its new name.
#[derive(Debug)]
pub(crate) struct Parked {
    path: PathBuf,
    bytes: u64,
}

impl Parked {
    /// The file as one that may be overwritten, when nobody else holds its segment; else it goes.
    pub(crate) fn unless_held(self, core: &Core, segment: Arc<Segment>) -> Option<Blank> {
        let Self { path, bytes } = self;
        let file = Arc::try_unwrap(segment).ok().and_then(Segment::into_file);
        if file.is_none() {
            discard_file(&core.host, &path);
        }
        file.map(|file| Blank { path, file, bytes, stale_bytes: bytes })
    }
}

impl Blank {
    /// Makes room for `bytes` as far as there is any: what is missing is found when it is written.
    fn extend(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        match self.file.allocate(bytes) {
            Ok(()) => self.bytes = bytes,
            Err(error) if error.kind() == io::ErrorKind::Unsupported || is_no_space(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Makes a file with room reserved for `bytes`, as far as the file system can do that.
pub(crate) fn make(host: &Host, dir: &Path, name: &str, bytes: u64) -> io::Result<Blank> {
    let path = dir.join(format!("{name}{UNFINISHED_SUFFIX}"));
    remove_if_there(host, &path)?;
    let file = host.disk.open(&path, OpenMode::CreateNew)?;
    let blank = Blank { path, file, bytes, stale_bytes: 0 };
    match reserve(&*blank.file, bytes) {
        Ok(()) => Ok(blank),
        Err(error) => {
            discard(host, blank);
            Err(error)
        }
    }
}

/// Reserves room for `bytes`, or for as much of it as a nearly full disk gives.
///
/// What is not reserved is found when it is written to, and a write that finds no room is tried again;
/// so a disk with little room left still takes what fits.
pub(crate) fn reserve(file: &dyn File, bytes: u64) -> io::Result<()> {
    let mut bytes = bytes;
    while bytes > 0 {
        match file.allocate(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
            Err(error) if is_no_space(&error) && bytes / 2 >= RESERVE_BYTES_MIN => bytes /= 2,
            result => return result,
        }
    }
    Ok(())
}

/// Removes a blank; what cannot be removed now is removed when the log is opened again.
pub(crate) fn discard(host: &Host, blank: Blank) {
    discard_file(host, &blank.path);
}

/// [`discard`], of a blank whose name is all that is left.
pub(crate) fn discard_file(host: &Host, path: &Path) {
    if let Err(error) = host.disk.unlink(path) {
        tracing::debug!(path = %path.display(), %error, "an unused segment file stays for now");
    }
}

pub(crate) fn remove_if_there(host: &Host, path: &Path) -> io::Result<()> {
    match host.disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether an error means that there is no room.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
