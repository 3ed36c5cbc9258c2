//! A disk that stops a thread at a chosen operation, for tests where the order of two threads matters.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use host::{DirEntry, DirLock, Disk, File, Host, Mapping, OpenMode, Space, SystemRun};

use crate::support::Place;

/// Stops the first thread that does an operation of this name on a file whose name begins so.
#[derive(Debug)]
pub(crate) struct Gate {
    what: &'static str,
    name: &'static str,
    armed: AtomicBool,
    state: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Gate {
    /// The gate, how to know that somebody stands before it, and how to open it.
    pub(crate) fn new(
        what: &'static str,
        name: &'static str,
    ) -> (Arc<Self>, Receiver<()>, Sender<()>) {
        let (arrived, arrives) = channel();
        let (open, opened) = channel();
        let state = Mutex::new(Some((arrived, opened)));
        (Arc::new(Self { what, name, armed: AtomicBool::new(false), state }), arrives, open)
    }

    /// From now on it stops who comes.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn pass(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !self.armed.load(Ordering::SeqCst) || what != self.what || !name.starts_with(self.name) {
            return;
        }
        let taken = self.state.lock().unwrap().take();
        if let Some((arrived, opened)) = taken {
            let _ = arrived.send(());
            let _ = opened.recv();
        }
    }
}

#[derive(Debug)]
struct Gated(Arc<dyn Disk>, Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Arc<dyn File>, PathBuf, Arc<Gate>);

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.2.pass("sync_data", &self.1);
        self.0.sync_data()
    }
    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        self.0.map(bytes)
    }
}

impl Disk for Gated {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        Ok(Arc::new(GatedFile(file, path.to_owned(), Arc::clone(&self.1))))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.1.pass("unlink", path);
        self.0.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        self.0.lock(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.0.space(path)
    }
    fn system_run(&self) -> io::Result<SystemRun> {
        self.0.system_run()
    }
}

/// The host of a place, with a gate before its disk.
pub(crate) fn gated(place: &Place, gate: &Arc<Gate>) -> Host {
    let disk = Arc::new(Gated(Arc::clone(&place.host.disk), Arc::clone(gate)));
    Host { disk, ..place.host.clone() }
}
