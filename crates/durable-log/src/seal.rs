//! What every file of a log begins with, in every version: magic, version, checksum.
//!
//! ```text
//!  0  8 bytes  magic, one for each kind of file
//!  8  u32      format version
//! 12  u32      CRC-32C of bytes 0..12 and 16 to the end: of the header of a segment, which has 128
//!              bytes, and of the whole of any other file
//! ```
//!
//! This is promised for all versions to come, so that a version that is not known is told from a damaged
//! one: the checksum is looked at first, and what does not fit it is damage, whatever its version says.
//!
//! Not here: what the files say.

use crate::frame::u32_at;

/// What is wrong with the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is another kind of file.
    Magic,
    /// It ends before what every version has.
    Short,
    Checksum,
    /// All is well with it, but another version wrote it.
    Version(u32),
}

/// Where the version stands.
pub(crate) const VERSION_AT: u64 = 8;
const LEAST_BYTES: usize = 16;

/// Writes magic, version and checksum. The rest is there already.
pub(crate) fn seal(bytes: &mut [u8], magic: [u8; 8], version: u32) {
    bytes[0..8].copy_from_slice(&magic);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc(bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Checks magic, checksum and version, in this order; `believed` without the checksum.
pub(crate) fn check(
    bytes: &[u8],
    magic: [u8; 8],
    version: u32,
    believed: bool,
) -> Result<(), Flaw> {
    if bytes.get(0..8).is_some_and(|found| found != magic) {
        return Err(Flaw::Magic);
    }
    if bytes.len() < LEAST_BYTES {
        return Err(Flaw::Short);
    }
    if u32_at(bytes, 12) != crc(bytes) && !believed {
        return Err(Flaw::Checksum);
    }
    match u32_at(bytes, 8) {
        found if found != version => Err(Flaw::Version(found)),
        _ => Ok(()),
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}
