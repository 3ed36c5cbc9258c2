//! The kernel's requests as calls of a tree.
//!
//! Each request is tried at once on the thread that read it, which for most trees sends it on its way,
//! and goes on in a task of the runtime if it has to wait. At most [`IN_FLIGHT_MAX`] are under way;
//! beyond, the threads read no more.
//!
//! Inode numbers are never reused and a tree keeps open files alive, so lookups need not be counted.
//!
//! Not here: numbers, modes and times ([`crate::convert`]), error numbers ([`crate::errno`]).

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use file_tree::{Attr, Caller, DirItem, FileTree, Ino, NewNode, SetAttr, Stat, TreeError};
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::convert::{self, Numbers};
use crate::epochs::{Epochs, Writes};
use crate::errno::errno;

/// Requests under way at a time; each may hold a write of [`WRITE_BYTES_MAX`].
const IN_FLIGHT_MAX: usize = 64;

/// Largest single write and read, in bytes.
pub(crate) const WRITE_BYTES_MAX: u32 = 1024 * 1024;

/// Entries asked of the tree per request of the kernel, whose buffer mostly holds fewer.
const LIST_ITEMS: u32 = 256;

/// How long the kernel may believe names and attributes.
const TTL: Duration = Duration::ZERO;

/// Positions in a directory that `.` and `..` take, before the tree's cookies.
const DOTS: u64 = 2;

/// Size of the blocks that `statfs` counts in.
const STATFS_BLOCK_BYTES: u32 = 4096;

/// File handles carry nothing: a file is its inode.
const NO_HANDLE: FileHandle = FileHandle(0);

/// Inode numbers are not reused, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// One mounted tree.
#[derive(Debug)]
pub(crate) struct Door {
    tree: Arc<dyn FileTree>,
    numbers: Numbers,
    epochs: Arc<Epochs>,
    runtime: Handle,
    room: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(tree: Arc<dyn FileTree>, runtime: Handle) -> Self {
        let numbers = Numbers::new(tree.root());
        let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Self { tree, numbers, epochs: Arc::default(), runtime, room }
    }

    /// Does `work`, now as far as it goes and then in a task, and answers with its outcome.
    fn start<T: 'static>(
        &self,
        work: impl Future<Output = Result<T, TreeError>> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let room = self.room.clone();
        let held = match room.clone().try_acquire_owned() {
            Ok(held) => Ok(held),
            // This thread is none of the runtime's, so that it may wait.
            Err(_) => self.runtime.block_on(room.acquire_owned()),
        };
        let mut task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let _held = held;
            answer(work.await.map_err(|error| {
                report(&error);
                errno(&error)
            }));
        });
        let _runtime = self.runtime.enter();
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.runtime.spawn(task);
        }
    }

    fn tree(&self) -> Arc<dyn FileTree> {
        self.tree.clone()
    }

    fn ino(&self, number: INodeNo) -> Ino {
        self.numbers.tree(number)
    }

    /// Starts work that ends in an entry.
    fn start_entry(
        &self,
        reply: ReplyEntry,
        work: impl Future<Output = Result<Attr, TreeError>> + Send + 'static,
    ) {
        let numbers = self.numbers;
        self.start(work, move |found| match found {
            Ok(attr) => reply.entry(&TTL, &numbers.attr(&attr), GENERATION),
            Err(error) => reply.error(error),
        });
    }

    /// Starts work that ends in attributes.
    fn start_attr(
        &self,
        reply: ReplyAttr,
        work: impl Future<Output = Result<Attr, TreeError>> + Send + 'static,
    ) {
        let numbers = self.numbers;
        self.start(work, move |found| match found {
            Ok(attr) => reply.attr(&TTL, &numbers.attr(&attr)),
            Err(error) => reply.error(error),
        });
    }

    /// Starts work that ends in nothing but success.
    fn start_empty(
        &self,
        reply: ReplyEmpty,
        work: impl Future<Output = Result<(), TreeError>> + Send + 'static,
    ) {
        self.start(work, move |done| match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        });
    }

    /// Starts work that ends in an open file.
    fn start_open(
        &self,
        reply: ReplyOpen,
        work: impl Future<Output = Result<Attr, TreeError>> + Send + 'static,
    ) {
        self.start(work, move |opened| match opened {
            // No FOPEN_KEEP_CACHE: what is cached of the file is dropped at each open.
            Ok(_) => reply.opened(NO_HANDLE, FopenFlags::empty()),
            Err(error) => reply.error(error),
        });
    }

    fn start_commit(&self, number: INodeNo, reply: ReplyEmpty) {
        let (tree, ino, epochs) = (self.tree(), self.ino(number), self.epochs.clone());
        self.start_empty(reply, async move { commit(&*tree, ino, &epochs).await });
    }
}

