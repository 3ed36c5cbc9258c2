//! A block store that counts what it is asked, in which something can happen on the way, and that can refuse.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use block_store::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Memory, Objects,
    PutError, ReadError, SyncError, Usage,
};
use bytes::Bytes;
use host::sim::Machine;

use super::options;
use crate::{Options, Strands};

type Happens = Box<dyn FnMut() + Send>;
type Answers = Box<dyn Fn(BlockName) -> Result<(), PutError> + Send + Sync>;
type Syncs = Box<dyn Fn(BlockName) -> Result<(), SyncError> + Send + Sync>;

#[derive(Default)]
pub(super) struct Watched {
    blocks: Memory,
    reads: AtomicU64,
    puts: AtomicU64,
    put_bytes: AtomicU64,
    hinted: Mutex<Vec<BlockName>>,
    /// Called after the bytes of a read were taken, before they are given.
    on_read: Mutex<Option<Happens>>,
    /// Called before a block is put, and refuses it perhaps.
    on_put: Mutex<Option<Arc<Answers>>>,
    /// Called for a block that is synced, and refuses it perhaps.
    on_sync: Mutex<Option<Arc<Syncs>>>,
}

impl Watched {
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    pub(super) fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    /// The blocks that it was told of, in order.
    pub(super) fn hinted(&self) -> Vec<BlockName> {
        self.hinted.lock().unwrap().clone()
    }

    pub(super) fn put_bytes(&self) -> u64 {
        self.put_bytes.load(Ordering::SeqCst)
    }

    pub(super) fn on_put(
        &self,
        answers: impl Fn(BlockName) -> Result<(), PutError> + Send + Sync + 'static,
    ) {
        *self.on_put.lock().unwrap() = Some(Arc::new(Box::new(answers)));
    }

    pub(super) fn on_sync(
        &self,
        answers: impl Fn(BlockName) -> Result<(), SyncError> + Send + Sync + 'static,
    ) {
        *self.on_sync.lock().unwrap() = Some(Arc::new(Box::new(answers)));
    }

    /// Loses every block.
    pub(super) fn forget_all(&self) {
        let mut names = Vec::new();
        let collect = &mut |listed: Listed| {
            names.push(listed.name);
            ControlFlow::Continue(())
        };
        self.blocks.list(collect).unwrap();
        self.blocks.delete_many(&names).unwrap();
    }

    pub(super) fn on_read(&self, happens: impl FnMut() + Send + 'static) {
        *self.on_read.lock().unwrap() = Some(Box::new(happens));
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl BlockStore for Watched {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let answers = self.on_put.lock().unwrap().clone();
        if let Some(answers) = answers {
            answers(block.name())?;
        }
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.put_bytes.fetch_add(block.bytes().len() as u64, Ordering::SeqCst);
        self.blocks.put(block)
    }

    fn sync(&self, names: &[BlockName]) -> Result<(), SyncError> {
        let answers = self.on_sync.lock().unwrap().clone();
        answers.map_or(Ok(()), |answers| names.iter().try_for_each(|name| answers(*name)))
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let bytes = self.blocks.read(name, range);
        let happens = self.on_read.lock().unwrap().take();
        if let Some(mut happens) = happens {
            happens();
            self.on_read.lock().unwrap().get_or_insert(happens);
        }
        bytes
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

    fn hint(&self, names: &[BlockName]) {
        self.hinted.lock().unwrap().extend(names);
    }

    fn objects(&self) -> &dyn Objects {
        self.blocks.objects()
    }

    fn usage(&self) -> Usage {
        self.blocks.usage()
    }
}

/// A fresh data path on a simulated disk over such a store.
pub(super) fn watched(options: Options) -> (Strands, Arc<Watched>) {
    watched_on(&Machine::new(1), options)
}

/// The same on this machine.
pub(super) fn watched_on(machine: &Machine, options: Options) -> (Strands, Arc<Watched>) {
    let store = Arc::new(Watched::default());
    let blocks = Arc::clone(&store) as Arc<dyn BlockStore>;
    let meta = Arc::new(meta_store::Memory::new());
    let host = machine.host();
    let strands = Strands::open(host, Path::new("/journal"), meta, blocks, options).unwrap();
    (strands, store)
}

/// The usual options with so much cache.
pub(super) fn with_cache(cache_bytes: u64) -> Options {
    Options { cache_bytes, ..options() }
}
