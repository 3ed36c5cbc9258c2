//! What is on this machine's disk alone: which blocks and objects, in which order they came, how many bytes.
//!
//! Pure: the files are somebody else's. An object goes out only when all blocks are uploaded that came before
//! it, so that whoever reads it finds what it names.
//!
//! Invariants: `orders` holds the order of each block of `blocks` that is durable; `bytes` is the sum over blocks and
//! objects, with what was reserved.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::BlockName;
use crate::objects::{ObjectName, Stamp};

/// What happens to a staged block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its upload.
    Waiting,
    /// It is being uploaded.
    Uploading,
    /// It is being deleted.
    Held,
    /// It cannot be uploaded, for this reason.
    Stuck(&'static str),
}

/// A block that is not uploaded yet.
#[derive(Debug)]
pub(crate) struct StagedBlock {
    pub(crate) bytes: u64,
    pub(crate) modified_ms: i64,
    pub(crate) phase: Phase,
    /// Uploads in a row that failed.
    pub(crate) failures: u32,
    /// Whether an upload was ever begun, so that the store may have it.
    pub(crate) tried: bool,
    /// It may be torn after a power cut, and is not uploaded; no object waits for it.
    pub(crate) unsynced: bool,
    order: u64,
}

/// An object that is not uploaded yet.
#[derive(Debug)]
pub(crate) struct StagedObject {
    pub(crate) content: Bytes,
    pub(crate) sealed: Bytes,
    pub(crate) stamp: Stamp,
    pub(crate) failures: u32,
    /// Whether it is in the queue, or on its way.
    pub(crate) asked: bool,
    order: u64,
}

