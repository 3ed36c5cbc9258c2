//! The data path that is measured: journal, meta store and blocks in a folder, without doors.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use block_store::{BlockStore, Directory};
use bytes::Bytes;
use host::Host;
use meta_store::Fjall;
use strands::{Commit, Options, Position, StrandId, Strands};

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
