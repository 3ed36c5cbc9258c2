//! The data path that is measured: journal, meta store and blocks, without doors.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use block_store::{BlockStore, Directory, Memory, Tiered, TieredOptions};
use bytes::Bytes;
use host::Host;
use meta_store::Fjall;
use strands::{Commit, Options, Position, StrandId, Strands};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::measure::Context;

/// Opens the data path in `dir` with blocks in a directory below it.
pub(crate) fn open(dir: &Path, options: Options) -> anyhow::Result<Strands> {
    let blocks = Arc::new(Directory::open(&Host::real(), &dir.join("blocks"))?);
    open_on(dir, blocks, options)
}

/// Opens the data path in `dir` over `blocks`.
pub(crate) fn open_on(
    dir: &Path,
    blocks: Arc<dyn BlockStore>,
    options: Options,
) -> anyhow::Result<Strands> {
    let meta = Arc::new(Fjall::open(dir.join("meta"))?);
    Strands::open(Host::real(), &dir.join("journal"), meta, blocks, options)
        .with_context(|| format!("open {}", dir.display()))
}

/// Writes as a door does it: admitted, then committed; written when it returns.
pub(crate) fn write(
    strands: &Strands,
    strand: StrandId,
    offset: u64,
    bytes: &Bytes,
) -> anyhow::Result<Position> {
    strands.admit_blocking(bytes.len())?;
    let mut commit = Commit::new();
    commit.write(strand, offset, bytes.clone());
    Ok(strands.commit(commit)?.position())
}

/// Writes as a door does it whose client waits for the disk: what is large goes into blocks of its own.
pub(crate) fn write_to_stay(
    strands: &Strands,
    strand: StrandId,
    offset: u64,
    bytes: &Bytes,
) -> anyhow::Result<Position> {
    if !strands.should_stage(bytes.len()) {
        return write(strands, strand, offset, bytes);
    }
    strands.admit_blocking(bytes.len())?;
    let staged = strands.stage_blocking(strand, offset, bytes.clone())?;
    anyhow::ensure!(staged.is_in_blocks(), "the store takes blocks");
    let mut commit = Commit::new();
    commit.place(strand, offset, staged);
    Ok(strands.commit(commit)?.position())
}

/// What a server keeps its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// All of it in memory: `--store memory`.
    Memory,
    /// Journal, rows and blocks in a folder.
    Directory,
    /// Journal and rows in a folder, blocks staged there and uploaded to a bucket.
    S3,
}

/// A data path of its own, gone with all that it kept when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) strands: Strands,
    pub(crate) blocks: Arc<dyn BlockStore>,
    remote: Option<Arc<Tiered>>,
    _bucket: Option<Bucket>,
    dir: Option<TempDir>,
}

impl Node {
    /// An empty one.
    pub(crate) fn open(
        context: &Context,
        column: Column,
        options: Options,
    ) -> anyhow::Result<Self> {
        match column {
            Column::Memory => Self::in_memory(options),
            Column::Directory => {
                let dir = context.temp_dir()?;
                let blocks = Directory::open(&Host::real(), &dir.path().join("blocks"))?;
                let blocks: Arc<dyn BlockStore> = Arc::new(blocks);
                let strands = open_on(dir.path(), Arc::clone(&blocks), options)?;
                Ok(Self { strands, blocks, remote: None, _bucket: None, dir: Some(dir) })
            }
            Column::S3 => {
                let (dir, bucket) = (context.temp_dir()?, Bucket::open()?);
                // Nothing is kept on this side, so that reads go to the bucket.
                let keep_none = TieredOptions { cache_bytes_max: 0, ..TieredOptions::default() };
                let (host, files) = (Host::real(), dir.path().join("remote"));
                let tiered = Tiered::open(&host, &files, bucket.remote()?, keep_none)?;
                let tiered = Arc::new(tiered);
                let blocks = Arc::clone(&tiered) as Arc<dyn BlockStore>;
                let strands = open_on(dir.path(), Arc::clone(&blocks), options)?;
                let (remote, bucket) = (Some(tiered), Some(bucket));
                Ok(Self { strands, blocks, remote, _bucket: bucket, dir: Some(dir) })
            }
        }
    }

    fn in_memory(options: Options) -> anyhow::Result<Self> {
        let host = Host::in_memory();
        let blocks = Arc::new(Memory::on(&host)) as Arc<dyn BlockStore>;
        let meta = Arc::new(meta_store::Memory::new());
        let strands =
            Strands::open(host, Path::new("/journal"), meta, Arc::clone(&blocks), options)?;
        Ok(Self { strands, blocks, remote: None, _bucket: None, dir: None })
    }

    /// The folder of the data; of one in memory, nowhere.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Moves what the journal holds into blocks, and waits until the store has them: the bucket, if there is
    /// one.
    pub(crate) fn store_all(&self) -> anyhow::Result<()> {
        if self.strands.status().unpacked_bytes > 0 {
            self.strands.pack_now()?;
        }
        self.upload_all()
    }

    /// Waits until the bucket has every block, if there is one.
    pub(crate) fn upload_all(&self) -> anyhow::Result<()> {
        let uploaded = self.remote.as_ref().is_none_or(|remote| remote.settle(PATIENCE));
        anyhow::ensure!(uploaded, "the bucket does not take the blocks");
        Ok(())
    }

    /// Blocks, and parts of them, that were fetched from the bucket.
    pub(crate) fn downloads(&self) -> Option<u64> {
        self.remote.as_ref().map(|remote| remote.stats().downloads)
    }
}

/// How long uploads may take.
const PATIENCE: Duration = Duration::from_secs(600);
