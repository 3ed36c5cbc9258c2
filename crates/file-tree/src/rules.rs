//! The rules that every tree applies alike: who may do what, what a new node inherits, what a change of
//! attributes does. Pure functions of attributes and caller; nothing here knows how a tree keeps them.
//!
//! A caller is *privileged* when it is root or when a trusted kernel has checked already
//! ([`Caller::checks_done`]). The kernel then also sends the loss of setuid and setgid as a change of
//! mode, so the tree itself takes those bits away only for callers that nobody has checked.
//!
//! Not here: the order in which a call meets its errors (each implementation, compared by
//! [`crate::conformance`]).

use crate::error::TreeError;
use crate::types::{Attr, Caller, FileKind, Ino, SetAttr, SetTime, Timestamp};

/// All bits of a mode that a tree keeps.
pub const MODE_BITS: u32 = 0o7777;
/// Largest size of a file in bytes: 8 EiB - 1, what a signed 64-bit offset can say.
pub const FILE_BYTES_MAX: u64 = i64::MAX.cast_unsigned();
/// Most names one file may have, and most subdirectories (plus 2) one directory may have.
pub const NLINK_MAX: u32 = 65_000;
/// Longest target of a symbolic link in bytes.
pub const LINK_TARGET_BYTES_MAX: usize = 4_095;
/// Smallest cookie of a directory entry; smaller ones are free for a door's own `.` and `..`.
pub const COOKIE_MIN: u64 = 16;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const GROUP_EXECUTE: u32 = 0o010;

/// What someone wants to do with a file, as one of the three permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Read bytes or list names.
    Read,
    /// Write bytes or change names.
    Write,
    /// Find a name in a directory.
    Search,
}

/// Whether mode bits do not bind this caller.
pub fn is_privileged(caller: &Caller) -> bool {
    caller.uid == 0 || caller.checks_done
}

/// Whether the caller acts for `gid`, by its own or a further group.
pub fn is_member(caller: &Caller, gid: u32) -> bool {
    caller.gid == gid || caller.groups.contains(&gid)
}

/// [`TreeError::AccessDenied`] unless the mode bits of exactly one class (owner, group, others) allow it.
pub fn check_access(attr: &Attr, caller: &Caller, want: Want) -> Result<(), TreeError> {
    let shift = if caller.uid == attr.uid {
        6
    } else if is_member(caller, attr.gid) {
        3
    } else {
        0
    };
    let bit = match want {
        Want::Read => 4,
        Want::Write => 2,
        Want::Search => 1,
    };
    if is_privileged(caller) || attr.mode >> shift & bit != 0 {
        Ok(())
    } else {
        Err(TreeError::AccessDenied)
    }
}

/// Whether entries of `dir` may be added: write and search permission.
pub fn check_add(dir: &Attr, caller: &Caller) -> Result<(), TreeError> {
    check_access(dir, caller, Want::Write)?;
    check_access(dir, caller, Want::Search)
}

/// Whether the entry of `dir` that names `victim` may be removed or replaced: as [`check_add`], and in a
/// sticky directory only by the owner of either ([`TreeError::NotPermitted`]).
pub fn check_remove(dir: &Attr, victim: &Attr, caller: &Caller) -> Result<(), TreeError> {
    check_add(dir, caller)?;
    let owns_one = caller.uid == victim.uid || caller.uid == dir.uid;
    if dir.mode & STICKY == 0 || owns_one || is_privileged(caller) {
        Ok(())
    } else {
        Err(TreeError::NotPermitted)
    }
}

/// Attributes of a node that `caller` makes in `dir`, with one name (two links for a directory) and no
/// bytes. In a setgid directory the group is the directory's, and a new directory is setgid too.
pub fn new_attr(
    caller: &Caller,
    dir: &Attr,
    ino: Ino,
    kind: FileKind,
    mode: u32,
    now: Timestamp,
) -> Attr {
    let mut mode = mode & MODE_BITS;
    let mut gid = caller.gid;
    if dir.mode & SETGID != 0 {
        gid = dir.gid;
        if kind == FileKind::Directory {
            mode |= SETGID;
        } else if mode & GROUP_EXECUTE != 0 && !is_member(caller, gid) && !is_privileged(caller) {
            mode &= !SETGID;
        }
    }
    let nlink = if kind == FileKind::Directory { 2 } else { 1 };
    Attr {
        ino,
        kind,
        mode,
        nlink,
        uid: caller.uid,
        gid,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: now,
        mtime: now,
        ctime: now,
    }
}

/// The mode after someone unprivileged changed the bytes, or anyone changed the owner: setuid is gone, and
/// setgid where it means "run as the group".
pub fn without_privileges(mode: u32) -> u32 {
    let lost = if mode & GROUP_EXECUTE == 0 { SETUID } else { SETUID | SETGID };
    mode & !lost
}