/// The staging area.
#[derive(Debug)]
pub(crate) struct Staging {
    blocks: BTreeMap<BlockName, StagedBlock>,
    objects: BTreeMap<ObjectName, StagedObject>,
    orders: BTreeSet<u64>,
    next: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Staging {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            blocks: BTreeMap::new(),
            objects: BTreeMap::new(),
            orders: BTreeSet::new(),
            next: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// Sets `bytes` aside, if there is room. What is larger than all fits into an empty area.
    pub(crate) fn reserve(&mut self, bytes: u64) -> bool {
        let fits = self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.bytes_max;
        if fits {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        fits
    }

    /// Sets bytes aside that are there already, room or not.
    pub(crate) fn exceed(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Gives back what was set aside.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Adds a block whose bytes were set aside.
    pub(crate) fn add(&mut self, name: BlockName, bytes: u64, modified_ms: i64, tried: bool) {
        self.add_unsynced(name, bytes, modified_ms);
        self.synced(name);
        if let Some(block) = self.blocks.get_mut(&name) {
            block.tried = tried;
        }
    }

    /// The same for one that is not durable yet.
    pub(crate) fn add_unsynced(&mut self, name: BlockName, bytes: u64, modified_ms: i64) {
        let block = StagedBlock {
            bytes,
            modified_ms,
            phase: Phase::Waiting,
            failures: 0,
            tried: false,
            unsynced: true,
            order: u64::MAX,
        };
        self.blocks.insert(name, block);
    }

    /// A block is durable: objects that come from now on wait for its upload. Gives its bytes if it was not durable
    /// before.
    pub(crate) fn synced(&mut self, name: BlockName) -> Option<u64> {
        let block = self.blocks.get_mut(&name).filter(|block| block.unsynced)?;
        block.unsynced = false;
        block.order = self.next;
        self.next += 1;
        self.orders.insert(block.order);
        Some(block.bytes)
    }

    pub(crate) fn blocks(&self) -> &BTreeMap<BlockName, StagedBlock> {
        &self.blocks
    }

    pub(crate) fn block_mut(&mut self, name: BlockName) -> Option<&mut StagedBlock> {
        self.blocks.get_mut(&name)
    }

    /// A block is uploaded, or gone.
    pub(crate) fn remove(&mut self, name: BlockName) {
        if let Some(block) = self.blocks.remove(&name) {
            self.orders.remove(&block.order);
            self.release(block.bytes);
        }
    }

    /// Adds an object, whose bytes were set aside, in place of an earlier one.
    pub(crate) fn add_object(
        &mut self,
        name: ObjectName,
        content: Bytes,
        sealed: Bytes,
        stamp: Stamp,
    ) {
        let order = self.next;
        self.next += 1;
        // One that is on its way finds out that it is not the last.
        let asked = self.objects.get(&name).is_some_and(|object| object.asked);
        let object = StagedObject { content, sealed, stamp, failures: 0, asked, order };
        if let Some(earlier) = self.objects.insert(name, object) {
            self.release(earlier.sealed.len() as u64);
        }
    }

    pub(crate) fn objects(&self) -> &BTreeMap<ObjectName, StagedObject> {
        &self.objects
    }

    pub(crate) fn object_mut(&mut self, name: &ObjectName) -> Option<&mut StagedObject> {
        self.objects.get_mut(name)
    }

    pub(crate) fn remove_object(&mut self, name: &ObjectName) {
        if let Some(object) = self.objects.remove(name) {
            self.release(object.sealed.len() as u64);
        }
    }

    /// Objects that may go out now and are not asked for yet; from now on they are.
    pub(crate) fn ready_objects(&mut self) -> Vec<(ObjectName, u64)> {
        let oldest = self.orders.first().copied().unwrap_or(u64::MAX);
        let mut ready = Vec::new();
        for (name, object) in &mut self.objects {
            if !object.asked && object.order < oldest {
                object.asked = true;
                ready.push((name.clone(), object.sealed.len() as u64));
            }
        }
        ready
    }

    /// Whether the object, which was ready, still is: a later one of its name may have to wait.
    pub(crate) fn is_ready(&self, object: &StagedObject) -> bool {
        self.orders.first().is_none_or(|oldest| object.order < *oldest)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing left.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.objects.is_empty()
    }

    /// Whether there is nothing left that can be uploaded.
    pub(crate) fn is_settled(&self) -> bool {
        let stuck = |block: &StagedBlock| block.unsynced || matches!(block.phase, Phase::Stuck(_));
        let is_stuck = self.blocks.values().any(stuck);
        self.blocks.values().all(stuck) && (self.objects.is_empty() || is_stuck)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: objects wait for exactly the blocks that came before them, and bytes are counted to the last.

    use super::*;

    fn name(counter: u64) -> BlockName {
        BlockName { domain: 1, epoch: 1, counter }
    }

    fn add_object(staging: &mut Staging, name: &str) -> Stamp {
        let stamp = Stamp::new(&*host::Host::real().random);
        let sealed = Bytes::from_static(b"sealed");
        assert!(staging.reserve(6));
        staging.add_object(name.parse().unwrap(), Bytes::new(), sealed, stamp);
        stamp
    }

    fn ready(staging: &mut Staging) -> Vec<String> {
        staging.ready_objects().iter().map(|(name, _)| name.as_str().to_owned()).collect()
    }

    #[test]
    fn an_object_waits_for_the_blocks_before_it_and_for_no_others() {
        let mut staging = Staging::new(1000);
        for counter in [5, 3] {
            assert!(staging.reserve(10));
            staging.add(name(counter), 10, 0, false);
        }
        add_object(&mut staging, "root");
        assert!(staging.reserve(10));
        staging.add(name(1), 10, 0, false);
        assert_eq!(staging.bytes(), 36);
        staging.remove(name(1));
        staging.remove(name(5));
        assert!(ready(&mut staging).is_empty());
        assert!(staging.reserve(10));
        staging.add(name(7), 10, 0, false);
        staging.remove(name(3));
        assert_eq!(ready(&mut staging), ["root"]);
        assert!(ready(&mut staging).is_empty(), "it is asked for once");
        // A later one waits for the later block too, and takes the place of the earlier.
        add_object(&mut staging, "root");
        assert!(!staging.is_ready(&staging.objects()[&"root".parse().unwrap()]));
        staging.remove(name(7));
        assert!(staging.is_ready(&staging.objects()[&"root".parse().unwrap()]));
        assert_eq!(staging.bytes(), 6);
        staging.remove_object(&"root".parse().unwrap());
        assert_eq!(staging.bytes(), 0);
        assert!(staging.is_settled());
    }

    #[test]
    fn bytes_stay_within_the_limit_and_one_large_block_fits_alone() {
        let mut staging = Staging::new(25);
        assert!(staging.reserve(10) && staging.reserve(15));
        assert!(!staging.reserve(1));
        staging.release(25);
        assert!(staging.reserve(1000));
        assert!(!staging.reserve(1));
    }
}
