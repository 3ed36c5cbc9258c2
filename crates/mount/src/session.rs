//! Making a mount, and its life.

use std::io;
use std::mem::{ManuallyDrop, replace};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism};

use file_tree::FileTree;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use host::{Host, OpenMode};
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::door::{Door, WRITE_BYTES_MAX};
use crate::table;
use crate::unmount::{UnmountError, Unmounted, unmount};

/// The kernel's door to FUSE.
const DEVICE: &str = "/dev/fuse";

/// Threads that read the kernel's requests: few, because they only hand them on.
const THREADS_MIN: usize = 2;
/// See [`THREADS_MIN`].
const THREADS_MAX: usize = 4;

/// How a tree is mounted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Changes are refused by the kernel (EROFS).
    pub read_only: bool,
    /// Users other than the one who mounts get in, each with its own rights. Without root this needs
    /// `user_allow_other` in `/etc/fuse.conf`.
    pub allow_other: bool,
    /// What the table of mounts shows as the source.
    pub name: String,
}

impl Options {
    /// The usual: changes allowed; other users allowed if root mounts.
    pub fn new(name: impl Into<String>) -> Self {
        let allow_other = rustix::process::geteuid().is_root();
        Self { read_only: false, allow_other, name: name.into() }
    }
}

/// Why a tree could not be mounted. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory is not there.
    #[error("{} does not exist: create the directory first", .0.display())]
    Missing(PathBuf),
    /// It is something else than a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Its contents would be hidden.
    #[error("{} is not empty: mount on an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// Another FUSE mount is there.
    #[error("something is mounted on {} already: unmount it first", .0.display())]
    Taken(PathBuf),
    /// A FUSE mount is there whose process has ended.
    #[error("{} is the rest of a mount whose process has ended: unmount it first", .0.display())]
    Dead(PathBuf),
    /// The machine or container has no FUSE.
    #[error("{DEVICE} is missing: load the kernel module `fuse`, or give the container the device")]
    NoDevice,
    /// A mount without root needs the helper.
    #[error("fusermount3 is missing: install the package `fuse3`, or mount as root")]
    NoHelper,
    /// The system's settings keep other users out.
    #[error("other users are let in only by root, or with `user_allow_other` in /etc/fuse.conf")]
    OthersNotAllowed,
    /// Something else went wrong.
    #[error("{} cannot be mounted on: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A mount. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    ended: watch::Receiver<Option<Result<(), String>>>,
}

/// Mounts `tree` on `dir`, an empty directory. Must be called within a tokio runtime, on which requests
/// are then answered; waits until the kernel has accepted the mount.
///
/// # Errors
///
/// See [`MountError`].
pub fn mount(
    tree: Arc<dyn FileTree>,
    dir: &Path,
    options: &Options,
) -> Result<Mounted, MountError> {
    check(dir)?;
    let failed = |source: io::Error| explain(dir, source);
    let door = Door::new(tree, Handle::current());
    let nobody = host::spawn("mounted", || Ok(())).map_err(failed)?;
    let session = Session::new(door, dir, &config(options)).map_err(failed)?;
    let session = session.spawn().map_err(failed)?;
    let (sender, ended) = watch::channel(None);
    let waiting = move || {
        let outcome = wait_for(session, nobody).map_err(|error| error.to_string());
        sender.send_replace(Some(outcome));
    };
    host::spawn("mount", waiting).map_err(failed)?;
    if let Err(error) = enlarge_readahead(dir) {
        tracing::debug!(%error, "the kernel keeps its readahead");
    }
    Ok(Mounted { dir: dir.to_owned(), ended })
}

