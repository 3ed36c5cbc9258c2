//! Blocks in memory: for simulations, tests, and servers that keep nothing.

mod objects;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use host::{Clock, Host};

use self::objects::ObjectMap;
use crate::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Objects, PutError,
    ReadError, Usage,
};

/// A store that lives as long as its process. Reads share the block's memory.
#[derive(Debug)]
pub struct Memory {
    clock: Arc<dyn Clock>,
    blocks: Mutex<BTreeMap<BlockName, Kept>>,
    objects: ObjectMap,
}

/// A block, and beside it what a listing asks for, so that it need not look at the block.
#[derive(Debug)]
struct Kept {
    bytes: u64,
    /// When it was put; milliseconds since 1970.
    modified_ms: i64,
    block: Arc<Block>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store on the real machine's clock.
    pub fn new() -> Self {
        Self::on(&Host::real())
    }

    /// An empty store on the clock of `host`.
    pub fn on(host: &Host) -> Self {
        Self {
            clock: Arc::clone(&host.clock),
            blocks: Mutex::default(),
            objects: ObjectMap::default(),
        }
    }

    fn block(&self, name: BlockName) -> Result<Arc<Block>, ReadError> {
        let blocks = self.blocks();
        blocks.get(&name).map(|kept| Arc::clone(&kept.block)).ok_or(ReadError::Missing { name })
    }

    /// No caller's code runs under the lock, and each change is one call, so a poisoned one is whole.
    fn blocks(&self) -> MutexGuard<'_, BTreeMap<BlockName, Kept>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for Memory {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let name = block.name();
        let modified_ms = self.clock.wall().millis();
        let mut blocks = self.blocks();
        if blocks.contains_key(&name) {
            return Err(PutError::AlreadyExists { name });
        }
        let bytes = block.bytes().len() as u64;
        blocks.insert(name, Kept { bytes, modified_ms, block: Arc::new(block.clone()) });
        Ok(())
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        let block = self.block(name)?;
        let payload = block.payload();
        let within = range.start <= range.end && range.end <= block.footer().payload_len();
        if !within {
            return Err(ReadError::OutOfRange {
                name,
                range,
                payload_len: block.footer().payload_len(),
            });
        }
        Ok(payload.slice(range.start as usize..range.end as usize))
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        Ok(self.block(name)?.footer().clone())
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        Ok(self.blocks().remove(&name).is_some())
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        let listed = |(name, kept): (&BlockName, &Kept)| Listed {
            name: *name,
            bytes: kept.bytes,
            modified_ms: kept.modified_ms,
        };
        let (mut page, mut from) = (Vec::with_capacity(PAGE_BLOCKS), Bound::Unbounded);
        loop {
            page.extend(
                self.blocks().range((from, Bound::Unbounded)).take(PAGE_BLOCKS).map(listed),
            );
            let Some(last) = page.last().map(|listed| listed.name) else { return Ok(()) };
            from = Bound::Excluded(last);
            if page.drain(..).try_for_each(&mut *visit).is_break() {
                return Ok(());
            }
        }
    }

    fn objects(&self) -> &dyn Objects {
        &self.objects
    }

    fn usage(&self) -> Usage {
        let blocks = self.blocks();
        Usage { blocks: blocks.len() as u64, bytes: blocks.values().map(|kept| kept.bytes).sum() }
    }
}

/// Blocks that are listed under one hold of the lock.
const PAGE_BLOCKS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::check_all(&|| Box::new(Memory::new()));
    }
}
