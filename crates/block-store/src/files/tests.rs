//! Goal: a read asks the disk for no more than it has to, and gives out nothing that it did not check.
//!
//! Method: a disk that counts what is read of its files, blocks changed behind the store's back, and random ranges.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use host::{DirEntry, DirLock, Disk, File, Host, OpenMode, Space, SystemRun};
use proptest::prelude::*;

use super::*;
use crate::conformance::sample;
use crate::{Block, BlockStore, Directory};

#[derive(Debug, Default)]
struct Counts {
    opens: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
    announced: AtomicU64,
}

#[derive(Debug)]
struct CountedDisk {
    disk: Arc<dyn Disk>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn File>,
    counts: Arc<Counts>,
}

impl Disk for CountedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.counts.opens.fetch_add(1, Ordering::SeqCst);
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(CountedFile { file, counts: Arc::clone(&self.counts) }))
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

impl File for CountedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.counts.reads.fetch_add(1, Ordering::SeqCst);
        let read = self.file.read_at(buf, at)?;
        self.counts.bytes.fetch_add(read as u64, Ordering::SeqCst);
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
        self.file.sync_data()
    }

    fn will_need(&self, range: Range<u64>) {
        self.counts.announced.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.file.will_need(range);
    }
}

/// A store with one block, on a disk that counts.
struct Lab {
    _dir: tempfile::TempDir,
    host: Host,
    counts: Arc<Counts>,
    store: Directory,
    block: Block,
}

impl Lab {
    fn new(len: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::real();
        let counts = Arc::new(Counts::default());
        let disk = Arc::clone(&host.disk);
        host.disk = Arc::new(CountedDisk { disk, counts: Arc::clone(&counts) });
        let store = Directory::open(&host, &dir.path().join("blocks")).unwrap();
        let block = sample(1, &[len]);
        store.put(&block).unwrap();
        Self { _dir: dir, host, counts, store, block }
    }

    /// Files opened, reads of files and their bytes while `range` was read and found right.
    fn cost(&self, range: Range<u32>) -> (u64, u64, u64) {
        let counted = || {
            let counts = [&self.counts.opens, &self.counts.reads, &self.counts.bytes];
            counts.map(|count| count.load(Ordering::SeqCst))
        };
        let before = counted();
        let read = self.store.read(self.block.name(), range.clone()).unwrap();
        let after = counted();
        assert!(read == self.block.payload().slice(range.start as usize..range.end as usize));
        (after[0] - before[0], after[1] - before[1], after[2] - before[2])
    }

    fn flip(&self, at: u64) {
        let path = self.store.path_of(self.block.name());
        let file = self.host.disk.open(&path, OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

const KIB: u32 = 1 << 10;

#[test]
fn a_small_read_of_a_chunk_that_was_checked_before_reads_its_pages_alone() {
    let lab = Lab::new(1000 * KIB);
    let (opens, _, bytes) = lab.cost(100 * KIB..104 * KIB);
    assert!(opens == 1 && bytes > u64::from(64 * KIB), "{opens} {bytes}");
    let page = u64::from(4 * KIB);
    assert_eq!(lab.cost(100 * KIB..104 * KIB), (0, 1, page));
    assert_eq!(lab.cost(64 * KIB..65 * KIB), (0, 1, page));
    assert_eq!(lab.cost(70 * KIB - 1..77 * KIB), (0, 1, 3 * page));
    // The next chunk was not looked at yet.
    assert_eq!(lab.cost(126 * KIB..130 * KIB), (0, 1, 32 * page));
    assert_eq!(lab.cost(126 * KIB..130 * KIB), (0, 1, 2 * page));
    // The last chunk and its last page are short.
    lab.cost(999 * KIB..1000 * KIB);
    assert_eq!(lab.cost(999 * KIB..1000 * KIB), (0, 1, page));
}

#[test]
fn a_large_read_reads_each_byte_once() {
    let lab = Lab::new(4096 * KIB);
    lab.cost(0..1);
    assert_eq!(lab.cost(0..4096 * KIB), (0, 32, 4 << 20));
    assert_eq!(lab.cost(64 * KIB..4096 * KIB), (0, 32, 4032 << 10));
}

#[test]
fn what_is_damaged_after_it_was_checked_is_found_by_the_next_read_of_its_page() {
    let lab = Lab::new(200 * KIB);
    lab.cost(0..1);
    let at = 32 + u64::from(9 * KIB);
    lab.flip(at);
    assert_eq!(lab.cost(0..8 * KIB).0, 0);
    assert_eq!(lab.cost(12 * KIB..20 * KIB).0, 0);
    let damaged = lab.store.read(lab.block.name(), 11 * KIB..12 * KIB).unwrap_err();
    assert!(matches!(damaged, ReadError::Damaged { at: 8_224, .. }), "{damaged}");
    let damaged = lab.store.read(lab.block.name(), 0..200 * KIB).unwrap_err();
    assert!(matches!(damaged, ReadError::Damaged { at: 32, .. }), "{damaged}");
    lab.flip(at);
    lab.cost(0..200 * KIB);
}

#[test]
fn a_hint_announces_the_payload_and_reads_none_of_it() {
    let lab = Lab::new(4096 * KIB);
    let stranger = BlockName { counter: 77, ..lab.block.name() };
    let before = lab.counts.bytes.load(Ordering::SeqCst);
    lab.store.hint(&[lab.block.name(), stranger]);
    assert_eq!(lab.counts.announced.load(Ordering::SeqCst), 4 << 20);
    assert!(lab.counts.bytes.load(Ordering::SeqCst) - before < 8 << 10);
    // The file is open now, and its footer known.
    assert_eq!(lab.cost(0..4096 * KIB), (0, 32, 4 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn any_ranges_in_any_order_are_the_payload(
        len in 1..300_000_u32, ranges in prop::collection::vec((any::<prop::sample::Index>(), 1..60_000_u32), 1..60),
    ) {
        let lab = Lab::new(len);
        for (start, bytes) in ranges {
            let start = u32::try_from(start.index(len as usize)).unwrap();
            lab.cost(start..start.saturating_add(bytes).min(len));
        }
    }
}
