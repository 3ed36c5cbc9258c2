//! The simulated disk as programs see it: counting, faults, room, locks and handles around the tree.
//!
//! Invariant: a handle of an earlier boot fails without effect.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::sim::clock::SimClock;
use crate::sim::image::PAGE_BYTES;
use crate::sim::outcome::{Kept, Lost, Outcome, Seeded};
use crate::sim::tree::{Found, NodeId, Tree};
use crate::sim::{Counts, Reached, lock};
use crate::{Clock, DirEntry, DirLock, Disk, File, OpenMode, Space, SystemRun};

/// Everything about the machine's disk.
#[derive(Clone, Debug)]
pub(super) struct State {
    tree: Tree,
    locks: BTreeSet<NodeId>,
    boot: u64,
    /// Power cuts so far.
    cuts: u64,
    off: bool,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) capacity_bytes: u64,
    pub(super) refuses_allocation: bool,
    /// The state before each operation, while that is wanted.
    moments: Option<Vec<Self>>,
}

/// What is planned to go wrong, by number of operation or sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) crash_at: Option<u64>,
    pub(super) fail_at: BTreeSet<u64>,
    pub(super) ignore_at: BTreeSet<u64>,
    /// A sync, files' and directories' counted together, and how soon after it the power goes.
    pub(super) ignore_sync: Option<(u64, Option<u64>)>,
    pub(super) fail_syncs: BTreeMap<u64, Reached>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            tree: Tree::new(),
            locks: BTreeSet::new(),
            boot: 0,
            cuts: 0,
            off: false,
            faults: Faults::default(),
            counts: Counts::default(),
            capacity_bytes: u64::MAX,
            refuses_allocation: false,
            moments: None,
        }
    }

    pub(super) fn record(&mut self) {
        self.moments = Some(Vec::new());
    }

    pub(super) fn recorded(&mut self) -> Vec<Self> {
        self.moments.take().unwrap_or_default()
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    pub(super) fn crash(&mut self, outcome: &mut dyn Outcome) {
        self.tree.crash(outcome);
        self.faults = Faults::default();
        self.off = false;
        self.cuts += 1;
        self.restart();
    }

    pub(super) fn kill(&mut self) {
        self.tree.close_all();
        self.restart();
    }

    fn restart(&mut self) {
        self.locks.clear();
        self.boot += 1;
    }

    pub(super) fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let live = self.tree.file(self.tree.find_file(path)?)?.live();
        let mut bytes = vec![0; usize::try_from(live.size()).map_err(|_| Errno::FBIG)?];
        live.read(&mut bytes, 0);
        Ok(bytes)
    }

    pub(super) fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.tree.find_file(path)?;
        self.tree.file_mut(file)?.damage(|image| {
            image.resize(0);
            image.write(bytes, 0);
        });
        Ok(())
    }

    pub(super) fn flip_bit(&mut self, path: &Path, bit: u64) -> io::Result<()> {
        let file = self.tree.find_file(path)?;
        let node = self.tree.file_mut(file)?;
        if bit / 8 >= node.live().size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        node.damage(|image| {
            let mut byte = [0];
            image.read(&mut byte, bit / 8);
            image.write(&[byte[0] ^ 1 << (bit % 8)], bit / 8);
        });
        Ok(())
    }

    pub(super) fn spoil(&mut self, path: &Path, at: u64) -> io::Result<()> {
        let file = self.tree.find_file(path)?;
        self.tree.file_mut(file)?.spoil(at);
        Ok(())
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.tree.fingerprint()
    }

    /// How many files and directories are remembered.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.tree.nodes()
    }

    /// Lets a handle of `boot` look.
    fn look(&self, boot: u64) -> io::Result<()> {
        if self.off || boot != self.boot {
            Err(io::Error::other("the machine lost power"))
        } else {
            Ok(())
        }
    }

    /// Lets a handle of `boot` do the next operation, counts it, and lets it fail if that is planned.
    fn operate(&mut self, boot: u64) -> io::Result<()> {
        self.look(boot)?;
        if let Some(mut moments) = self.moments.take() {
            moments.push(self.clone());
            self.moments = Some(moments);
        }
        self.counts.operations += 1;
        if self.faults.crash_at.is_some_and(|at| self.counts.operations >= at) {
            self.off = true;
            return self.look(boot);
        }
        if self.faults.fail_at.remove(&self.counts.operations) {
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    /// Whether the current operation, a sync, is one to leave out.
    fn ignored(&mut self) -> bool {
        let sync = self.counts.syncs + self.counts.dir_syncs;
        if let Some((_, cut)) = self.faults.ignore_sync.take_if(|(planned, _)| *planned == sync) {
            self.faults.crash_at = cut.map(|after| self.counts.operations + after);
            return true;
        }
        self.faults.ignore_at.remove(&self.counts.operations)
    }

    fn available_pages(&self) -> u64 {
        if self.capacity_bytes == u64::MAX {
            return u64::MAX / PAGE_BYTES;
        }
        (self.capacity_bytes / PAGE_BYTES).saturating_sub(self.tree.charged_pages())
    }

    /// How many of `len` bytes at `at` there is room for.
    fn room(&self, file: NodeId, at: u64, len: usize) -> io::Result<usize> {
        if self.capacity_bytes == u64::MAX {
            return Ok(len);
        }
        let node = self.tree.file(file)?;
        let mut available = self.available_pages();
        let end = at + len as u64;
        for page in at / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if node.would_charge(page) {
                if available == 0 {
                    let fits = (page * PAGE_BYTES).max(at) - at;
                    return Ok(usize::try_from(fits).unwrap_or(len));
                }
                available -= 1;
            }
        }
        Ok(len)
    }

    fn write(&mut self, boot: u64, file: NodeId, bytes: &[u8], at: u64) -> io::Result<()> {
        self.operate(boot)?;
        self.counts.writes += 1;
        self.counts.bytes_written += bytes.len() as u64;
        if at.checked_add(bytes.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::FBIG.into());
        }
        let room = self.room(file, at, bytes.len())?;
        self.tree.file_mut(file)?.write(&bytes[..room], at);
        if room < bytes.len() { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    fn allocate(&mut self, boot: u64, file: NodeId, size: u64) -> io::Result<()> {
        self.operate(boot)?;
        if self.refuses_allocation {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let node = self.tree.file(file)?;
        // As the system call refuses an empty range.
        if size == 0 {
            return Err(Errno::INVAL.into());
        }
        if node.would_allocate(size) > self.available_pages() {
            return Err(Errno::NOSPC.into());
        }
        self.tree.file_mut(file)?.allocate(size);
        Ok(())
    }

    fn sync(&mut self, boot: u64, file: NodeId) -> io::Result<()> {
        self.look(boot)?;
        self.counts.syncs += 1;
        let sync = self.counts.syncs;
        self.operate(boot)?;
        if self.ignored() {
            return Ok(());
        }
        let node = self.tree.file_mut(file)?;
        let Some(reached) = self.faults.fail_syncs.remove(&sync) else {
            node.sync();
            return Ok(());
        };
        match reached {
            Reached::Nothing => node.fail_sync(file.0, 512, &mut Lost),
            Reached::Some(seed) => node.fail_sync(file.0, 512, &mut Seeded::new(seed)),
            Reached::Everything => node.fail_sync(file.0, 512, &mut Kept),
        }
        Err(Errno::IO.into())
    }

    fn sync_dir(&mut self, boot: u64, dir: &Path) -> io::Result<()> {
        self.look(boot)?;
        self.counts.dir_syncs += 1;
        self.operate(boot)?;
        let dir = self.tree.find_dir(dir)?;
        if !self.ignored() {
            self.tree.sync_dir(dir);
        }
        Ok(())
    }

    fn open(&mut self, boot: u64, path: &Path, mode: OpenMode, now_ms: i64) -> io::Result<NodeId> {
        self.look(boot)?;
        let file = match (self.tree.find(path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(Errno::EXIST.into()),
            (Ok(Found::Dir(_)), _) => return Err(Errno::ISDIR.into()),
            (Ok(Found::File(file)), _) => file,
            (Err(error), OpenMode::CreateNew | OpenMode::Create)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                self.operate(boot)?;
                let file = self.tree.create_file(path)?;
                self.tree.file_mut(file)?.modified_ms = now_ms;
                file
            }
            (Err(error), _) => return Err(error),
        };
        self.tree.file_mut(file)?.open += 1;
        Ok(file)
    }

    fn close(&mut self, boot: u64, file: NodeId) {
        if boot == self.boot
            && let Ok(node) = self.tree.file_mut(file)
        {
            node.open = node.open.saturating_sub(1);
        }
    }

    fn create_dir_all(&mut self, boot: u64, path: &Path) -> io::Result<()> {
        self.look(boot)?;
        let mut here = PathBuf::new();
        for component in path.components() {
            let parent = here.clone();
            here.push(component);
            match self.tree.find_dir(&here) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.operate(boot)?;
                    self.tree.create_dir(&here)?;
                    self.sync_dir(boot, &parent)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list(&self, boot: u64, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.look(boot)?;
        let entries = self.tree.list(self.tree.find_dir(dir)?)?.into_iter();
        let mut entries: Vec<_> = entries
            .map(|(name, file)| DirEntry {
                name: name.to_string_lossy().into_owned(),
                is_dir: file.is_none(),
                bytes: file.map_or(0, |file| file.live().size()),
                modified_ms: file.map_or(0, |file| file.modified_ms),
            })
            .collect();
        entries.sort();
        Ok(entries)
    }
}

/// The disk from one boot to the next.
#[derive(Debug)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    clock: Arc<SimClock>,
    boot: u64,
}

impl SimDisk {
    pub(super) fn new(state: Arc<Mutex<State>>, clock: Arc<SimClock>, boot: u64) -> Self {
        Self { state, clock, boot }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let now_ms = self.clock.wall().millis();
        let file = lock(&self.state).open(self.boot, path, mode, now_ms)?;
        Ok(Arc::new(SimFile {
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
            boot: self.boot,
            file,
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.state).create_dir_all(self.boot, path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        lock(&self.state).list(self.boot, dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.operate(self.boot)?;
        state.tree.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.operate(self.boot)?;
        state.tree.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.state).sync_dir(self.boot, dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let now_ms = self.clock.wall().millis();
        let mut state = lock(&self.state);
        let file = state.open(self.boot, path, OpenMode::Create, now_ms)?;
        let taken = state.locks.insert(file);
        if !taken {
            state.close(self.boot, file);
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { state: Arc::clone(&self.state), boot: self.boot, file })))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let state = lock(&self.state);
        state.look(self.boot)?;
        state.tree.find(path)?;
        let available_bytes = state.available_pages().saturating_mul(PAGE_BYTES);
        Ok(Space { total_bytes: state.capacity_bytes, available_bytes })
    }

    fn system_run(&self) -> io::Result<SystemRun> {
        let state = lock(&self.state);
        state.look(self.boot)?;
        Ok(SystemRun(u128::from(state.cuts).to_be_bytes()))
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    clock: Arc<SimClock>,
    boot: u64,
    file: NodeId,
    writable: bool,
}

impl SimFile {
    /// Lets `change` at the disk, and notes when the file was changed, if it was.
    fn change(&self, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        let now_ms = self.clock.wall().millis();
        let mut state = lock(&self.state);
        change(&mut state)?;
        state.tree.file_mut(self.file)?.modified_ms = now_ms;
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let state = lock(&self.state);
        state.look(self.boot)?;
        Ok(state.tree.file(self.file)?.read(buf, at).ok_or(Errno::IO)?)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(|state| state.write(self.boot, self.file, buf, at))
    }

    fn size(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        state.look(self.boot)?;
        Ok(state.tree.file(self.file)?.live().size())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(|state| {
            state.operate(self.boot)?;
            if i64::try_from(size).is_err() {
                return Err(Errno::FBIG.into());
            }
            state.tree.file_mut(self.file)?.resize(size);
            Ok(())
        })
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.change(|state| state.allocate(self.boot, self.file, size))
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.state).sync(self.boot, self.file)
    }

    /// As little as can be: only pages that were written to.
    fn next_written(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let state = lock(&self.state);
        state.look(self.boot)?;
        Ok(state.tree.file(self.file)?.live().next_listed(at))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.state).close(self.boot, self.file);
    }
}

#[derive(Debug)]
struct SimLock {
    state: Arc<Mutex<State>>,
    boot: u64,
    file: NodeId,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.close(self.boot, self.file);
        if self.boot == state.boot {
            state.locks.remove(&self.file);
        }
    }
}
