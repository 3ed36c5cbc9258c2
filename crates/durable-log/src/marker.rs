//! The mark of an orderly close: a file that says where the log ended, so that the next open need
//! not check every frame again.
//!
//! ```text
//!  0  8 bytes  magic "strndend"
//!  8  u32      format version, 2
//! 12  u32      CRC-32C of bytes 0..12 and 16..56
//! 16  u64      number of the last segment
//! 24  u64      salt of the last segment
//! 32  u64      offset after the last record
//! 40  u64      location after the last frame
//! 48  i64      no frame of the log has a later time than this; i64::MIN if there is none
//! ```
//!
//! Every open begins a new segment, so a mark counts only while the segment that it names is the
//! last one; an older mark that came back says nothing. A damaged mark is as good as none.

use std::io;
use std::path::Path;

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::frame::u64_at;
use crate::mutation::{self, Step, left_out};
use crate::position::{Location, Offset};
use crate::seal::{self, Flaw};
use crate::segment::{self, Place};
use crate::spare::{self, UNFINISHED_SUFFIX};

pub(crate) const NAME: &str = "clean";
const BYTES: usize = 56;
const MAGIC: [u8; 8] = *b"strndend";
pub(crate) const VERSION: u32 = 2;
/// Longer than any small file is or will be.
const SMALL_BYTES_MAX: usize = 4096;

/// Where a log ended when it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    pub(crate) end: Place,
    /// No frame of the log has a later time.
    pub(crate) newest_ms: i64,
}

impl Marker {
    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.end.offset.get().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.end.at.get().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.newest_ms.to_le_bytes());
        seal::seal(&mut bytes, MAGIC, VERSION);
        bytes
    }

    /// Leaves the mark, durably.
    pub(crate) fn write(&self, host: &Host, dir: &Path) -> io::Result<()> {
        replace(host, dir, NAME, &self.encode(), [Step::SyncMark, Step::SyncNameOfMark])
    }

    /// The mark in `dir`, if there is a whole one.
    pub(crate) fn read(host: &Host, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(NAME);
        let Some(bytes) = read_small(host, &path)? else { return Ok(None) };
        match Self::decode(&bytes) {
            Ok(mark) => Ok(Some(mark)),
            Err(Flaw::Version(version)) => {
                Err(OpenError::UnknownVersion { path, at: seal::VERSION_AT, version })
            }
            Err(Flaw::Magic | Flaw::Short | Flaw::Checksum) => Ok(None),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        seal::check(bytes, MAGIC, VERSION, left_out(Step::CheckMark))?;
        if bytes.len() != BYTES {
            return Err(Flaw::Short);
        }
        let largest = u64_at(bytes, 16).max(u64_at(bytes, 32)).max(u64_at(bytes, 40));
        if largest > segment::NUMBER_MAX {
            return Err(Flaw::Checksum);
        }
        let end =
            Place { offset: Offset::new(u64_at(bytes, 32)), at: Location::new(u64_at(bytes, 40)) };
        Ok(Self {
            segment: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
            end,
            newest_ms: u64_at(bytes, 48).cast_signed(),
        })
    }
}

/// The bytes of a small file, if it is there. Of one that is not small the first ones: they fit no checksum.
pub(crate) fn read_small(host: &Host, path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = match host.disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = vec![0; SMALL_BYTES_MAX];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(io)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Gives a small file these bytes, durably: after a power cut it has them or those that it had.
pub(crate) fn replace(
    host: &Host,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    [of_bytes, of_name]: [Step; 2],
) -> io::Result<()> {
    let unfinished = dir.join(format!("{name}{UNFINISHED_SUFFIX}"));
    spare::remove_if_there(host, &unfinished)?;
    let file = host.disk.open(&unfinished, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    mutation::sync_data(of_bytes, &*file)?;
    host.disk.rename(&unfinished, &dir.join(name))?;
    mutation::sync_dir(of_name, host, dir)
}
