//! A machine with a data directory that is opened again and again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block_store::{BlockStore, Directory};
use file_tree::conformance::block_on;
use file_tree::{Attr, Caller, FileTree, Ino, Name, NewNode};
use host::Host;
use host::sim::{Lost, Machine};
use meta_store::{Memory, MetaStore};
use strands::{Options, Strands};
use volume::{NewVolume, Volume, VolumeName, Volumes};

pub(crate) struct Bed {
    pub(crate) machine: Machine,
    pub(crate) meta: Arc<Memory>,
}

/// An opened data directory.
pub(crate) struct Server {
    pub(crate) strands: Strands,
    pub(crate) volumes: Volumes,
}

impl Bed {
    pub(crate) fn new(seed: u64) -> Self {
        Self { machine: Machine::new(seed), meta: Arc::new(Memory::new()) }
    }

    /// Starts the server, a second after whatever was before.
    pub(crate) fn start(&self) -> Server {
        self.machine.advance(Duration::from_secs(1));
        Server::start(self.machine.host(), Path::new("/"), Arc::clone(&self.meta) as _).unwrap()
    }

    /// Cuts the power and starts again; `seed` decides what the disk and the meta store still had.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.machine.crash_seeded(seed);
        let kept = usize::try_from(seed % (self.meta.unsynced() as u64 + 1)).unwrap();
        self.meta = Arc::new(self.meta.after_crash(kept));
    }

    /// The same at its worst: everything that was not synced is gone.
    pub(crate) fn cut_power_losing_all(&mut self) {
        self.machine.crash(&mut Lost);
        self.meta = Arc::new(self.meta.after_crash(0));
    }
}

impl Server {
    pub(crate) fn start(host: Host, dir: &Path, meta: Arc<dyn MetaStore>) -> Result<Self, String> {
        let say = |error: &dyn std::error::Error| error.to_string();
        let blocks = Directory::open(&host, &dir.join("blocks")).map_err(|error| say(&error))?;
        let blocks: Arc<dyn BlockStore> = Arc::new(blocks);
        let strands = Strands::open(host, &dir.join("journal"), meta, blocks, options());
        let strands = strands.map_err(|error| say(&error))?;
        let volumes = Volumes::open(strands.clone()).map_err(|error| say(&error))?;
        Ok(Self { strands, volumes })
    }

    pub(crate) fn create(&self, volume: &str) -> Arc<Volume> {
        let name = named(volume);
        block_on(self.volumes.create(&name, NewVolume::default())).unwrap();
        self.tree(volume)
    }

    pub(crate) fn tree(&self, volume: &str) -> Arc<Volume> {
        self.volumes.tree(&named(volume)).unwrap()
    }

    /// Returns when everything so far survives a power cut.
    pub(crate) fn sync(&self) {
        self.strands.ticket(self.strands.positions().appended).wait_durable().unwrap();
    }
}

/// Small segments, so that a few writes fill several; packing only when a test says so.
fn options() -> Options {
    let log = durable_log::Options { segment_bytes: 64 << 10, ..durable_log::Options::default() };
    Options { log, reserve_bytes: Some(0), ..Options::default() }
}

pub(crate) fn named(volume: &str) -> VolumeName {
    VolumeName::new(volume).unwrap()
}

/// What reads from blocks need: a place for blocking work.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

pub(crate) fn make_file(tree: &dyn FileTree, dir: Ino, called: &str) -> Attr {
    block_on(tree.make(&Caller::root(), dir, &name(called), NewNode::File { mode: 0o644 })).unwrap()
}

pub(crate) fn write(tree: &dyn FileTree, ino: Ino, offset: u64, bytes: &[u8]) {
    block_on(tree.write(ino, offset, bytes.to_vec().into())).unwrap();
}

pub(crate) fn read(tree: &dyn FileTree, ino: Ino) -> Vec<u8> {
    block_on(tree.read(ino, 0, 1 << 20)).unwrap().to_vec()
}
