//! Goal: whatever is written (journalled or placed), cut, removed, evicted, packed and read while the block
//! store fails, loses its answers and takes no blocks, and the power goes: a read gives the bytes that the
//! model has, or an error; and what was acknowledged as durable is there.
//!
//! Method: seeded random steps on the simulated disk beside a map of bytes, over a store whose every call
//! may fail by seed; once with blocks on the same disk, once with blocks in memory that outlives the machine,
//! as a remote store does. The cache is small, so that bytes are evicted all the time.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use block_store::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Memory, Objects,
    PutError, ReadError, SyncError, Usage,
};
use bytes::Bytes;
use host::sim::Machine;

use super::Model;
use super::power_cut::{Synced, check_survivors, directory, live_checked, open_over, steps};
use super::watched::with_cache;
use crate::{StrandId, Strands};

/// A store that fails by seed.
struct Stormy {
    blocks: Arc<dyn BlockStore>,
    random: AtomicU64,
    is_calm: AtomicBool,
    /// Calls that failed.
    failed: AtomicU64,
}

impl Stormy {
    fn over(blocks: Arc<dyn BlockStore>, seed: u64) -> Arc<Self> {
        let random = AtomicU64::new(seed);
        Arc::new(Self {
            blocks,
            random,
            is_calm: AtomicBool::new(false),
            failed: AtomicU64::new(0),
        })
    }

    /// A number below `of`, by which the weather is told; `of` itself when it is good.
    fn happens(&self, of: u64) -> u64 {
        if self.is_calm.load(Ordering::SeqCst) {
            return of;
        }
        let next = |random: u64| random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
        let random =
            self.random.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |r| Some(next(r)));
        let drawn = (random.unwrap() >> 35) % of;
        for _ in 0..drawn % 3 {
            std::thread::yield_now();
        }
        drawn
    }

    fn put_in_weather(
        &self,
        name: BlockName,
        put: impl FnOnce() -> Result<(), PutError>,
    ) -> Result<(), PutError> {
        match self.happens(8) {
            0 => Err(PutError::Io { name, source: self.error() }),
            // It is stored, and the answer is lost.
            1 => put().and_then(|()| Err(PutError::Io { name, source: self.error() })),
            2 => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                Err(PutError::Full { name })
            }
            _ => put(),
        }
    }

    fn error(&self) -> std::io::Error {
        self.failed.fetch_add(1, Ordering::SeqCst);
        std::io::Error::other("a storm")
    }
}

impl fmt::Debug for Stormy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stormy").finish_non_exhaustive()
    }
}

impl BlockStore for Stormy {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        self.put_in_weather(block.name(), || self.blocks.put(block))
    }

    fn put_unsynced(&self, block: &Block) -> Result<(), PutError> {
        self.put_in_weather(block.name(), || self.blocks.put_unsynced(block))
    }

    fn sync(&self, names: &[BlockName]) -> Result<(), SyncError> {
        if let Some(name) = names.first().filter(|_| self.happens(24) == 0) {
            return Err(SyncError::Io { name: *name, source: self.error() });
        }
        self.blocks.sync(names)
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        if self.happens(6) == 0 {
            return Err(ReadError::Io { name, source: self.error() });
        }
        self.blocks.read(name, range)
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        self.blocks.footer(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        self.blocks.delete(name)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        self.blocks.list(visit)
    }

    fn objects(&self) -> &dyn Objects {
        self.blocks.objects()
    }

    fn usage(&self) -> Usage {
        self.blocks.usage()
    }
}

/// Each strand reads as the model says, or not at all, and then because the store failed.
fn check_reads(strands: &Strands, model: &Model, store: &Stormy, machine: &Machine) {
    for (id, want) in &model.strands {
        let before = store.failed.load(Ordering::SeqCst);
        let len = u32::try_from(want.len()).unwrap();
        match strands.read_blocking(StrandId::from_raw(*id), 0, len) {
            Ok(bytes) => assert!(bytes == want, "strand {id} differs"),
            Err(error) => {
                let has_failed = store.failed.load(Ordering::SeqCst) > before;
                assert!(has_failed || machine.is_off(), "{error}");
            }
        }
    }
}

/// Opens the store below the storm.
type Opens = dyn Fn(&Machine) -> Result<Arc<dyn BlockStore>, String>;

/// Three lives, each ended by a power cut.
fn live_through(seed: u64, blocks: &Opens) -> u64 {
    let machine = Machine::new(seed);
    let mut meta = Arc::new(Synced::default());
    let mut state = (0, Model::default());
    let mut failed = 0;
    for cut in 0..3 {
        println!("seed {seed}, power cut {cut}");
        let store = Stormy::over(blocks(&machine).unwrap(), seed * 31 + cut);
        let options = with_cache(if seed.is_multiple_of(2) { 40 << 10 } else { 400 << 10 });
        let over = Arc::clone(&store) as Arc<dyn BlockStore>;
        let strands = open_over(&machine, &meta, over, options.clone()).unwrap();
        machine.crash_at(machine.counts().operations + 40 + (seed * 7 + cut * 31) % 300);
        let excused = |_: &_| machine.is_off() || store.failed.load(Ordering::SeqCst) > 0;
        let check = |strands: &Strands, model: &Model| {
            check_reads(strands, model, &store, &machine);
        };
        let life = live_checked(&strands, state, &steps(seed * 10 + cut), &excused, &check);
        failed += store.failed.load(Ordering::SeqCst);
        drop(strands);
        machine.crash_seeded(seed + cut);
        meta = meta.after_power_cut();
        let strands = open_over(&machine, &meta, blocks(&machine).unwrap(), options).unwrap();
        state = check_survivors(&strands, &life);
        drop(strands);
    }
    failed
}

#[test]
fn storms_over_a_directory_lose_nothing() {
    let failed: u64 = (0..25).map(|seed| live_through(seed, &directory)).sum();
    assert!(failed > 100, "{failed} calls failed");
}

#[test]
fn storms_over_memory_lose_nothing() {
    let failed = (100..125).map(|seed| {
        let blocks: Arc<dyn BlockStore> = Arc::new(Memory::new());
        live_through(seed, &move |_| Ok(Arc::clone(&blocks)))
    });
    let failed: u64 = failed.sum();
    assert!(failed > 100, "{failed} calls failed");
}
