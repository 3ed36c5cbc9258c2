//! Segment files: a header of 128 bytes, then frames without gaps.
//!
//! ```text
//!  0  8 bytes  magic "strndlog"
//!  8  u32      format version, 2
//! 12  u32      CRC-32C of bytes 0..12 and 16..128
//! 16  u64      number of this segment; also its name, 20 digits and ".seg"
//! 24  u64      offset of its first record
//! 32  u64      location of its first frame
//! 40  u64      salt of its frames' checksums
//! 48  i64      time of creation, milliseconds since 1970
//! 56  u64      epoch
//! 64  i64      no frame before this segment has a later time than this; i64::MIN if there is none
//! 72  u64      stale bytes: up to here the file may hold bytes of a former life; 0 in a new file
//! 80  48 bytes zeros
//! ```
//!
//! A segment is created under another name, synced, renamed and its directory synced, so a file
//! with a segment's name always has a whole header. It is created only when everything before its
//! first frame is durable; so the next segment's header says where this one ends, bytes after that
//! were never promised, damage before it is always damage, and all records below its base offset
//! are known to be durable. Numbers count up by one; epochs and times never go down.
//!
//! Not here: what lies in frames (`crate::frame`), where the file comes from (`crate::spare`).

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use host::{File, Host, OpenMode};

use crate::access::Access;
use crate::error::OpenError;
use crate::files::{FileRef, Files, SegmentFile};
use crate::frame::{self, u32_at, u64_at};
use crate::mutation::{self, Step, left_out};
use crate::position::{Epoch, Location, Offset};
use crate::seal::{self, Flaw};
use crate::spare::{self, Blank};
use crate::sync::atomic::{AtomicBool, Ordering};

pub(crate) const HEADER_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"strndlog";
pub(crate) const VERSION: u32 = 2;
/// Version 1 was never released, and is the only one whose header is shorter.
const SHORTER: (u32, usize) = (1, 64);
/// From here on the header is zeros.
const RESERVED_FROM: usize = 80;
/// Leaves room to add sizes without overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX / 4;

const SUFFIX: &str = ".seg";
const CUT_SUFFIX: &str = ".cut";
/// What is wrong with a segment whose frames end before its records do.
pub(crate) const ENDS_EARLY: &str = "the segment ends here, but not with its last record";
/// Gaps between what was written that are smaller are not worth telling.
const GAP_BYTES_MIN: u64 = 64 << 10;
/// What a segment is called before it is one, when its first file failed.
const SECOND_TRY: &str = "second-try";

/// A place between two frames, told both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: Offset,
    pub(crate) at: Location,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) base: Place,
    pub(crate) salt: u64,
    pub(crate) created_ms: i64,
    pub(crate) epoch: Epoch,
    /// No frame before this segment has a later time; `i64::MIN` when there is none.
    pub(crate) newest_ms: i64,
    /// Below this position the file may hold bytes that are not this segment's.
    pub(crate) stale_bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.offset.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base.at.get().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.salt.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.epoch.get().to_le_bytes());
        bytes[64..72].copy_from_slice(&self.newest_ms.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.stale_bytes.to_le_bytes());
        seal::seal(&mut bytes, MAGIC, VERSION);
        bytes
    }

    /// Of the beginning of a file, as much as there is of it.
    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged =
            |at, why: &str| OpenError::Damaged { path: path.to_owned(), at, why: why.to_owned() };
        check_version(path, bytes)?;
        let (number, offset, at) = (u64_at(bytes, 16), u64_at(bytes, 24), u64_at(bytes, 32));
        let (epoch, stale_bytes) = (u64_at(bytes, 56), u64_at(bytes, 72));
        let largest = number.max(offset).max(at).max(epoch).max(stale_bytes);
        if (largest > NUMBER_MAX || at % frame::ALIGN != 0) && !left_out(Step::CheckSegmentNumbers)
        {
            return Err(damaged(16, "the segment's header holds numbers that no log reaches"));
        }
        if let Some(at) = bytes[RESERVED_FROM..].iter().position(|byte| *byte != 0) {
            let at = (RESERVED_FROM + at) as u64;
            return Err(damaged(at, "the segment's header says something that no version says"));
        }
        Ok(Self {
            number,
            base: Place { offset: Offset::new(offset), at: Location::new(at) },
            salt: u64_at(bytes, 40),
            created_ms: u64_at(bytes, 48).cast_signed(),
            epoch: Epoch::new(epoch),
            newest_ms: u64_at(bytes, 64).cast_signed(),
            stale_bytes,
        })
    }
}

