//! A disk in memory, for servers that keep nothing: gone with the process, never durable, and honest about
//! room, which is the machine's memory.
//!
//! It behaves as the real disk does for a program that never crashes; syncs do nothing. What a power cut
//! leaves is simulated by [`crate::sim`], which remembers for that what this one need not.
#![expect(clippy::disallowed_methods, reason = "how much memory there is, only the system knows")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::io::Errno;

use crate::clock::Clock;
use crate::disk::{DirEntry, DirLock, Disk, File, OpenMode, Space, SystemRun};

/// The disk. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk {
    clock: Arc<dyn Clock>,
    run: SystemRun,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    /// By absolute path. The root is always there and has no entry.
    nodes: BTreeMap<PathBuf, Node>,
    locked: HashSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum Node {
    Directory,
    File(Arc<Contents>),
}

/// The bytes of a file, in pages of [`PAGE_BYTES`]; one that is not there is zeros.
#[derive(Debug)]
struct Contents(RwLock<Pages>);

#[derive(Debug, Default)]
struct Pages {
    size: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    modified_ms: i64,
}

#[derive(Debug)]
struct MemoryFile {
    clock: Arc<dyn Clock>,
    contents: Arc<Contents>,
    writable: bool,
}

#[derive(Debug)]
struct Locked {
    names: Arc<Mutex<Names>>,
    path: PathBuf,
}

impl MemoryDisk {
    /// An empty disk. `run` tells it from every other.
    pub(crate) fn new(clock: Arc<dyn Clock>, run: SystemRun) -> Self {
        Self { clock, run, names: Arc::default() }
    }

    /// Every change is one step, so a poisoned lock still guards a whole tree.
    fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }
}

impl Names {
    fn node(&self, path: &Path) -> io::Result<Node> {
        if is_root(path) {
            return Ok(Node::Directory);
        }
        match self.nodes.get(path) {
            Some(node) => Ok(node.clone()),
            None => Err(self.directory(parent(path)).err().unwrap_or_else(|| Errno::NOENT.into())),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        match self.node(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Contents>> {
        match self.node(path)? {
            Node::File(contents) => Ok(contents),
            Node::Directory => Err(Errno::ISDIR.into()),
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode, now_ms: i64) -> io::Result<Arc<Contents>> {
        match (self.file(path), mode) {
            (Ok(_), OpenMode::CreateNew) => Err(Errno::EXIST.into()),
            (Err(error), OpenMode::CreateNew | OpenMode::Create)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                self.directory(parent(path))?;
                let pages = Pages { modified_ms: now_ms, ..Pages::default() };
                let contents = Arc::new(Contents(RwLock::new(pages)));
                self.nodes.insert(path.to_owned(), Node::File(Arc::clone(&contents)));
                Ok(contents)
            }
            (found, _) => found,
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let contents = self.names().open(path, mode, self.clock.wall().millis())?;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemoryFile { clock: Arc::clone(&self.clock), contents, writable }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        let mut ancestors: Vec<_> = path.ancestors().filter(|path| !is_root(path)).collect();
        ancestors.reverse();
        for path in ancestors {
            match names.nodes.get(path) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(Errno::NOTDIR.into()),
                None => drop(names.nodes.insert(path.to_owned(), Node::Directory)),
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.names();
        names.directory(dir)?;
        let below =
            names.nodes.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir));
        let mut entries: Vec<_> = below
            .filter(|(path, _)| path.as_path() != dir && parent(path) == dir)
            .map(|(path, node)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match node {
                    Node::Directory => DirEntry { name, is_dir: true, bytes: 0, modified_ms: 0 },
                    Node::File(contents) => {
                        let pages = contents.read();
                        let (bytes, modified_ms) = (pages.size, pages.modified_ms);
                        DirEntry { name, is_dir: false, bytes, modified_ms }
                    }
                }
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let file = names.file(from)?;
        match names.file(to) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => names.directory(parent(to))?,
            Err(error) => return Err(error),
        }
        names.nodes.remove(from);
        names.nodes.insert(to.to_owned(), Node::File(file));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        names.file(path)?;
        names.nodes.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.names().directory(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let mut names = self.names();
        names.open(path, OpenMode::Create, self.clock.wall().millis())?;
        let taken = names.locked.insert(path.to_owned());
        let locked = || Locked { names: Arc::clone(&self.names), path: path.to_owned() };
        Ok(taken.then(|| -> Box<dyn DirLock> { Box::new(locked()) }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.names().node(path)?;
        let text = fs::read_to_string("/proc/meminfo")?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.map(|kib| kib.saturating_mul(1024))
        };
        let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
        let (Some(total_bytes), Some(available_bytes)) = (total, available) else {
            return Err(io::Error::other("the system does not say how much memory there is"));
        };
        Ok(Space { total_bytes, available_bytes })
    }

    fn system_run(&self) -> io::Result<SystemRun> {
        Ok(self.run)
    }
}

impl DirLock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        lock(&self.names).locked.remove(&self.path);
    }
}

impl Contents {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Pages> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn read_at(&self, buf: &mut [u8], at: u64) -> usize {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        for_pages(at, len, |number, range, within| match self.pages.get(&number) {
            Some(page) => buf[range.clone()].copy_from_slice(&page[within..within + range.len()]),
            None => buf[range].fill(0),
        });
        len
    }

    fn write_at(&mut self, buf: &[u8], at: u64) {
        let pages = &mut self.pages;
        for_pages(at, buf.len(), |number, range, within| {
            let page = pages.entry(number).or_insert_with(|| vec![0; PAGE_BYTES].into());
            page[within..within + range.len()].copy_from_slice(&buf[range]);
        });
        if !buf.is_empty() {
            self.size = self.size.max(at + buf.len() as u64);
        }
    }

    fn set_size(&mut self, size: u64) {
        if size < self.size {
            let number = size / PAGE_BYTES as u64;
            let keep = usize::try_from(size % PAGE_BYTES as u64).expect("within a page");
            drop(self.pages.split_off(&(number + u64::from(keep > 0))));
            if let Some(last) = self.pages.get_mut(&number) {
                last[keep..].fill(0);
            }
        }
        self.size = size;
    }
}

impl MemoryFile {
    fn change(&self, end: Option<u64>, change: impl FnOnce(&mut Pages)) -> io::Result<()> {
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::FBIG.into());
        }
        let mut pages = self.contents.0.write().unwrap_or_else(PoisonError::into_inner);
        pages.modified_ms = self.clock.wall().millis();
        change(&mut pages);
        Ok(())
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(self.contents.read().read_at(buf, at))
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(at.checked_add(buf.len() as u64), |pages| pages.write_at(buf, at))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.contents.read().size)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(Some(size), |pages| pages.set_size(size))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        if size == 0 && self.writable {
            return Err(Errno::INVAL.into());
        }
        self.change(Some(size), |pages| pages.size = pages.size.max(size))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows each page that `len` bytes at `at` touch: its number, which of the bytes, and where they begin in it.
fn for_pages(at: u64, len: usize, mut visit: impl FnMut(u64, std::ops::Range<usize>, usize)) {
    let mut done = 0;
    while done < len {
        let here = at + done as u64;
        let within = usize::try_from(here % PAGE_BYTES as u64).expect("within a page");
        let part = (PAGE_BYTES - within).min(len - done);
        visit(here / PAGE_BYTES as u64, done..done + part, within);
        done += part;
    }
}

fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Bytes that a file grows by in memory.
const PAGE_BYTES: usize = 64 << 10;
