//! A FUSE file system that forgets what is written and reads zeros: the limit of every mount.
//!
//! What it costs is what the kernel, `/dev/fuse` and the `fuser` crate cost. It is mounted with the options of
//! the product's own mounts (`crates/mount`: sizes, threads, what the kernel may cache), and runs in a process of
//! its own, as they do.
//!
//! One directory that cannot be listed, in which any name can be created, opened and removed;
//! sizes are kept so that a file reads as far as it was written.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, Session, SessionACL,
    TimeOrNow, WriteFlags,
};

/// The argument that makes the bench binary serve a null file system instead of measuring.
pub(crate) const COMMAND: &str = "--null-fuse";

/// How long the kernel may believe names and attributes.
const TTL: Duration = Duration::ZERO;
/// Most bytes of one read and of one write.
const BYTES_MAX: u32 = 1 << 20;

/// Mounts on `dir` and serves until it is unmounted.
pub(crate) fn serve(dir: &Path) -> anyhow::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("null".to_owned()),
        MountOption::Subtype("null".to_owned()),
        MountOption::DefaultPermissions,
    ];
    let root = rustix::process::geteuid().is_root();
    config.acl = if root { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(thread::available_parallelism().map_or(2, usize::from).clamp(2, 4));
    config.clone_fd = root;
    let session = Session::new(NullFs::new(), dir, &config)
        .with_context(|| format!("mount on {}", dir.display()))?;
    // Served meanwhile: the kernel's question for the root directory must find an answer.
    let readahead = thread::spawn({
        let dir = dir.to_owned();
        move || enlarge_readahead(&dir)
    });
    session.run()?;
    if root {
        readahead.join().map_err(|_| anyhow::anyhow!("setting the readahead panicked"))??;
    }
    Ok(())
}

/// The kernel reads ahead 128 KiB, whatever a mount asks for, until it is told more. Only root may.
fn enlarge_readahead(dir: &Path) -> anyhow::Result<()> {
    let device = rustix::fs::stat(dir)?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    fs::write(&setting, (BYTES_MAX / 1024).to_string()).with_context(|| format!("write {setting}"))
}

#[derive(Debug)]
struct NullFs {
    files: Mutex<Files>,
    zeros: Vec<u8>,
}

/// The root's number is 1; files count on from 2.
#[derive(Debug)]
struct Files {
    by_name: HashMap<OsString, u64>,
    /// Size by number, also of files without a name.
    sizes: HashMap<u64, u64>,
    next: u64,
}

impl NullFs {
    fn new() -> Self {
        let files = Files { by_name: HashMap::new(), sizes: HashMap::new(), next: 2 };
        Self { files: Mutex::new(files), zeros: vec![0; BYTES_MAX as usize] }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let root = ino == INodeNo::ROOT;
        let size = if root { 0 } else { *self.sizes.get(&ino.0)? };
        Some(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if root { FileType::Directory } else { FileType::RegularFile },
            perm: if root { 0o755 } else { 0o644 },
            nlink: if root { 2 } else { 1 },
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn create(&mut self, name: &OsStr) -> INodeNo {
        let ino = self.next;
        self.next += 1;
        self.by_name.insert(name.to_owned(), ino);
        self.sizes.insert(ino, 0);
        INodeNo(ino)
    }
}

impl Filesystem for NullFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |_| io::Error::other("the kernel takes no pieces of 1 MiB");
        config.set_max_write(BYTES_MAX).map_err(refused)?;
        config
            .set_max_readahead(BYTES_MAX)
            .or_else(|most| config.set_max_readahead(most))
            .map_err(refused)?;
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ] {
            if config.add_capabilities(wish).is_err() {
                eprintln!("note: the kernel lacks {wish:?}");
            }
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = self.files();
        match files.by_name.get(name).and_then(|ino| files.attr(INodeNo(*ino))) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files().attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            self.files().sizes.insert(ino.0, size);
        }
        self.getattr(request, ino, handle, reply);
    }

    fn create(
        &self,
        _: &Request,
        _parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut files = self.files();
        let ino = files.create(name);
        let attr = files.attr(ino).expect("it was made just now");
        reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
    }

    fn unlink(&self, _: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut files = self.files();
        match files.by_name.remove(name) {
            Some(ino) => {
                files.sizes.remove(&ino);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = self.files().sizes.get(&ino.0).copied().unwrap_or(0);
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        reply.data(&self.zeros[..left.min(len.min(BYTES_MAX) as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let end = offset + bytes.len() as u64;
        let mut files = self.files();
        let size = files.sizes.entry(ino.0).or_default();
        *size = end.max(*size);
        reply.written(u32::try_from(bytes.len()).expect("the kernel sends at most 16 MiB"));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}
