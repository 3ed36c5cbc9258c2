//! The operating system's own disk, clock and randomness.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may ask the system")]

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate, seek, statvfs};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::clock::{Clock, Monotonic, WallTime};
use crate::disk::{DirEntry, DirLock, Disk, File, OpenMode, Space, SystemRun};
use crate::mapping::Mapping;
use crate::random::Random;

#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Create => options.write(true).create(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> =
            path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.sync_dir(parent(dir))?,
            }
        }
        if path.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => {
                    entries.push(DirEntry { name, is_dir: true, bytes: 0, modified_ms: 0 })
                }
                Ok(meta) => entries.push(DirEntry {
                    name,
                    is_dir: false,
                    bytes: meta.len(),
                    modified_ms: meta
                        .mtime()
                        .saturating_mul(1000)
                        .saturating_add(meta.mtime_nsec() / 1_000_000),
                }),
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        Ok(RealLock::take(path)?.map(|lock| -> Box<dyn DirLock> { Box::new(lock) }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = statvfs(path)?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn system_run(&self) -> io::Result<SystemRun> {
        boot_id()
    }
}

/// The kernel's word for this boot: a UUID in text (`proc(5)`, `/proc/sys/kernel/random/boot_id`).
fn boot_id() -> io::Result<SystemRun> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let number = (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
    let number = number.ok_or_else(|| io::Error::other("the kernel's boot id is not a UUID"))?;
    Ok(SystemRun(number.to_be_bytes()))
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        Ok(fallocate(&self.0, FallocateFlags::empty(), 0, size)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        Mapping::new(&self.0, bytes)
    }

    fn will_need(&self, range: Range<u64>) {
        let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) else { return };
        // Only advice: who refuses it reads as without it.
        let _advised = fadvise(&self.0, range.start, Some(len), Advice::WillNeed);
    }

    /// What the system calls data (`lseek(2)`). Room that is reserved and was not written to is none; dirty
    /// pages over it are. This moves the file's cursor, which nobody uses.
    fn next_written(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        Ok(next_data(at, self.size()?, &|to| seek(&self.0, to)))
    }
}

/// The next stretch of a file of `size` bytes that `seek` calls data. A file system that does not say so calls
/// everything data.
fn next_data(
    at: u64,
    size: u64,
    seek: &dyn Fn(SeekFrom) -> Result<u64, Errno>,
) -> Option<Range<u64>> {
    let start = match seek(SeekFrom::Data(at)) {
        Ok(start) => start.max(at),
        Err(Errno::NXIO) => return None,
        Err(_) => at,
    };
    let end = match seek(SeekFrom::Hole(start)) {
        // Pages that were read over room are data until the system lets go of them, which can be now. Were this
        // the end, what lies behind would not be found.
        Ok(end) => end.max(start.saturating_add(1)),
        Err(_) => size,
    };
    (start < end.min(size)).then_some(start..end.min(size))
}

/// An exclusive lock on an open file.
///
/// It is the open file that is locked, not the descriptor, and a process that is just being started has a
/// copy of every descriptor until it executes its program. Closing ours alone would leave the lock
/// with it for that moment. So the lock is given up explicitly. Only who is killed while it starts another
/// process can still leave it behind, until that one executes its program.
#[derive(Debug)]
struct RealLock(fs::File);

impl RealLock {
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // If this fails, closing the file has to do.
        drop(self.0.unlock());
    }
}

impl DirLock for RealLock {}

#[derive(Debug)]
pub(crate) struct RealClock {
    start: Instant,
}

impl RealClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_start(self.start.elapsed())
    }

    fn wall(&self) -> WallTime {
        // A clock before 1970 is read as 1970: nothing here depends on the time of day being right.
        let nanos =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        WallTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn wall_coarse(&self) -> WallTime {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        let nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
        WallTime::from_nanos(nanos.max(0))
    }
}

#[derive(Debug)]
pub(crate) struct RealRandom;

impl Random for RealRandom {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system's random source never fails after boot");
        u64::from_le_bytes(bytes)
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_goes_with_its_guard_also_while_a_copy_of_its_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = RealLock::take(&path).unwrap().unwrap();
        // What a process that is just being started has.
        let copy = lock.0.try_clone().unwrap();
        assert!(RealLock::take(&path).unwrap().is_none());
        drop(lock);
        assert!(RealLock::take(&path).unwrap().is_some());
        drop(copy);
    }

    /// The stretches of a file that were written to.
    fn written(file: &dyn File) -> Vec<Range<u64>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(stretch) = file.next_written(at).unwrap() {
            assert!(at <= stretch.start && stretch.start < stretch.end, "{stretch:?} from {at}");
            at = stretch.end;
            found.push(stretch);
        }
        found
    }

    #[test]
    fn what_is_written_is_found_synced_or_not_and_room_is_not_written() {
        const MIB: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        assert_eq!(written(&*file), []);
        let knows_holes = file.allocate(16 * MIB).is_ok() && written(&*file).is_empty();
        file.set_size(16 * MIB).unwrap();
        let places = [0, 3 * MIB + 5000, 9 * MIB, 16 * MIB - 1];
        for synced in [false, true] {
            if synced {
                file.sync_data().unwrap();
            } else {
                places.iter().for_each(|at| file.write_all_at(&[1], *at).unwrap());
            }
            let found = written(&*file);
            for at in places {
                assert!(found.iter().any(|stretch| stretch.contains(&at)), "{at} {found:?}");
            }
            let bytes: u64 = found.iter().map(|stretch| stretch.end - stretch.start).sum();
            assert!(!knows_holes || bytes < MIB, "{found:?}");
        }
        assert_eq!(file.next_written(16 * MIB).unwrap(), None);
        assert_eq!(file.next_written(u64::MAX).unwrap(), None);
    }

    #[test]
    fn who_does_not_say_what_is_written_calls_all_of_it_written_and_a_page_that_is_let_go_ends_nothing()
     {
        let refuse = |_| Err(Errno::PERM);
        assert_eq!(next_data(5, 100, &refuse), Some(5..100));
        assert_eq!(next_data(100, 100, &refuse), None);
        let no_holes = |to| match to {
            SeekFrom::Data(at) if at < 100 => Ok(at),
            SeekFrom::Data(_) => Err(Errno::NXIO),
            _ => Err(Errno::INVAL),
        };
        assert_eq!(next_data(5, 100, &no_holes), Some(5..100));
        assert_eq!(next_data(100, 100, &no_holes), None);
        let let_go = |_| Ok(40);
        assert_eq!(next_data(5, 100, &let_go), Some(40..41));
        assert_eq!(next_data(5, 30, &let_go), None);
    }

    #[test]
    fn the_coarse_clock_is_at_most_some_ticks_behind() {
        let clock = RealClock::new();
        let before = clock.wall();
        let coarse = clock.wall_coarse();
        // Far more than a tick, so that a slow machine does not matter.
        assert!(coarse.nanos().abs_diff(before.nanos()) < 60_000_000_000);
        assert!(coarse <= clock.wall());
    }
}
