//! A disk that lets a test look at what is asked of it: to stop a thread, to count, or to refuse.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{DirEntry, DirLock, Disk, File, Host, Mapping, OpenMode, Space, SystemRun};

/// An operation that a test may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    SyncData,
    Unlink,
}

/// Who is told.
pub(crate) trait Watch: Debug + Send + Sync + 'static {
    /// Before an operation on a file. An error is the operation's, which is then not done.
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()>;

    /// So many bytes of a file were read.
    fn read(&self, _path: &Path, _bytes: usize) {}

    /// A file was opened.
    fn opened(&self, _path: &Path) {}

    /// An open file was closed.
    fn closed(&self, _path: &Path) {}
}

/// The same machine, its disk watched.
pub(crate) fn watched(host: &Host, watch: Arc<impl Watch>) -> Host {
    let disk = Arc::new(Watched { disk: Arc::clone(&host.disk), watch });
    Host { disk, ..host.clone() }
}

#[derive(Debug)]
struct Watched {
    disk: Arc<dyn Disk>,
    watch: Arc<dyn Watch>,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    watch: Arc<dyn Watch>,
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        self.watch.closed(&self.path);
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let read = self.file.read_at(buf, at)?;
        self.watch.read(&self.path, read);
        Ok(read)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.before(Operation::SyncData, &self.path)?;
        self.file.sync_data()
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        self.file.map(bytes)
    }

    fn next_written(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        self.file.next_written(at)
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.watch.before(Operation::Open, path)?;
        let file = self.disk.open(path, mode)?;
        self.watch.opened(path);
        Ok(Arc::new(WatchedFile { file, path: path.to_owned(), watch: Arc::clone(&self.watch) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.watch.before(Operation::Unlink, path)?;
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        self.disk.lock(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }

    fn system_run(&self) -> io::Result<SystemRun> {
        self.disk.system_run()
    }
}
