//! Files and names: the seam between the data path and the operating system.
//!
//! Durability is explicit: bytes survive a power cut after [`File::sync_data`], names (create,
//! rename, unlink) after [`Disk::sync_dir`] of their directory, and neither implies the other.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::mapping::Mapping;

/// A file system, or a simulation of one.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file. The name of a created file is durable after [`Disk::sync_dir`] of its parent.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Creates a directory and all missing parents, and syncs each parent that changed.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// What a directory holds, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Renames a file, replacing `to` if it exists. Durable after a sync of both parents.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Open handles keep working. Durable after a sync of the parent.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on `path` (created if missing) until the guard is dropped or the
    /// process ends; `None` when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>>;

    /// Room on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Names the run of the operating system. As long as it stays the same, everything that any process
    /// handed to the system is still there, synced or not.
    fn system_run(&self) -> io::Result<SystemRun>;
}

/// An open file. All positions are absolute; there is no cursor to share by mistake.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `at`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `at`, growing the file if needed.
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()>;

    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file to `size` bytes.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Reserves room for `size` bytes and sets the file's size to it, so that later writes below
    /// it neither fail for want of space nor change the size. `ErrorKind::Unsupported` where the
    /// file system cannot.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Returns when the file's bytes and size are on stable storage (`fdatasync`).
    ///
    /// After an error the page cache may hold what the disk does not
    /// (<https://www.usenix.org/system/files/atc20-rebello.pdf>): never retry and believe it.
    fn sync_data(&self) -> io::Result<()>;

    /// Maps the first `bytes` of the file, which may be shorter now, for reading.
    /// `ErrorKind::Unsupported` where files cannot be seen as memory.
    fn map(&self, _bytes: u64) -> io::Result<Mapping> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Says that a range will be read soon: the system may fetch it ahead, in its own time, or not.
    fn will_need(&self, _range: Range<u64>) {}

    /// The next stretch of the file at or after `at`, never empty, that was ever written to, as far as the file system
    /// knows: before it there are only zeros. `None`: there is nothing but zeros up to the file's end.
    ///
    /// Stretches may hold zeros, too; who does not know calls all of the file written. What is being written may
    /// be in it or not.
    fn next_written(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let size = self.size()?;
        Ok((at < size).then_some(at..size))
    }

    /// Fills `buf` from `at`; `ErrorKind::UnexpectedEof` if the file ends first.
    fn read_exact_at(&self, mut buf: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    at += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// Holds a lock until dropped.
pub trait DirLock: Debug + Send + Sync {}

/// How [`Disk::open`] treats a missing or existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; only reads.
    Read,
    /// Must exist; reads and writes.
    ReadWrite,
    /// Must not exist; reads and writes.
    CreateNew,
    /// Created if missing, kept as it is if not; reads and writes.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory. Names that are not UTF-8 are shown with replacements.
    pub name: String,
    /// Whether the name is a directory.
    pub is_dir: bool,
    /// Size of a file; 0 for a directory.
    pub bytes: u64,
    /// When a file's bytes were last changed, by the time of day: milliseconds since 1970; 0 for a directory.
    pub modified_ms: i64,
}

/// One run of the operating system, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemRun(pub [u8; 16]);

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the whole file system.
    pub total_bytes: u64,
    /// What an ordinary writer may still use.
    pub available_bytes: u64,
}
