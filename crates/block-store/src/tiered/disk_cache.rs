//! Blocks that the remote store has, kept on this machine's disk: one file each.
//!
//! Nothing here is synced: a file that a kill or a power cut left in pieces does not pass its checksums, is
//! removed, and its block fetched again. `NAME.tmp` is written and renamed, so only a power cut tears.
//!
//! The disk belongs to others first: the cache shrinks where less than a reserve would be left free.
//!
//! Invariants: the files together are never larger than the limit, but for one that is being written; the
//! index names each whole file. After a start, the order of use is the order in which files were written.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use host::{Disk, Host, OpenMode};

use crate::files::{BlockFiles, Found};
use crate::recent::Recent;
use crate::{Block, BlockName, Footer, Listed, OpenError, ReadError};

/// The cache.
#[derive(Debug)]
pub(super) struct DiskCache {
    disk: Arc<dyn Disk>,
    files: BlockFiles,
    index: Mutex<Recent<BlockName, ()>>,
    /// Held while files come and go.
    filling: Mutex<()>,
    damaged: AtomicU64,
    dir: PathBuf,
    free_bytes_min: u64,
}

impl DiskCache {
    /// The cache in `dir`, made if it is missing, of at most `bytes_max` bytes, which leaves `free_bytes_min`, or
    /// an eighth of a small disk, free. What is too much is removed.
    pub(super) fn open(
        host: &Host,
        dir: &Path,
        bytes_max: u64,
        free_bytes_min: u64,
    ) -> Result<Self, OpenError> {
        let disk = Arc::clone(&host.disk);
        let refused = |source| OpenError::Io { path: dir.into(), source };
        disk.create_dir_all(dir).map_err(refused)?;
        let cache = Self {
            files: BlockFiles::new(&disk, dir),
            disk,
            index: Mutex::new(Recent::new(bytes_max)),
            filling: Mutex::new(()),
            damaged: AtomicU64::new(0),
            dir: dir.into(),
            free_bytes_min,
        };
        let (mut found, mut leftovers) = (Vec::new(), Vec::new());
        let walked = cache.files.walk(&mut |path, what| {
            match what {
                Found::Block(listed) => found.push(listed),
                Found::Unsynced(_) | Found::Leftover => leftovers.push(path),
                Found::Stranger => {
                    tracing::warn!(path = %path.display(), "not a block; left alone");
                }
            }
            ControlFlow::Continue(())
        });
        walked.map_err(|(path, source)| OpenError::Io { path, source })?;
        leftovers.iter().for_each(|path| cache.unlink(path));
        found.sort_unstable_by_key(|listed| (listed.modified_ms, listed.name));
        for Listed { name, bytes, .. } in found {
            cache.index().insert(name, (), bytes);
        }
        cache.make_room(0);
        cache.leave_free(0);
        Ok(cache)
    }

    pub(super) fn is_on(&self) -> bool {
        self.index().cost_max() > 0
    }

    pub(super) fn contains(&self, name: BlockName) -> bool {
        self.index().contains(name)
    }

    /// Blocks and their bytes.
    pub(super) fn usage(&self) -> (u64, u64) {
        let index = self.index();
        (index.len() as u64, index.cost())
    }

    /// Blocks that did not pass their checksums.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// `range` of a block's payload, if the block is here and whole; the range may be out of it.
    pub(super) fn read(
        &self,
        name: BlockName,
        range: &Range<u32>,
    ) -> Option<Result<Bytes, ReadError>> {
        self.index().get(name)?;
        self.usable(name, self.files.read(name, range.clone()))
    }

    /// A block's footer, if the block is here and that is whole.
    pub(super) fn footer(&self, name: BlockName) -> Option<Result<Footer, ReadError>> {
        self.index().get(name)?;
        self.usable(name, self.files.footer(name))
    }

    fn usable<T>(
        &self,
        name: BlockName,
        read: Result<T, ReadError>,
    ) -> Option<Result<T, ReadError>> {
        match read {
            Ok(_) | Err(ReadError::OutOfRange { .. }) => Some(read),
            // It gave way a moment ago.
            Err(ReadError::Missing { .. }) => {
                self.remove(name);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a block in the cache is fetched again");
                self.damaged.fetch_add(1, Ordering::Relaxed);
                self.remove(name);
                None
            }
        }
    }

