//! The rows of volumes: tables, keys and values (`docs/formats/volume.md`).
//!
//! Keys are big-endian numbers and names, so that a scan by prefix gives one volume or one directory in
//! order. Values begin with a version; an unknown one, a short or an overlong value is an error, never a
//! guess. A file's row ends in a part that depends on its kind.
//!
//! Not here: reading and writing fields ([`fields`]), and which rows change together (`crate::volume`).

mod fields;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use bytes::Bytes;
use file_tree::{Attr, FileKind, Ino, Name, Timestamp, rules};
use strands::{StrandId, Table};

use self::fields::{Fields, Put};

/// Name → volume.
pub(crate) const VOLUMES: Table = Table(64);
/// Volume, file → attributes and body.
pub(crate) const INODES: Table = Table(65);
/// Volume, directory, name → file.
pub(crate) const DENTRIES: Table = Table(66);
/// Volume, directory, cookie → name and file: the order of listings.
pub(crate) const COOKIES: Table = Table(67);
/// Volume, file: open without a name.
pub(crate) const ORPHANS: Table = Table(68);
/// Volume → its counters; volume 0 → the counter of volumes.
pub(crate) const COUNTERS: Table = Table(69);
/// Volumes whose rows are being removed.
pub(crate) const DELETED: Table = Table(70);

/// The version that every value begins with.
const VERSION: u8 = 1;

/// Number of a volume: minted once, never reused, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumeId(pub(crate) u32);

/// Why the bytes of a row make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    /// Written by a version that this one does not know.
    #[error("unknown version {0}")]
    Version(u8),
    /// It ends too early.
    #[error("too short")]
    Short,
    /// It goes on after its end.
    #[error("bytes after the end")]
    Trailing,
    /// A field holds what it cannot hold.
    #[error("{0} out of range")]
    Value(&'static str),
}

/// When the writes of a volume are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When they survive the process; a background sync follows within a second.
    #[default]
    Written,
    /// When they survive a power cut.
    Synced,
}

/// The row of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    pub(crate) id: VolumeId,
    pub(crate) durability: Durability,
    pub(crate) created: Timestamp,
}

/// The row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) attr: Attr,
    pub(crate) body: Body,
}

/// What a file consists of; goes with `attr.kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Regular { strand: StrandId },
    Directory { parent: Ino, next_cookie: u64 },
    Symlink { target: Bytes },
    Special,
}

/// What a name in a directory points to, and its place in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dentry {
    pub(crate) kind: FileKind,
    pub(crate) ino: Ino,
    pub(crate) cookie: u64,
}

/// A place in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieRow {
    pub(crate) ino: Ino,
    pub(crate) name: Name,
}

/// The counters of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountersRow {
    /// Every number below may have been used.
    pub(crate) reserved_ino: u64,
    /// Files that exist, the root and those without a name included.
    pub(crate) files: u64,
}

/// A range of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    from: Vec<u8>,
    from_excluded: bool,
    to: Option<Vec<u8>>,
}

impl Keys {
    /// All keys that begin with `prefix`.
    pub(crate) fn of(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), from_excluded: false, to: after_prefix(prefix) }
    }

    /// The keys of this range that come after `key`.
    pub(crate) fn after(self, key: Vec<u8>) -> Self {
        Self { from: key, from_excluded: true, ..self }
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let from = self.from.as_slice();
        let from = if self.from_excluded { Bound::Excluded(from) } else { Bound::Included(from) };
        (from, self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
    }
}

/// The smallest key that is above all with this prefix; none if there is no such.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// Key of [`COUNTERS`] and [`DELETED`], prefix of the rest.
pub(crate) fn volume_key(volume: VolumeId) -> [u8; 4] {
    volume.0.to_be_bytes()
}

/// Key of [`INODES`] and [`ORPHANS`], prefix of the entries of a directory.
pub(crate) fn ino_key(volume: VolumeId, ino: Ino) -> Vec<u8> {
    [&volume_key(volume)[..], &ino.0.to_be_bytes()].concat()
}

/// The file that a key of [`INODES`] or [`ORPHANS`] is about.
pub(crate) fn ino_of_key(key: &[u8]) -> Result<Ino, RowError> {
    let mut fields = Fields::of_key(key);
    fields.u32()?;
    let ino = Ino(fields.u64()?);
    fields.end()?;
    Ok(ino)
}

/// Key of [`DENTRIES`].
pub(crate) fn dentry_key(volume: VolumeId, dir: Ino, name: &Name) -> Vec<u8> {
    [&volume_key(volume)[..], &dir.0.to_be_bytes(), name.as_bytes()].concat()
}

/// Key of [`COOKIES`].
pub(crate) fn cookie_key(volume: VolumeId, dir: Ino, cookie: u64) -> Vec<u8> {
    [&volume_key(volume)[..], &dir.0.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

/// The cookie in a key of [`COOKIES`].
pub(crate) fn cookie_of_key(key: &[u8]) -> Result<u64, RowError> {
    let mut fields = Fields::of_key(key);
    fields.u32()?;
    fields.u64()?;
    let cookie = fields.u64()?;
    fields.end()?;
    Ok(cookie)
}

impl VolumeRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let durability = match self.durability {
            Durability::Written => 0,
            Durability::Synced => 1,
        };
        Put::new(VERSION).u32(self.id.0).u8(durability).time(self.created).done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let mut fields = Fields::of_value(value, VERSION)?;
        let id = match fields.u32()? {
            0 => return Err(RowError::Value("volume number")),
            id => VolumeId(id),
        };
        let durability = match fields.u8()? {
            0 => Durability::Written,
            1 => Durability::Synced,
            _ => return Err(RowError::Value("durability")),
        };
        let created = fields.time()?;
        fields.end()?;
        Ok(Self { id, durability, created })
    }
}

