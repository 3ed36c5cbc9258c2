//! Blocks in memory: for simulations, tests, and servers that keep nothing.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, PutError, ReadError, Usage,
};

/// A store that lives as long as its process. Reads share the block's memory.
#[derive(Debug, Default)]
pub struct Memory {
    blocks: Mutex<BTreeMap<BlockName, Block>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn block(&self, name: BlockName) -> Result<Block, ReadError> {
        self.blocks().get(&name).cloned().ok_or(ReadError::Missing { name })
    }

    /// No caller's code runs under the lock, and each change is one call, so a poisoned one is whole.
    fn blocks(&self) -> MutexGuard<'_, BTreeMap<BlockName, Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for Memory {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let name = block.name();
        let mut blocks = self.blocks();
        if blocks.contains_key(&name) {
            return Err(PutError::AlreadyExists { name });
        }
        blocks.insert(name, block.clone());
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

    fn list(
        &self,
        visit: &mut dyn FnMut(BlockName, u64) -> ControlFlow<()>,
    ) -> Result<(), ListError> {
        let names: Vec<_> =
            self.blocks().iter().map(|(name, block)| (*name, block.bytes().len() as u64)).collect();
        let _stopped = names.into_iter().try_for_each(|(name, bytes)| visit(name, bytes));
        Ok(())
    }

    fn usage(&self) -> Usage {
        let blocks = self.blocks();
        Usage {
            blocks: blocks.len() as u64,
            bytes: blocks.values().map(|block| block.bytes().len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::check_all(&|| Box::new(Memory::new()));
    }
}