/// Waits until a session ends, with `nobody` in the place of its thread.
///
/// A session ends well when its mount is gone. fuser (0.18) unmounts once more when it drops such a session, and so takes
/// away what is mounted at that place by then, or what was there before; so it is never dropped, at the price of two
/// open files for as long as the process lives.
fn wait_for(mut session: BackgroundSession, nobody: JoinHandle<io::Result<()>>) -> io::Result<()> {
    let outcome = replace(&mut session.guard, nobody).join();
    let outcome = outcome.unwrap_or_else(|_| Err(io::Error::other("the mount's thread panicked")));
    if outcome.is_ok() {
        let _kept = ManuallyDrop::new(session);
    }
    outcome
}

impl Mounted {
    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns when the mount has ended, however that came.
    ///
    /// # Errors
    ///
    /// The kernel's door failed under the mount.
    pub async fn wait(&self) -> io::Result<()> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(text))) => Err(io::Error::other(text.clone())),
            Ok(Some(Ok(())) | None) => Ok(()),
            Err(_) => Err(io::Error::other("the thread that served the mount has gone")),
        }
    }

    /// Unmounts; [`Mounted::wait`] then returns as soon as the mount is unused.
    ///
    /// # Errors
    ///
    /// See [`UnmountError`].
    pub fn unmount(&self) -> Result<Unmounted, UnmountError> {
        unmount(&self.dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let still_there = self.ended.borrow().is_none();
        if still_there && let Err(error) = self.unmount() {
            tracing::warn!(%error, "a mount stays behind");
        }
    }
}

/// Checks that `dir` may be mounted on, so that the reason is clear when it may not.
fn check(dir: &Path) -> Result<(), MountError> {
    let path = || dir.to_owned();
    let failed = |error: Errno| match error {
        Errno::NOENT => MountError::Missing(path()),
        Errno::NOTDIR => MountError::NotADirectory(path()),
        Errno::NOTCONN => MountError::Dead(path()),
        other => MountError::Io { dir: path(), source: other.into() },
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty()).map_err(failed)?;
    let mounted = table::find(dir).map_err(|source| MountError::Io { dir: path(), source })?;
    if mounted.is_some_and(|entry| entry.is_fuse()) {
        return Err(MountError::Taken(path()));
    }
    for entry in rustix::fs::Dir::new(opened).map_err(failed)? {
        if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
            return Err(MountError::NotEmpty(path()));
        }
    }
    if rustix::fs::access(DEVICE, Access::EXISTS).is_err() {
        return Err(MountError::NoDevice);
    }
    Ok(())
}

fn config(options: &Options) -> Config {
    // A comma would end the option.
    let name = options.name.replace(',', "_");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name),
        MountOption::Subtype("strandline".into()),
        MountOption::DefaultPermissions,
    ];
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let threads = available_parallelism().map_or(THREADS_MIN, usize::from);
    config.n_threads = Some(threads.clamp(THREADS_MIN, THREADS_MAX));
    // Each thread with a queue of its own, where this process may open the device itself.
    config.clone_fd = rustix::fs::access(DEVICE, Access::READ_OK | Access::WRITE_OK).is_ok();
    config
}

fn explain(dir: &Path, source: io::Error) -> MountError {
    let text = source.to_string();
    let root = rustix::process::geteuid().is_root();
    if text.contains("user_allow_other") {
        MountError::OthersNotAllowed
    } else if source.kind() == io::ErrorKind::NotFound && !root {
        MountError::NoHelper
    } else {
        MountError::Io { dir: dir.to_owned(), source }
    }
}

/// The kernel reads ahead 128 KiB, whatever a mount asks for, until it is told more. Only root may.
fn enlarge_readahead(dir: &Path) -> io::Result<()> {
    let Some(entry) = table::find(dir)?.filter(table::Entry::is_fuse) else { return Ok(()) };
    let path = Path::new("/sys/class/bdi").join(entry.device).join("read_ahead_kb");
    let setting = Host::real().disk.open(&path, OpenMode::ReadWrite)?;
    setting.write_all_at((WRITE_BYTES_MAX / 1024).to_string().as_bytes(), 0)
}
