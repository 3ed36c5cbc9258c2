//! Ending a mount, one's own or another process's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::table;

/// How a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone.
    Now,
    /// Programs still use it: it has no name any more, and ends when the last of them closes its files.
    WhenUnused,
}

/// Why nothing was unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing is mounted there, or something that is not a FUSE mount.
    #[error("no volume is mounted on {}", .0.display())]
    NotMounted(PathBuf),
    /// Only root and the user who mounted it may.
    #[error("{} was mounted by another user: unmount it as that user or as root", .0.display())]
    NotPermitted(PathBuf),
    /// Something else went wrong.
    #[error("{} cannot be unmounted: {source}", dir.display())]
    Io {
        /// The mount.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Unmounts the FUSE mount on `dir`, also one whose process is dead.
///
/// One that is in use is taken out of the tree of names at once and ends when it is unused.
///
/// # Errors
///
/// See [`UnmountError`].
pub fn unmount(dir: &Path) -> Result<Unmounted, UnmountError> {
    let failed = |source| UnmountError::Io { dir: dir.to_owned(), source };
    let not_mounted = || UnmountError::NotMounted(dir.to_owned());
    let entry = match table::find(dir) {
        Ok(entry) => entry.filter(table::Entry::is_fuse).ok_or_else(not_mounted)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_mounted()),
        Err(error) => return Err(failed(error)),
    };
    match rustix::mount::unmount(&entry.dir, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Now),
        Err(Errno::BUSY) => {
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
            rustix::mount::unmount(&entry.dir, flags).map_err(|error| failed(error.into()))?;
            Ok(Unmounted::WhenUnused)
        }
        Err(Errno::PERM) => unmount_by_helper(&entry.dir),
        Err(Errno::INVAL) => Err(not_mounted()),
        Err(error) => Err(failed(error.into())),
    }
}

/// Without root: `fusermount3` may unmount what its user has mounted.
fn unmount_by_helper(dir: &Path) -> Result<Unmounted, UnmountError> {
    for (flags, done) in [("-u", Unmounted::Now), ("-uz", Unmounted::WhenUnused)] {
        let helper = Command::new("fusermount3").arg(flags).arg("--").arg(dir).output();
        let output = helper.map_err(|source| UnmountError::Io { dir: dir.to_owned(), source })?;
        if output.status.success() {
            return Ok(done);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("not permitted") || text.contains("not found in") {
            return Err(UnmountError::NotPermitted(dir.to_owned()));
        }
        if done == Unmounted::WhenUnused {
            let source = io::Error::other(text.trim().to_owned());
            return Err(UnmountError::Io { dir: dir.to_owned(), source });
        }
    }
    Ok(Unmounted::Now)
}
