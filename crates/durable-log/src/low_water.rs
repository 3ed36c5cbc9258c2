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

use host::Host;

use crate::error::OpenError;
use crate::frame::u64_at;
use crate::marker;
use crate::mutation::{Step, left_out};
use crate::position::Offset;
use crate::seal::{self, Flaw};

const NAME: &str = "start";
const BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"strndlow";
pub(crate) const VERSION: u32 = 1;

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
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.get().to_le_bytes());
        seal::seal(&mut bytes, MAGIC, VERSION);
        marker::replace(host, dir, NAME, &bytes, [Step::SyncLowWater, Step::SyncNameOfLowWater])
    }

    /// The mark in `dir`, if there is one.
    pub(crate) fn read(host: &Host, dir: &Path) -> Result<Option<Self>, OpenError> {
        Self::read_file(host, &dir.join(NAME))
    }

    /// The mark in a file, if there is one.
    pub(crate) fn read_file(host: &Host, path: &Path) -> Result<Option<Self>, OpenError> {
        let Some(bytes) = marker::read_small(host, path)? else { return Ok(None) };
        let why = match decode(&bytes) {
            Ok(mark) => return Ok(Some(mark)),
            Err(Flaw::Version(version)) => {
                let at = seal::VERSION_AT;
                return Err(OpenError::UnknownVersion { path: path.to_owned(), at, version });
            }
            Err(Flaw::Magic) => "this is not the mark of a log's beginning",
            Err(Flaw::Short) => "the mark of the log's beginning is cut short",
            Err(Flaw::Checksum) => "the mark of the log's beginning does not match its checksum",
        };
        Err(OpenError::Damaged { path: path.to_owned(), at: 0, why: why.to_owned() })
    }

    /// The mark does not fit the segments that are there.
    pub(crate) fn does_not_fit(dir: &Path, why: String) -> OpenError {
        OpenError::Damaged { path: dir.join(NAME), at: 16, why }
    }
}

fn decode(bytes: &[u8]) -> Result<LowWater, Flaw> {
    seal::check(bytes, MAGIC, VERSION, left_out(Step::CheckLowWater))?;
    if bytes.len() != BYTES {
        return Err(Flaw::Short);
    }
    Ok(LowWater { segment: u64_at(bytes, 16), first: Offset::new(u64_at(bytes, 24)) })
}