/// What the log is told: failures of the server, of which a process learns only "I/O error".
fn report(error: &TreeError) {
    match error {
        TreeError::Damaged(_) | TreeError::Failed(_) | TreeError::Unreachable(_) => {
            tracing::warn!(%error, "a process on the mount gets an I/O error");
        }
        TreeError::NotFound
        | TreeError::Stale
        | TreeError::Exists
        | TreeError::NotADirectory
        | TreeError::IsADirectory
        | TreeError::NotEmpty
        | TreeError::AccessDenied
        | TreeError::NotPermitted
        | TreeError::Invalid(_)
        | TreeError::NameTooLong
        | TreeError::TooLarge
        | TreeError::TooManyLinks
        | TreeError::NoSpace
        | TreeError::NotSupported => {}
    }
}

/// Who asks. The kernel has checked the mode bits (`default_permissions`), with all of the caller's groups.
fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), groups: Vec::new(), checks_done: true }
}

async fn commit(tree: &dyn FileTree, ino: Ino, epochs: &Epochs) -> Result<(), TreeError> {
    let writes = epochs.take(ino);
    match (tree.commit(ino).await, writes) {
        (Ok(_), None) => Ok(()),
        (Ok(now), Some(writes)) if writes == Writes::In(now) => Ok(()),
        (Ok(_), Some(_)) => Err(TreeError::Failed("writes before this fsync are lost".into())),
        (Err(error), writes) => {
            if let Some(writes) = writes {
                epochs.add(ino, writes);
            }
            Err(error)
        }
    }
}

/// Fills the kernel's buffer from `offset`, of which 0 and 1 are before and after `.`.
fn fill(
    reply: &mut ReplyDirectory,
    numbers: Numbers,
    dir: INodeNo,
    offset: u64,
    items: &[DirItem],
) {
    for (at, dots) in (0..DOTS).zip([".", ".."]) {
        // The tree does not tell a parent; the kernel knows its own.
        if offset <= at && reply.add(dir, at + 1, fuser::FileType::Directory, dots) {
            return;
        }
    }
    for item in items {
        let name = OsStr::from_bytes(item.name.as_bytes());
        let kind = convert::file_type(item.attr.kind);
        if reply.add(numbers.kernel(item.attr.ino), item.cookie.saturating_add(DOTS), kind, name) {
            return;
        }
    }
}

