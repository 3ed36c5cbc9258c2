//! Goal: of two servers on one store one is refused, or stops writing to it, and says why; a store that is away keeps
//! nobody from starting.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block_store::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Memory,
    ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError, Objects, PutError, PutIf,
    ReadError, Usage, Version,
};
use bytes::Bytes;
use host::Host;
use host::sim::Machine;

use super::power_cut::Synced;
use super::{ROWS, options};
use crate::{Commit, CommitError, OpenError, Options, OwnerError, StoreId, Strands};

/// A store in memory, whose small objects can be away.
#[derive(Debug)]
pub(super) struct Away {
    blocks: Memory,
    away: AtomicBool,
}

impl Away {
    pub(super) fn new(host: &Host, away: bool) -> Self {
        Self { blocks: Memory::on(host), away: away.into() }
    }

    fn is_away(&self) -> Option<String> {
        self.away.load(Ordering::Acquire).then(|| "gone fishing".to_owned())
    }
}

impl BlockStore for Away {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        self.blocks.put(block)
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
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
        self
    }

    fn usage(&self) -> Usage {
        self.blocks.usage()
    }
}

impl Objects for Away {
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError> {
        match self.is_away() {
            Some(why) => Err(ObjectGetError::Away { name: name.to_owned(), why }),
            None => self.blocks.objects().get(name),
        }
    }

    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError> {
        match self.is_away() {
            Some(why) => Err(ObjectPutError::Away { name: name.to_owned(), why }),
            None => self.blocks.objects().put(name, bytes, condition),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError> {
        match self.is_away() {
            Some(why) => Err(ObjectListError::Away { prefix: prefix.to_owned(), why }),
            None => self.blocks.objects().list(prefix),
        }
    }

    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError> {
        match self.is_away() {
            Some(why) => Err(ObjectDeleteError::Away { name: name.to_owned(), why }),
            None => self.blocks.objects().delete(name),
        }
    }
}

/// A data directory.
struct Node {
    dir: &'static str,
    meta: Arc<Synced>,
    options: Options,
}

impl Node {
    fn new(dir: &'static str, id: u8) -> Self {
        let options = Options { store_id: StoreId([id; 16]), ..options() };
        Self { dir, meta: Arc::default(), options }
    }

    fn open(&self, machine: &Machine, blocks: &Arc<Away>) -> Result<Strands, OpenError> {
        let (meta, blocks) = (Arc::clone(&self.meta), Arc::clone(blocks));
        Strands::open(machine.host(), Path::new(self.dir), meta, blocks, self.options.clone())
    }
}

fn put(strands: &Strands) {
    let mut commit = Commit::new();
    commit.put(ROWS, &b"k"[..], &b"v"[..]);
    strands.commit(commit).unwrap().wait_durable().unwrap();
}

fn owned_by_another(error: &OpenError) -> bool {
    matches!(error, OpenError::Owner(OwnerError::Another { .. }))
}

#[test]
fn a_store_of_another_data_directory_is_refused_unless_it_is_taken_over() {
    let machine = Machine::new(1);
    let blocks = Arc::new(Away::new(&machine.host(), false));
    let (one, mut other) = (Node::new("/one", 1), Node::new("/other", 2));
    let first = one.open(&machine, &blocks).unwrap();
    let error = other.open(&machine, &blocks).unwrap_err();
    assert!(owned_by_another(&error), "{error}");
    assert!(error.to_string().contains("01010101010101010101010101010101"), "{error}");
    other.options.take_over = true;
    let second = other.open(&machine, &blocks).unwrap();
    put(&second);
    second.pack_now().unwrap();
    // The first one notices before it puts a root, and writes nothing more.
    put(&first);
    let count = blocks.usage().blocks;
    for _ in 0..2 {
        assert!(
            matches!(first.pack_now(), Err(CommitError::Failed(why)) if why.contains("belongs to"))
        );
    }
    assert!(blocks.usage().blocks <= count + 1, "what was packed before it looked");
    drop(first);
    let error = one.open(&machine, &blocks).unwrap_err();
    assert!(owned_by_another(&error), "{error}");
}

#[test]
fn a_copy_of_a_data_directory_fences_the_original_and_cannot_be_opened_beside_a_later_one() {
    let machine = Machine::new(1);
    let blocks = Arc::new(Away::new(&machine.host(), false));
    let node = Node::new("/one", 1);
    drop(node.open(&machine, &blocks).unwrap());
    let strands = node.open(&machine, &blocks).unwrap();
    let elsewhere = machine.fork();
    elsewhere.kill();
    let copy = Node { meta: node.meta.after_power_cut(), ..Node::new("/one", 1) };
    let older = Node { meta: node.meta.after_power_cut(), ..Node::new("/one", 1) };
    let still_older = machine.fork();
    still_older.kill();
    // No two machines draw the same numbers.
    still_older.host().random.next_u64();
    let later = copy.open(&elsewhere, &blocks).unwrap();
    put(&later);
    later.pack_now().unwrap();
    put(&strands);
    assert!(
        matches!(strands.pack_now(), Err(CommitError::Failed(why)) if why.contains("a copy of"))
    );
    let error = older.open(&still_older, &blocks).unwrap_err();
    assert!(matches!(error, OpenError::Owner(OwnerError::Copy { .. })), "{error}");
}

#[test]
fn a_store_that_is_away_at_the_start_is_taken_before_the_first_root() {
    let machine = Machine::new(1);
    let blocks = Arc::new(Away::new(&machine.host(), true));
    let node = Node::new("/one", 1);
    let strands = node.open(&machine, &blocks).unwrap();
    put(&strands);
    strands.pack_now().unwrap();
    assert!(strands.status().root_error.unwrap().contains("gone fishing"));
    blocks.away.store(false, Ordering::Release);
    strands.pack_now().unwrap();
    assert_eq!(strands.status().root_error, None);
    assert_eq!(blocks.objects().list("roots/").unwrap().len(), 1);
    let error = Node::new("/other", 2).open(&machine, &blocks).unwrap_err();
    assert!(owned_by_another(&error), "{error}");
}

#[test]
fn an_owner_that_cannot_be_read_is_not_overwritten() {
    let machine = Machine::new(1);
    let blocks = Arc::new(Away::new(&machine.host(), false));
    let mut node = Node::new("/one", 1);
    drop(node.open(&machine, &blocks).unwrap());
    let (good, _) = blocks.objects().get("owner").unwrap().unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        blocks.objects().put("owner", bad.into(), PutIf::Always).unwrap();
        let error = node.open(&machine, &blocks).unwrap_err();
        assert!(matches!(error, OpenError::Owner(OwnerError::Damaged { .. })), "{error}");
    }
    node.options.take_over = true;
    node.open(&machine, &blocks).unwrap();
}