    /// Keeps a block. What the disk refuses is not kept.
    pub(super) fn put(&self, block: &Block) {
        let name = block.name();
        let bytes = block.bytes().len() as u64;
        let path = self.files.path(name);
        let temp = path.with_extension("tmp");
        self.fill(name, bytes, bytes, || {
            let file = self.disk.open(&temp, OpenMode::Create)?;
            file.set_size(0)?;
            let written = file.write_all_at(block.bytes(), 0);
            written
                .and_then(|()| self.disk.rename(&temp, &path))
                .inspect_err(|_| self.unlink(&temp))
        });
    }

    /// Takes over the file of a block; says whether it did.
    pub(super) fn take(&self, name: BlockName, bytes: u64, from: &Path) -> bool {
        self.fill(name, bytes, 0, || self.disk.rename(from, &self.files.path(name)))
    }

    /// Keeps a block of `bytes` bytes, whose file `work` makes; that takes `more` of the disk.
    fn fill(
        &self,
        name: BlockName,
        bytes: u64,
        more: u64,
        work: impl FnOnce() -> io::Result<()>,
    ) -> bool {
        // Whoever panicked left a temporary file at worst.
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > self.index().cost_max() || self.contains(name) {
            return false;
        }
        self.make_room(bytes);
        if !self.leave_free(more) {
            return false;
        }
        let done = self.disk.create_dir_all(&self.files.folder(name)).and_then(|()| work());
        match done {
            Ok(()) => {
                self.index().insert(name, (), bytes);
                true
            }
            Err(error) => {
                tracing::warn!(block = %name, %error, "a block is not kept in the cache");
                false
            }
        }
    }

    fn make_room(&self, bytes: u64) {
        loop {
            let Some((name, ())) = self.index().evict_for(bytes) else { return };
            self.files.forget(name);
            self.unlink(&self.files.path(name));
        }
    }

    /// Shrinks until the reserve is free beside `more` bytes; says whether it is.
    fn leave_free(&self, more: u64) -> bool {
        loop {
            // A disk that does not say how full it is does not hinder.
            let Ok(space) = self.disk.space(&self.dir) else { return true };
            let reserve = self.free_bytes_min.min(space.total_bytes / 8);
            if space.available_bytes >= reserve.saturating_add(more) {
                return true;
            }
            let Some((name, ())) = self.index().evict_for(u64::MAX) else { return false };
            self.files.forget(name);
            self.unlink(&self.files.path(name));
        }
    }

    /// Forgets a block and removes its file.
    pub(super) fn remove(&self, name: BlockName) {
        let was_there = self.index().remove(name).is_some();
        if was_there {
            self.files.forget(name);
            self.unlink(&self.files.path(name));
        }
    }