/// Sees whether a file begins with a whole header of this version.
fn check_version(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let (shorter, its_bytes) = SHORTER;
    let is_shorter = bytes.get(8..12).is_some_and(|_| u32_at(bytes, 8) == shorter);
    let len = if is_shorter { its_bytes } else { HEADER_BYTES };
    let believed = left_out(Step::CheckSegmentHeader);
    let checked = seal::check(&bytes[..len.min(bytes.len())], MAGIC, VERSION, believed);
    let why = match checked {
        Err(Flaw::Magic) => "this is not a log segment",
        Err(Flaw::Version(version)) if bytes.len() >= len => {
            let at = seal::VERSION_AT;
            return Err(OpenError::UnknownVersion { path: path.to_owned(), at, version });
        }
        _ if bytes.len() < len => "the file is shorter than a segment's header",
        Err(_) => "the segment's header does not match its checksum",
        Ok(()) => return Ok(()),
    };
    Err(OpenError::Damaged { path: path.to_owned(), at: 0, why: why.to_owned() })
}

/// A segment and its file, which is opened when it is needed.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    file: SegmentFile,
    /// Set once no more frames will be put there.
    sealed_at: OnceLock<Place>,
    /// A sync of it failed once.
    suspect: AtomicBool,
    pub(crate) access: Access,
}

impl Segment {
    /// A segment whose file is open, and stays so until it is released.
    pub(crate) fn new(
        files: &Arc<Files>,
        header: Header,
        path: PathBuf,
        file: Arc<dyn File>,
    ) -> Self {
        Self::with(header, path, SegmentFile::held(files, file))
    }

    fn with(header: Header, path: PathBuf, file: SegmentFile) -> Self {
        Self {
            header,
            path,
            file,
            sealed_at: OnceLock::new(),
            suspect: AtomicBool::new(false),
            access: Access::default(),
        }
    }

    /// A segment that exists, and the size of its file, which is open only for a look at its header.
    pub(crate) fn find(
        files: &Arc<Files>,
        path: &Path,
        number: u64,
    ) -> Result<(Self, u64), OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let file = files.host.disk.open(path, OpenMode::ReadWrite).map_err(io)?;
        let header = read_header(path, &*file)?;
        if header.number != number && !left_out(Step::CheckSegmentName) {
            let why = format!("the header belongs to segment {}", header.number);
            return Err(OpenError::Damaged { path: path.to_owned(), at: 16, why });
        }
        let size = file.size().map_err(io)?;
        Ok((Self::with(header, path.to_owned(), SegmentFile::closed(files)), size))
    }

    /// The segment's file. An error is that of opening it: it says nothing about the segment.
    #[inline]
    pub(crate) fn file(&self) -> io::Result<FileRef> {
        self.file.get(&|host| self.open(host))
    }

    /// Opens the file if need be, and keeps it open from now on: before the segment loses its name.
    pub(crate) fn hold_file(&self) -> io::Result<()> {
        self.file.hold(&|host| self.open(host))
    }

    /// The file may be closed when it is not used: nothing more is written to it.
    pub(crate) fn release_file(&self) {
        self.file.release();
    }

    /// Closes the file until it is needed again.
    pub(crate) fn close_file(&self) {
        self.file.close();
    }

    /// The file of a segment that nobody else has, if it is open.
    pub(crate) fn into_file(self) -> Option<Arc<dyn File>> {
        self.file.into_file()
    }

    #[cold]
    fn open(&self, host: &Host) -> io::Result<Arc<dyn File>> {
        let file = host.disk.open(&self.path, OpenMode::ReadWrite)?;
        let header = read_header(&self.path, &*file).map_err(|error| match error {
            OpenError::Io { source, .. } => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })?;
        if header == self.header || left_out(Step::CheckOpenedAgain) {
            return Ok(file);
        }
        let why = "the file is not the one that this segment had when the log was opened";
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// Bytes of its frames; 0 while it is written to.
    pub(crate) fn frames_bytes(&self) -> u64 {
        self.end().map_or(0, |end| end.at.get() - self.header.base.at.get())
    }

    /// Where in the file a location of this segment lies.
    pub(crate) fn position(&self, at: Location) -> u64 {
        at.get() - self.header.base.at.get() + HEADER_BYTES as u64
    }

    /// The location that lies at a position of the file after the header.
    pub(crate) fn location(&self, position: u64) -> Location {
        self.header.base.at.plus(position - HEADER_BYTES as u64)
    }

    /// From here on there are only zeros behind the frames, or the end of the file.
    pub(crate) fn stale_end(&self) -> Location {
        self.location(self.header.stale_bytes.max(HEADER_BYTES as u64))
    }

    /// Says that a sync of it failed.
    pub(crate) fn set_suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Whether a sync of it ever failed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(crate) fn read_at(&self, to: &mut [u8], at: Location) -> io::Result<usize> {
        self.file()?.read_at(to, self.position(at))
    }

    /// The stretches at or after `at`, which is not before the first frame, that were ever written to, in order and
    /// never empty; small gaps between them are added. Ask before reading: a file system may call what it
    /// read ahead written.
    pub(crate) fn written(&self, at: Location) -> io::Result<Vec<Range<Location>>> {
        let file = self.file()?;
        let mut stretches: Vec<Range<Location>> = Vec::new();
        let mut from = self.position(at);
        while let Some(found) = file.next_written(from)?.filter(|found| found.end > from) {
            let (start, end) = (self.location(found.start), self.location(found.end));
            match stretches.last_mut().filter(|last| start.get() - last.end.get() < GAP_BYTES_MIN) {
                Some(last) => last.end = end,
                None => stretches.push(start..end),
            }
            from = found.end;
        }
        Ok(stretches)
    }

    /// Where to begin in this segment, when its stretch's index says `place`.
    pub(crate) fn enter(&self, place: Option<Place>) -> Place {
        place.filter(|place| place.at >= self.header.base.at).unwrap_or(self.header.base)
    }

    /// Sees whether the records of a frame are such as the segment may hold.
    pub(crate) fn check_records(&self, header: &frame::Header) -> Result<(), &'static str> {
        match self.end() {
            Some(end) if header.next() > end.offset => {
                Err("the frame holds records that its segment does not hold")
            }
            _ => Ok(()),
        }
    }

    /// Where the segment ended, once it has.
    pub(crate) fn end(&self) -> Option<Place> {
        self.sealed_at.get().copied()
    }

    /// Says that the segment ends here. The first call counts.
    pub(crate) fn seal(&self, end: Place) {
        self.sealed_at.get_or_init(|| end);
    }
}

