//! Small named objects beside the blocks: who owns the store, roots from which the rest is found.
//!
//! Names are made of `a-z`, `0-9`, `/`, `.`, `_`, `-`; no part between slashes is empty, `.` or `..`. A
//! store keeps an object in an envelope, so that damage shows and so that no two puts are the same:
//!
//! ```text
//! magic "sl.objct" | version u32 | len u32 | stamp, 16 random bytes | crc32c u32 | content, len bytes
//! ```
//!
//! Integers are little-endian; the checksum covers all before it, and the content.
//!
//! Not here: where a store keeps them.

use std::fmt::Debug;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{FormatError, ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError};

/// Most content in one object.
pub const OBJECT_BYTES_MAX: u32 = 1024 * 1024;

/// Most bytes in the name of an object.
pub const OBJECT_NAME_BYTES_MAX: usize = 200;

/// Bytes of the envelope before the content.
pub(crate) const ENVELOPE_BYTES: usize = 36;

const MAGIC: &[u8; 8] = b"sl.objct";
const VERSION: u32 = 1;
/// The part of the envelope that its checksum covers.
const COVERED: usize = 32;

/// Tells one put of an object from every other. What is in it is the store's own business.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub(crate) String);

/// What an object must be for a put to take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutIf {
    /// Anything: the last put wins.
    Always,
    /// Not there.
    Absent,
    /// As it was when it was got or put with this version.
    Is(Version),
}

/// A place for small objects. All methods block until done and may be called from any thread that may block.
///
/// An object is written either always with [`PutIf::Always`] or never: a store may delay such puts, but
/// not those that have a condition.
pub trait Objects: Debug + Send + Sync {
    /// An object and the version that it has; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ObjectGetError`]; never `None` in place of an object that cannot be read.
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError>;

    /// Stores an object, replacing an earlier one as a whole, if it is as `condition` says. When it
    /// returns, the object survives whatever a block survives.
    ///
    /// # Errors
    ///
    /// After [`ObjectPutError::Io`], [`ObjectPutError::NoSpace`] and [`ObjectPutError::Away`] the object may
    /// be the old or the new one; after the others it is as it was.
    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError>;

    /// Whether an object that was put with [`PutIf::Always`] is where it belongs, and all blocks that were put before
    /// it. A store that delays nothing has it there when the put returns.
    fn is_settled(&self, _name: &str) -> bool {
        true
    }

    /// Names of all objects that begin with `prefix`, in order of their bytes.
    ///
    /// # Errors
    ///
    /// [`ObjectListError`].
    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError>;

    /// Deletes an object, if there is one. It stays away, also after a power cut.
    ///
    /// # Errors
    ///
    /// [`ObjectDeleteError`]; whether the object is still there is unknown.
    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError>;
}

/// A name that an object may have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectName(String);

/// The text is not the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadName;

impl ObjectName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let parts_are_good = text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if parts_are_good && is_prefix(text) { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

/// Whether names can begin with `text`.
pub(crate) fn is_prefix(text: &str) -> bool {
    let good = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-');
    text.len() <= OBJECT_NAME_BYTES_MAX && text.bytes().all(good)
}

/// The name and the length of a put, looked at before anything else.
pub(crate) fn check_put(name: &str, bytes: &Bytes) -> Result<ObjectName, ObjectPutError> {
    let Ok(good) = name.parse() else {
        return Err(ObjectPutError::BadName { name: name.to_owned() });
    };
    if bytes.len() > OBJECT_BYTES_MAX as usize {
        return Err(ObjectPutError::TooLarge { name: name.to_owned(), bytes: bytes.len() as u64 });
    }
    Ok(good)
}

/// Tells a put from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([u8; 16]);

impl Stamp {
    pub(crate) fn new(random: &dyn host::Random) -> Self {
        let (low, high) = (u128::from(random.next_u64()), u128::from(random.next_u64()));
        Self((low | high << 64).to_le_bytes())
    }

    /// The version of an object in a store that has no better name for it.
    pub(crate) fn version(self) -> Version {
        Version(format!("{:032x}", u128::from_le_bytes(self.0)))
    }
}

/// The envelope with `content` in it, which is at most [`OBJECT_BYTES_MAX`] long.
pub(crate) fn seal(stamp: Stamp, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(ENVELOPE_BYTES + content.len());
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u32_le(u32::try_from(content.len()).unwrap_or(u32::MAX));
    bytes.put_slice(&stamp.0);
    let crc = crate::crc::crc32c_of(&[&bytes, content]);
    bytes.put_u32_le(crc);
    bytes.put_slice(content);
    bytes.freeze()
}

/// The content of an object, as a file or a bucket holds it; for people and tools.
///
/// # Errors
///
/// [`FormatError`] with the position of what is wrong.
pub fn inspect_object(bytes: &Bytes) -> Result<Bytes, FormatError> {
    unseal(bytes).map(|(content, _)| content)
}

/// What is in an envelope.
pub(crate) fn unseal(bytes: &Bytes) -> Result<(Bytes, Stamp), FormatError> {
    let damaged = |at, why| Err(FormatError::Damaged { at, why });
    let Some(head) = bytes.first_chunk::<ENVELOPE_BYTES>() else {
        return damaged(bytes.len() as u64, "the object is shorter than its envelope");
    };
    if head[..8] != *MAGIC {
        return damaged(0, "the opening magic is missing");
    }
    let u32_at =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if u32_at(8) != VERSION {
        return Err(FormatError::UnknownVersion { at: 8, found: u32_at(8) });
    }
    let content = bytes.slice(ENVELOPE_BYTES..);
    if u32_at(12) as usize != content.len() {
        return damaged(12, "the object has another length than its envelope says");
    }
    if crate::crc::crc32c_of(&[&head[..COVERED], &content]) != u32_at(COVERED) {
        return damaged(COVERED as u64, "the object's checksum does not match");
    }
    let mut stamp = [0; 16];
    stamp.copy_from_slice(&head[16..COVERED]);
    Ok((content, Stamp(stamp)))
}

#[cfg(test)]
mod tests {
    //! Goal: an envelope gives back what was put in, and no other bytes pass for one. Method: every bit
    //! flipped, every length; names by example.

    use super::*;

    #[test]
    fn an_envelope_gives_back_its_content_and_notices_every_flipped_bit_and_every_cut() {
        let stamp = Stamp::new(&*host::Host::real().random);
        let sealed = seal(stamp, b"content");
        assert_eq!(unseal(&sealed), Ok((Bytes::from_static(b"content"), stamp)));
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bytes.into()).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(unseal(&sealed.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn names_are_made_of_few_characters_and_no_empty_parts() {
        for good in ["a", "owner", "ledger/root-0.1_x", "a/b/c", "...", "-"] {
            assert_eq!(good.parse::<ObjectName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(OBJECT_NAME_BYTES_MAX + 1);
        for bad in ["", "/", "a/", "/a", "a//b", ".", "a/../b", "A", "a b", "a+b", "\u{e4}", &long]
        {
            assert_eq!(bad.parse::<ObjectName>(), Err(BadName), "{bad}");
        }
    }
}