/// The attributes after `change` by `caller` at `now`. An empty change changes nothing; any other one
/// sets the change time, and one of the size also the modification time.
///
/// # Errors
///
/// [`TreeError::NotPermitted`] for what only the owner (or root) may, [`TreeError::AccessDenied`] for what
/// write permission allows, [`TreeError::IsADirectory`] and [`TreeError::Invalid`] for a size of what has
/// none, [`TreeError::TooLarge`], [`TreeError::NotSupported`] for the mode of a symbolic link.
pub fn changed(
    attr: &Attr,
    caller: &Caller,
    change: &SetAttr,
    now: Timestamp,
) -> Result<Attr, TreeError> {
    if *change == SetAttr::default() {
        return Ok(*attr);
    }
    check_size(attr, caller, change)?;
    check_owner(attr, caller, change)?;
    check_times(attr, caller, change)?;
    let mut new = *attr;
    new.uid = change.uid.unwrap_or(attr.uid);
    new.gid = change.gid.unwrap_or(attr.gid);
    new.mode = mode_after(attr, caller, change, new.gid);
    if let Some(size) = change.size {
        new.size = size;
        new.mtime = now;
    }
    let time = |set: Option<SetTime>, old: Timestamp| match set {
        None => old,
        Some(SetTime::Now) => now,
        Some(SetTime::At(time)) => time,
    };
    new.atime = time(change.atime, new.atime);
    new.mtime = time(change.mtime, new.mtime);
    new.ctime = now;
    Ok(new)
}

fn check_size(attr: &Attr, caller: &Caller, change: &SetAttr) -> Result<(), TreeError> {
    let Some(size) = change.size else { return Ok(()) };
    check_is_regular(attr.kind)?;
    check_access(attr, caller, Want::Write)?;
    if size > FILE_BYTES_MAX { Err(TreeError::TooLarge) } else { Ok(()) }
}

/// Bytes are in regular files only: [`TreeError::IsADirectory`], or [`TreeError::Invalid`] for the rest.
pub fn check_is_regular(kind: FileKind) -> Result<(), TreeError> {
    match kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(TreeError::IsADirectory),
        FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => Err(TreeError::Invalid("only a regular file has bytes")),
    }
}

fn check_owner(attr: &Attr, caller: &Caller, change: &SetAttr) -> Result<(), TreeError> {
    if change.mode.is_some() && attr.kind == FileKind::Symlink {
        return Err(TreeError::NotSupported);
    }
    let any = change.mode.is_some() || change.uid.is_some() || change.gid.is_some();
    let gives_away = change.uid.is_some_and(|uid| uid != attr.uid);
    let foreign_group = change.gid.is_some_and(|gid| gid != attr.gid && !is_member(caller, gid));
    let owner_may = caller.uid == attr.uid && !gives_away && !foreign_group;
    if !any || is_privileged(caller) || owner_may { Ok(()) } else { Err(TreeError::NotPermitted) }
}

fn check_times(attr: &Attr, caller: &Caller, change: &SetAttr) -> Result<(), TreeError> {
    let times = [change.atime, change.mtime];
    let explicit = times.iter().any(|time| matches!(time, Some(SetTime::At(_))));
    let too_many =
        |time: &Option<SetTime>| matches!(time, Some(SetTime::At(at)) if at.nanos > 999_999_999);
    if times.iter().any(too_many) {
        return Err(TreeError::Invalid("nanoseconds of a second or more"));
    }
    if caller.uid == attr.uid || is_privileged(caller) || times == [None, None] {
        Ok(())
    } else if explicit {
        Err(TreeError::NotPermitted)
    } else {
        check_access(attr, caller, Want::Write)
    }
}

fn mode_after(attr: &Attr, caller: &Caller, change: &SetAttr, gid: u32) -> u32 {
    let bytes_changed = change.size.is_some() && !is_privileged(caller);
    let owner_changed =
        (change.uid.is_some() || change.gid.is_some()) && attr.kind != FileKind::Directory;
    match change.mode {
        Some(mode) if is_member(caller, gid) || is_privileged(caller) => mode & MODE_BITS,
        Some(mode) => mode & MODE_BITS & !SETGID,
        None if bytes_changed || owner_changed => without_privileges(attr.mode),
        None => attr.mode,
    }
}

/// Whether bytes can be the target of a symbolic link: 1 to [`LINK_TARGET_BYTES_MAX`], no NUL.
pub fn check_link_target(target: &[u8]) -> Result<(), TreeError> {
    match target {
        [] => Err(TreeError::Invalid("an empty link target")),
        _ if target.len() > LINK_TARGET_BYTES_MAX => Err(TreeError::NameTooLong),
        _ if target.contains(&0) => Err(TreeError::Invalid("a NUL in a link target")),
        _ => Ok(()),
    }
}

/// Whether `caller` may make a special node of `kind`, and the device number it gets: only the superuser
/// makes devices ([`TreeError::NotPermitted`]), and only devices have a number.
pub fn check_special(kind: FileKind, rdev: u64, caller: &Caller) -> Result<u64, TreeError> {
    match kind {
        FileKind::Fifo | FileKind::Socket => Ok(0),
        FileKind::CharDevice | FileKind::BlockDevice if is_privileged(caller) => Ok(rdev),
        FileKind::CharDevice | FileKind::BlockDevice => Err(TreeError::NotPermitted),
        FileKind::Regular | FileKind::Directory | FileKind::Symlink => {
            Err(TreeError::Invalid("not a special kind of file"))
        }
    }
}