/// Reads and checks the header of a segment file.
pub(crate) fn read_header(path: &Path, file: &dyn File) -> Result<Header, OpenError> {
    let mut bytes = [0; HEADER_BYTES];
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(io)? {
            0 => break,
            n => filled += n,
        }
    }
    Header::decode(path, &bytes[..filled])
}

/// The file name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The file name of a segment that replaces all from its number on, until it has its own.
pub(crate) fn cut_name(number: u64) -> String {
    format!("{number:020}{CUT_SUFFIX}")
}

/// Gives a segment of which all is decided its own name. Those that it replaces were removed.
pub(crate) fn name_after_cut(host: &Host, dir: &Path, number: u64) -> io::Result<()> {
    // A later segment must not come back behind this one.
    mutation::sync_dir(Step::SyncBeforeNamingCut, host, dir)?;
    host.disk.rename(&dir.join(cut_name(number)), &dir.join(name(number)))?;
    host.disk.sync_dir(dir)
}

/// The number in a segment's file name; `None` for other files.
pub(crate) fn number(name: &str) -> Option<u64> {
    parse(name, SUFFIX)
}

/// The number in the file name of a segment that replaces others.
pub(crate) fn cut_number(name: &str) -> Option<u64> {
    parse(name, CUT_SUFFIX)
}

fn parse(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// Turns a blank into the segment that `header` describes, with what `fill` writes to it. All of
/// it is durable, and so is the name, on return; before that there is no segment.
///
/// A sync that fails is tried once more with another file: nothing was lost yet.
pub(crate) fn establish(
    files: &Arc<Files>,
    dir: &Path,
    blank: Blank,
    header: Header,
    bytes: u64,
    fill: &mut dyn FnMut(&Segment) -> io::Result<()>,
) -> io::Result<Segment> {
    let (host, path) = (&files.host, dir.join(name(header.number)));
    if left_out(Step::NameLast) {
        host.disk.rename(&blank.path, &path)?;
    }
    let (from, segment) = match write_whole(files, header, &path, &blank, bytes, fill) {
        Ok(segment) => (blank.path, segment),
        Err(error) => {
            spare::discard(host, blank);
            if spare::is_no_space(&error) {
                return Err(error);
            }
            tracing::warn!(path = %path.display(), %error, "a new segment could not be written; trying another file");
            let again = spare::make(host, dir, SECOND_TRY, bytes)?;
            match write_whole(files, header, &path, &again, bytes, fill) {
                Ok(segment) => (again.path, segment),
                Err(error) => {
                    spare::discard(host, again);
                    return Err(error);
                }
            }
        }
    };
    if !left_out(Step::NameLast) {
        host.disk.rename(&from, &path).inspect_err(|_| spare::discard_file(host, &from))?;
    }
    mutation::sync_dir(Step::SyncNameOfSegment, host, dir)?;
    Ok(segment)
}

/// Makes a blank the segment that `header` describes, with all its bytes durable and no name.
pub(crate) fn write_whole(
    files: &Arc<Files>,
    header: Header,
    path: &Path,
    blank: &Blank,
    bytes: u64,
    fill: &mut dyn FnMut(&Segment) -> io::Result<()>,
) -> io::Result<Segment> {
    if bytes > blank.bytes {
        spare::reserve(&*blank.file, bytes)?;
    }
    let header = Header { stale_bytes: blank.stale_bytes, ..header };
    let segment = Segment::new(files, header, path.to_owned(), Arc::clone(&blank.file));
    let file = &blank.file;
    file.write_all_at(&header.encode(), 0)?;
    fill(&segment)?;
    mutation::sync_data(Step::SyncNewSegment, &**file)?;
    Ok(segment)
}