impl Inode {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Attr { kind, mode, nlink, uid, gid, atime, mtime, ctime, .. } = self.attr;
        let put = Put::new(VERSION).u8(kind_code(kind)).u32(mode).u32(nlink).u32(uid).u32(gid);
        let put = put.time(atime).time(mtime).time(ctime);
        match &self.body {
            Body::Regular { strand } => {
                put.u64(strand.get()).u64(self.attr.size).u64(self.attr.allocated)
            }
            Body::Directory { parent, next_cookie } => put.u64(parent.0).u64(*next_cookie),
            Body::Symlink { target } => put.bytes(target),
            Body::Special => put.u64(self.attr.rdev),
        }
        .done()
    }

    pub(crate) fn decode(ino: Ino, value: &[u8]) -> Result<Self, RowError> {
        let mut fields = Fields::of_value(value, VERSION)?;
        let kind = kind(fields.u8()?)?;
        let mode = fields.u32()?;
        if mode > rules::MODE_BITS {
            return Err(RowError::Value("mode"));
        }
        let (nlink, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (atime, mtime, ctime) = (fields.time()?, fields.time()?, fields.time()?);
        let (size, allocated, rdev) = (0, 0, 0);
        let mut attr =
            Attr { ino, kind, mode, nlink, uid, gid, size, allocated, rdev, atime, mtime, ctime };
        let body = decode_body(&mut attr, &mut fields)?;
        fields.end()?;
        Ok(Self { attr, body })
    }
}

/// The rest of a file's row, by its kind; also sets the attributes that depend on it.
fn decode_body(attr: &mut Attr, fields: &mut Fields<'_>) -> Result<Body, RowError> {
    match attr.kind {
        FileKind::Regular => {
            let strand = StrandId::from_raw(fields.u64()?);
            (attr.size, attr.allocated) = (fields.u64()?, fields.u64()?);
            if attr.size > rules::FILE_BYTES_MAX || attr.allocated > attr.size {
                return Err(RowError::Value("size"));
            }
            Ok(Body::Regular { strand })
        }
        FileKind::Directory => {
            Ok(Body::Directory { parent: Ino(fields.u64()?), next_cookie: fields.u64()? })
        }
        FileKind::Symlink => {
            let target = Bytes::copy_from_slice(fields.rest());
            rules::check_link_target(&target).map_err(|_| RowError::Value("link target"))?;
            attr.size = target.len() as u64;
            Ok(Body::Symlink { target })
        }
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            attr.rdev = fields.u64()?;
            Ok(Body::Special)
        }
    }
}

impl Dentry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Put::new(VERSION).u8(kind_code(self.kind)).u64(self.ino.0).u64(self.cookie).done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let mut fields = Fields::of_value(value, VERSION)?;
        let (kind, ino, cookie) = (kind(fields.u8()?)?, Ino(fields.u64()?), fields.u64()?);
        fields.end()?;
        Ok(Self { kind, ino, cookie })
    }
}

impl CookieRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Put::new(VERSION).u64(self.ino.0).bytes(self.name.as_bytes()).done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let mut fields = Fields::of_value(value, VERSION)?;
        let ino = Ino(fields.u64()?);
        let name = Name::new(fields.rest()).map_err(|_| RowError::Value("name"))?;
        Ok(Self { ino, name })
    }
}

impl CountersRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Put::new(VERSION).u64(self.reserved_ino).u64(self.files).done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let mut fields = Fields::of_value(value, VERSION)?;
        let (reserved_ino, files) = (fields.u64()?, fields.u64()?);
        fields.end()?;
        Ok(Self { reserved_ino, files })
    }
}

/// The value of [`ORPHANS`]: the key says it all.
pub(crate) fn encode_orphan() -> Vec<u8> {
    Put::new(VERSION).done()
}

/// The value of [`DELETED`]: the name that the volume had, for people.
pub(crate) fn encode_deleted(name: &str) -> Vec<u8> {
    Put::new(VERSION).bytes(name.as_bytes()).done()
}

/// The number of the volume that a key of [`DELETED`] is about.
pub(crate) fn volume_of_key(key: &[u8]) -> Result<VolumeId, RowError> {
    let mut fields = Fields::of_key(key);
    let id = fields.u32()?;
    fields.end()?;
    Ok(VolumeId(id))
}

/// The counter of volumes: the number that the next one gets.
pub(crate) fn encode_next_volume(next: VolumeId) -> Vec<u8> {
    Put::new(VERSION).u32(next.0).done()
}

pub(crate) fn decode_next_volume(value: &[u8]) -> Result<VolumeId, RowError> {
    let mut fields = Fields::of_value(value, VERSION)?;
    let next = fields.u32()?;
    fields.end()?;
    if next == 0 { Err(RowError::Value("volume number")) } else { Ok(VolumeId(next)) }
}

fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Fifo => 3,
        FileKind::Socket => 4,
        FileKind::CharDevice => 5,
        FileKind::BlockDevice => 6,
    }
}

fn kind(code: u8) -> Result<FileKind, RowError> {
    Ok(match code {
        0 => FileKind::Regular,
        1 => FileKind::Directory,
        2 => FileKind::Symlink,
        3 => FileKind::Fifo,
        4 => FileKind::Socket,
        5 => FileKind::CharDevice,
        6 => FileKind::BlockDevice,
        _ => return Err(RowError::Value("kind")),
    })
}
