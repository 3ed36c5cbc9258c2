//! What the calls carry.

use std::fmt;

/// Number of a file within its tree: minted once, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Longest name in bytes (POSIX `NAME_MAX` on Linux).
    pub const BYTES_MAX: usize = 255;

    /// Checks and takes a name.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        match bytes {
            b"" | b"." | b".." => Err(NameError::Reserved),
            _ if bytes.len() > Self::BYTES_MAX => Err(NameError::TooLong),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(NameError::Reserved),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Why bytes are not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Over 255 bytes.
    #[error("name over {} bytes", Name::BYTES_MAX)]
    TooLong,
    /// Empty, `.`, `..`, or with a slash or NUL.
    #[error("not a name")]
    Reserved,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id; new files get it as owner.
    pub uid: u32,
    /// Effective group id; new files get it as group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// A trusted kernel (a mount by root with `default_permissions`) has checked the mode bits already:
    /// the tree need not. Never set for a peer that is not root.
    pub checks_done: bool,
}

impl Caller {
    /// The superuser.
    pub const fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), checks_done: false }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path.
    Symlink,
    /// A named pipe, kept as a node only.
    Fifo,
    /// A socket, kept as a node only.
    Socket,
    /// A character device, kept as a node only.
    CharDevice,
    /// A block device, kept as a node only.
    BlockDevice,
}

/// Time of day: seconds since 1970 and nanoseconds (0..1e9) after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// From nanoseconds since 1970.
    pub fn from_nanos(nanos: i64) -> Self {
        let rest =
            u32::try_from(nanos.rem_euclid(1_000_000_000)).expect("a remainder below 1e9 fits");
        Self { seconds: nanos.div_euclid(1_000_000_000), nanos: rest }
    }
}

/// Attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// Names that point here. A directory counts 2 plus its subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that take room, holes not counted where the tree knows them.
    pub allocated: u64,
    /// Device number of a device node (`makedev`).
    pub rdev: u64,
    /// Last read, as far as the tree keeps it.
    pub atime: Timestamp,
    /// Last change of the bytes or entries.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
}

/// Which attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits (`0o7777`).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The tree's own clock.
    Now,
    /// This moment.
    At(Timestamp),
}

/// What [`crate::FileTree::make`] makes. Modes are `0o7777`, the caller's umask already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewNode {
    /// An empty regular file.
    File {
        /// Permission bits.
        mode: u32,
    },
    /// An empty directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link, 1 to 4,095 bytes.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A pipe, socket or device node.
    Special {
        /// Anything but `Regular`, `Directory` and `Symlink`.
        kind: FileKind,
        /// Permission bits.
        mode: u32,
        /// Device number.
        rdev: u64,
    },
}

/// How a rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as `rename(2)`.
    Replace,
    /// Fail with `Exists` (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap the two (`RENAME_EXCHANGE`).
    Exchange,
}

/// What an open file may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

/// How safe written bytes are when the write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// They survive the server process; a power cut only after a commit.
    Written,
    /// They survive a power cut.
    Durable,
}

/// Names one run of the server between two moments at which unsynced writes may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteEpoch(pub u64);

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How safe the bytes are now.
    pub stability: Stability,
    /// Compare with what [`crate::FileTree::commit`] returns.
    pub epoch: WriteEpoch,
    /// The file after the write.
    pub attr: Attr,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirItem {
    /// Where to go on after this entry; at least [`crate::rules::COOKIE_MIN`], stable while the entry
    /// exists.
    pub cookie: u64,
    /// Its name.
    pub name: Name,
    /// What it names.
    pub attr: Attr,
}

/// Room and limits of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size of the store in bytes.
    pub total_bytes: u64,
    /// Bytes that may still be written.
    pub available_bytes: u64,
    /// Files that exist.
    pub files: u64,
}