    fn unlink(&self, path: &Path) {
        match self.disk.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file of the cache stays");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Nothing under the lock panics but for want of memory.
    fn index(&self) -> MutexGuard<'_, Recent<BlockName, ()>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the cache keeps what was used last within its limit, over restarts and kills, and never hands out
    //! what was damaged. Method: the simulated disk.

    use std::time::Duration;

    use host::sim::{Lost, Machine};

    use super::*;
    use crate::conformance::sample;

    const DIR: &str = "/cache";

    fn open(machine: &Machine, bytes_max: u64) -> DiskCache {
        DiskCache::open(&machine.host(), Path::new(DIR), bytes_max, 100 << 10).unwrap()
    }

    fn read(cache: &DiskCache, block: &Block) -> Option<Bytes> {
        cache.read(block.name(), &(0..1000)).map(Result::unwrap)
    }

    fn blocks(n: u64) -> Vec<Block> {
        (0..n).map(|counter| sample(counter, &[1000])).collect()
    }

    #[test]
    fn what_was_used_last_is_kept_within_the_limit_and_over_a_restart() {
        let machine = Machine::new(1);
        let blocks = blocks(5);
        let one = blocks[0].bytes().len() as u64;
        let cache = open(&machine, 3 * one);
        for block in &blocks[..3] {
            machine.advance(Duration::from_secs(1));
            cache.put(block);
        }
        assert_eq!(read(&cache, &blocks[0]), Some(blocks[0].payload()));
        machine.advance(Duration::from_secs(1));
        cache.put(&blocks[3]);
        let kept =
            |cache: &DiskCache| blocks.iter().map(|b| cache.contains(b.name())).collect::<Vec<_>>();
        assert_eq!(kept(&cache), [true, false, true, true, false]);
        assert_eq!(cache.usage(), (3, 3 * one));
        machine.kill();
        let cache = open(&machine, 2 * one);
        assert_eq!(kept(&cache), [false, false, true, true, false], "by when they were written");
        assert_eq!(read(&cache, &blocks[3]), Some(blocks[3].payload()));
        assert_eq!(read(&cache, &blocks[1]), None);
        cache.put(&sample(9, &[5000]));
        assert_eq!(cache.usage().0, 2, "what is larger than the cache is not kept");
    }

    #[test]
    fn a_power_cut_leaves_whole_blocks_or_none() {
        for seed in 0..200 {
            let machine = Machine::new(1);
            let blocks = blocks(4);
            let cache = open(&machine, 1 << 20);
            blocks.iter().for_each(|block| cache.put(block));
            machine.crash_seeded(seed);
            let cache = open(&machine, 1 << 20);
            for block in &blocks {
                let found = read(&cache, block);
                assert!(found.is_none_or(|found| found == block.payload()), "seed {seed}");
                cache.put(block);
                assert_eq!(read(&cache, block), Some(block.payload()), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_damaged_block_is_dropped_and_can_be_kept_again() {
        let machine = Machine::new(1);
        let cache = open(&machine, 1 << 20);
        let block = sample(1, &[1000]);
        cache.put(&block);
        machine.flip_bit(&cache.files.path(block.name()), 500 * 8).unwrap();
        assert_eq!(read(&cache, &block), None);
        assert_eq!((cache.damaged(), cache.usage()), (1, (0, 0)));
        cache.put(&block);
        assert_eq!(read(&cache, &block), Some(block.payload()));
    }

    #[test]
    fn the_cache_gives_way_when_the_disk_fills_up() {
        let machine = Machine::new(1);
        machine.fill_up(1 << 20);
        let cache = open(&machine, 1 << 30);
        for counter in 0..100 {
            cache.put(&sample(counter, &[20_000]));
        }
        let free = || machine.host().disk.space(Path::new(DIR)).unwrap().available_bytes;
        assert!((100 << 10..150 << 10).contains(&free()), "{} are free", free());
        assert!(cache.contains(sample(99, &[1]).name()), "the latest is kept");
        let other = machine.host().disk.open(Path::new("/other"), OpenMode::Create).unwrap();
        other.write_all_at(&[1; 90 << 10], 0).unwrap();
        cache.put(&sample(200, &[20_000]));
        assert!(free() >= 100 << 10);
        // Others may take all of it.
        other.write_all_at(&vec![1; 190 << 10], 0).unwrap();
        other.write_all_at(&vec![1; 90 << 10], 190 << 10).unwrap_err();
        assert!(cache.contains(sample(200, &[1]).name()));
        cache.put(&sample(201, &[20_000]));
        assert!(free() >= 100 << 10);
    }

    #[test]
    fn a_full_disk_and_a_cache_of_nothing_are_no_errors() {
        let machine = Machine::new(1);
        let cache = open(&machine, 1 << 20);
        machine.fill_up(4096);
        let block = sample(1, &[20_000]);
        cache.put(&block);
        assert!(!cache.contains(block.name()));
        machine.fill_up(u64::MAX);
        cache.put(&block);
        assert!(cache.contains(block.name()));
        machine.crash(&mut Lost);
        let none = open(&machine, 0);
        none.put(&block);
        assert!(!none.is_on() && !none.contains(block.name()));
    }
}