impl Filesystem for Door {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let not_accepted = |what| io::Error::other(format!("the kernel does not take {what}"));
        config.set_max_write(WRITE_BYTES_MAX).map_err(|_| not_accepted("writes of 1 MiB"))?;
        let readahead = config
            .set_max_readahead(WRITE_BYTES_MAX)
            .or_else(|most| config.set_max_readahead(most));
        readahead.map_err(|_| not_accepted("any readahead"))?;
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            // Cached contents are dropped when a changed time or size is seen, also while a file stays open.
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ] {
            if let Err(missing) = config.add_capabilities(wish) {
                tracing::debug!(?missing, "the kernel lacks a capability");
            }
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let name = convert::name(name);
        self.start_entry(reply, async move { tree.lookup(&caller, dir, &name?).await });
    }

    fn forget(&self, _request: &Request, number: INodeNo, _nlookup: u64) {
        self.epochs.forget(self.ino(number));
    }

    fn getattr(
        &self,
        _request: &Request,
        number: INodeNo,
        _: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start_attr(reply, async move { tree.attr(ino).await });
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (tree, caller, ino) = (self.tree(), caller(request), self.ino(number));
        let change = SetAttr {
            mode: mode.map(convert::mode),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
        };
        self.start_attr(reply, async move { tree.set_attr(&caller, ino, change).await });
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start(async move { tree.read_link(ino).await }, move |target| match target {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let (name, node) = (convert::name(name), convert::node(mode, rdev));
        self.start_entry(reply, async move { tree.make(&caller, dir, &name?, node?).await });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let (name, node) = (convert::name(name), NewNode::Directory { mode: convert::mode(mode) });
        self.start_entry(reply, async move { tree.make(&caller, dir, &name?, node).await });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let name = convert::name(name);
        self.start_empty(reply, async move { tree.unlink(&caller, dir, &name?).await });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let name = convert::name(name);
        self.start_empty(reply, async move { tree.remove_dir(&caller, dir, &name?).await });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let target = target.as_os_str().as_bytes().to_vec();
        let name = convert::name(name);
        let node = NewNode::Symlink { target };
        self.start_entry(reply, async move { tree.make(&caller, dir, &name?, node).await });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (tree, caller) = (self.tree(), caller(request));
        let (from, to) = (self.ino(parent), self.ino(new_parent));
        let (name, new_name) = (convert::name(name), convert::name(new_name));
        let mode = convert::rename_mode(flags);
        self.start_empty(reply, async move {
            tree.rename(&caller, (from, &name?), (to, &new_name?), mode?).await
        });
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (tree, caller) = (self.tree(), caller(request));
        let (ino, dir) = (self.ino(number), self.ino(new_parent));
        let name = convert::name(new_name);
        self.start_entry(reply, async move { tree.link(&caller, ino, dir, &name?).await });
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (tree, caller, ino) = (self.tree(), caller(request), self.ino(number));
        let access = convert::access(flags);
        self.start_open(reply, async move { tree.open(&caller, ino, access).await });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (tree, caller, dir) = (self.tree(), caller(request), self.ino(parent));
        let (name, mode, numbers) = (convert::name(name), convert::mode(mode), self.numbers);
        let exclusive = flags & libc::O_EXCL != 0;
        let create = async move {
            match tree.create(&caller, dir, &name?, mode).await {
                // Made by somebody else since the kernel looked: on ESTALE it looks again, and opens.
                Err(TreeError::Exists) if !exclusive => Err(TreeError::Stale),
                other => other,
            }
        };
        self.start(create, move |created| match created {
            Ok(attr) => {
                reply.created(
                    &TTL,
                    &numbers.attr(&attr),
                    GENERATION,
                    NO_HANDLE,
                    FopenFlags::empty(),
                );
            }
            Err(error) => reply.error(error),
        });
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start(async move { tree.read(ino, offset, size).await }, move |bytes| match bytes {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        });
    }

    fn write(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (tree, ino, epochs) = (self.tree(), self.ino(number), self.epochs.clone());
        // The kernel appends at the size that it knows, which another mount may have changed.
        let appends =
            flags.0 & libc::O_APPEND != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let bytes = Bytes::copy_from_slice(data);
        let size = u32::try_from(data.len()).expect("the kernel writes at most 1 MiB at a time");
        let write = async move {
            let at = if appends { tree.attr(ino).await?.size } else { offset };
            let written = tree.write(ino, at, bytes).await?;
            epochs.wrote(ino, &written);
            Ok(())
        };
        self.start(write, move |written| match written {
            Ok(()) => reply.written(size),
            Err(error) => reply.error(error),
        });
    }

    fn flush(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start_empty(reply, async move { tree.flush(ino).await });
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start_empty(reply, async move { tree.release(ino).await });
    }

    fn fsync(
        &self,
        _request: &Request,
        number: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.start_commit(number, reply);
    }

    fn opendir(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (tree, caller, ino) = (self.tree(), caller(request), self.ino(number));
        self.start_open(
            reply,
            async move { tree.open(&caller, ino, file_tree::Access::Read).await },
        );
    }

    fn readdir(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (tree, caller, dir, numbers) =
            (self.tree(), caller(request), self.ino(number), self.numbers);
        let after = offset.saturating_sub(DOTS);
        let list = async move { tree.list(&caller, dir, after, LIST_ITEMS).await };
        self.start(list, move |items| match items {
            Ok(items) => {
                fill(&mut reply, numbers, number, offset, &items);
                reply.ok();
            }
            Err(error) => reply.error(error),
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let (tree, ino) = (self.tree(), self.ino(number));
        self.start_empty(reply, async move { tree.release(ino).await });
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.start_commit(number, reply);
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let tree = self.tree();
        self.start(async move { tree.stat().await }, move |stat| match stat {
            Ok(stat) => answer_stat(reply, &stat),
            Err(error) => reply.error(error),
        });
    }
}

fn answer_stat(reply: ReplyStatfs, stat: &Stat) {
    let block = u64::from(STATFS_BLOCK_BYTES);
    let available = stat.available_bytes / block;
    // Inodes are made as needed: as many as blocks, which is when the room ends.
    let names = u32::try_from(file_tree::Name::BYTES_MAX).expect("255");
    reply.statfs(
        stat.total_bytes / block,
        available,
        available,
        stat.files.saturating_add(available),
        available,
        STATFS_BLOCK_BYTES,
        names,
        STATFS_BLOCK_BYTES,
    );
}
