//! The low-water mark: which segment is the first, so that many can be trimmed at once.
//!
//! ```text
//!  0  8 bytes  magic "strndlow"
//!  8  u32      format version, 1
//! 12  u32      CRC-32C of bytes 0..12 and 16..32
//! 16  u64      number of the first segment that is still there
//! 24  u64      offset of its first record
//! ```
//!
//! Names vanish in any order when the power goes, so segments that are removed without it go one by
//! one. Once the mark is durable, all below it are gone at once, whatever of them is still there:
//! opening the log removes that. The mark only goes up, and segments trimmed one by one may leave it
//! behind. A mark that is damaged is an error: without it trimmed records would come back, or a gap
//! between segments would look like a loss.

use std::io;
use std::path::Path;

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::frame::{u32_at, u64_at};
use crate::marker;
use crate::mutation::{Step, left_out};
use crate::position::Offset;

const NAME: &str = "start";
const BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"strndlow";
const VERSION: u32 = 1;

/// Where a log begins, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowWater {
    pub(crate) segment: u64,
    pub(crate) first: Offset,
}

impl LowWater {
    /// Leaves the mark, durably.
    pub(crate) fn write(&self, host: &Host, dir: &Path) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.get().to_le_bytes());
        let crc = crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        marker::replace(host, dir, NAME, &bytes, [Step::SyncLowWater, Step::SyncNameOfLowWater])
    }

    /// The mark in `dir`, if there is one.
    pub(crate) fn read(host: &Host, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(NAME);
        let file = match host.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        let mut bytes = [0; BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let why = "the mark of the log's beginning is cut short".to_owned();
                Err(OpenError::Damaged { path, at: 0, why })
            }
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// The mark does not fit the segments that are there.
    pub(crate) fn does_not_fit(dir: &Path, why: String) -> OpenError {
        OpenError::Damaged { path: dir.join(NAME), at: 16, why }
    }
}

fn decode(path: &Path, bytes: &[u8; BYTES]) -> Result<LowWater, OpenError> {
    let damaged =
        |why: &str| Err(OpenError::Damaged { path: path.to_owned(), at: 0, why: why.to_owned() });
    if bytes[0..8] != MAGIC {
        return damaged("this is not the mark of a log's beginning");
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(OpenError::UnknownVersion { path: path.to_owned(), at: 8, version });
    }
    if u32_at(bytes, 12) != crc(bytes) && !left_out(Step::CheckLowWater) {
        return damaged("the mark of the log's beginning does not match its checksum");
    }
    Ok(LowWater { segment: u64_at(bytes, 16), first: Offset::new(u64_at(bytes, 24)) })
}

fn crc(bytes: &[u8; BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}
