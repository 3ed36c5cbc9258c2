//! The tree's types as the kernel's, and back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use file_tree::{
    Access, Attr, FileKind, Ino, Name, NameError, NewNode, RenameMode, SetTime, Timestamp,
    TreeError,
};
use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, RenameFlags, TimeOrNow};

/// Permission bits, setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;

/// Size of the blocks that `stat` counts in.
const STAT_BLOCK_BYTES: u64 = 512;

/// Preferred size of reads and writes, as `stat` tells it. Programs allocate buffers of this size for each
/// open file, so it is not the largest that is fast.
const PREFERRED_BYTES: u32 = 4096;

/// Numbers of inodes on the kernel's side: the same as the tree's, but that the kernel's root is 1
/// whatever the tree's is, and the tree's 1 takes that number instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    root: u64,
}

impl Numbers {
    pub(crate) fn new(root: Ino) -> Self {
        Self { root: root.0 }
    }

    fn swap(self, number: u64) -> u64 {
        match number {
            _ if number == self.root => INodeNo::ROOT.0,
            _ if number == INodeNo::ROOT.0 => self.root,
            _ => number,
        }
    }

    pub(crate) fn tree(self, number: INodeNo) -> Ino {
        Ino(self.swap(number.0))
    }

    pub(crate) fn kernel(self, ino: Ino) -> INodeNo {
        INodeNo(self.swap(ino.0))
    }

    pub(crate) fn attr(self, attr: &Attr) -> FileAttr {
        FileAttr {
            ino: self.kernel(attr.ino),
            size: attr.size,
            blocks: attr.allocated.div_ceil(STAT_BLOCK_BYTES),
            atime: system_time(attr.atime),
            mtime: system_time(attr.mtime),
            ctime: system_time(attr.ctime),
            crtime: UNIX_EPOCH,
            kind: file_type(attr.kind),
            perm: u16::try_from(attr.mode & MODE_BITS).expect("twelve bits"),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            // The kernel's own encoding has 32 bits, in which glibc's makedev agrees with it.
            rdev: u32::try_from(attr.rdev & u64::from(u32::MAX)).expect("32 bits"),
            blksize: PREFERRED_BYTES,
            flags: 0,
        }
    }
}

pub(crate) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(crate) fn name(name: &OsStr) -> Result<Name, TreeError> {
    Name::new(name.as_bytes()).map_err(|error| match error {
        NameError::TooLong => TreeError::NameTooLong,
        NameError::Reserved => TreeError::Invalid("not a name"),
    })
}

pub(crate) fn mode(mode: u32) -> u32 {
    mode & MODE_BITS
}

/// What `mknod` asks for.
pub(crate) fn node(mode_and_type: u32, rdev: u32) -> Result<NewNode, TreeError> {
    let mode = mode(mode_and_type);
    let kind = match mode_and_type & libc::S_IFMT {
        libc::S_IFREG | 0 => return Ok(NewNode::File { mode }),
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharDevice,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => return Err(TreeError::Invalid("no such kind of node")),
    };
    Ok(NewNode::Special { kind, mode, rdev: u64::from(rdev) })
}

pub(crate) fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Access::Read,
        OpenAccMode::O_WRONLY => Access::Write,
        OpenAccMode::O_RDWR => Access::ReadWrite,
    }
}

pub(crate) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, TreeError> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(TreeError::Invalid("no such way to rename"))
    }
}

pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(timestamp_from_fuser(at)),
    }
}

/// What the kernel sent. Before 1970 it sends seconds rounded down and nanoseconds that go forward from there;
/// fuser goes both backwards, which is undone here.
fn timestamp_from_fuser(time: SystemTime) -> Timestamp {
    let Err(error) = time.duration_since(UNIX_EPOCH) else { return timestamp(time) };
    let before = error.duration();
    let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds: -seconds, nanos: before.subsec_nanos() }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let (since, before) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since, false),
        Err(error) => (error.duration(), true),
    };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match (before, since.subsec_nanos()) {
        (false, nanos) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp { seconds: -seconds, nanos: 0 },
        (true, nanos) => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    }
}

/// A time that the machine cannot represent becomes 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    //! Goal: what goes to the kernel and back is what it was.

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_come_back(seconds in -(1_i64 << 40)..1 << 40, nanos in 0..1_000_000_000_u32) {
            let time = Timestamp { seconds, nanos };
            prop_assert_eq!(timestamp(system_time(time)), time);
        }

        #[test]
        fn inode_numbers_come_back_and_the_root_is_one(root in 1..u64::MAX, other in 1..u64::MAX) {
            let numbers = Numbers::new(Ino(root));
            prop_assert_eq!(numbers.kernel(Ino(root)), INodeNo::ROOT);
            prop_assert_eq!(numbers.tree(numbers.kernel(Ino(other))), Ino(other));
        }
    }

    #[test]
    fn a_time_before_1970_is_set_as_the_kernel_sent_it() {
        // As fuser 0.18 makes it of -6 s and 999,999,999 ns.
        let sent = UNIX_EPOCH - Duration::new(6, 999_999_999);
        let set = set_time(TimeOrNow::SpecificTime(sent));
        assert_eq!(set, SetTime::At(Timestamp { seconds: -6, nanos: 999_999_999 }));
    }

    #[test]
    fn a_time_beyond_the_machine_does_not_panic() {
        for seconds in [i64::MIN, i64::MAX] {
            system_time(Timestamp { seconds, nanos: 999_999_999 });
        }
    }
}
