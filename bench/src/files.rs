//! A volume of files over a data path, called as the doors call it.

use std::sync::Arc;

use bytes::Bytes;
use file_tree::{Caller, FileTree, Ino, Name};
use strands::Strands;
use tokio::runtime::{Builder, Runtime};
use volume::{Durability, NewVolume, Volume, VolumeName, Volumes};

/// A volume, and the thread that its calls run on.
#[derive(Debug)]
pub(crate) struct Files {
    volume: Arc<Volume>,
    runtime: Runtime,
}

impl Files {
    /// An empty volume that answers writes as `durability` says.
    pub(crate) fn new(strands: &Strands, durability: Durability) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (volumes, name) = (Volumes::open(strands.clone())?, VolumeName::new("bench")?);
        runtime
            .block_on(volumes.create(&name, NewVolume { durability, ..NewVolume::default() }))?;
        Ok(Self { volume: volumes.tree(&name)?, runtime })
    }

    /// Makes a file, writes it in pieces and closes it.
    pub(crate) fn write(&self, name: &str, piece: &Bytes, pieces: usize) -> anyhow::Result<Ino> {
        let (tree, name) = (&self.volume, Name::new(name.as_bytes())?);
        self.runtime.block_on(async {
            let file = tree.create(&Caller::root(), tree.root(), &name, 0o644).await?;
            for number in 0..pieces {
                let offset = (number * piece.len()) as u64;
                tree.write(file.ino, offset, piece.clone()).await?;
            }
            tree.flush(file.ino).await?;
            tree.release(file.ino).await?;
            Ok(file.ino)
        })
    }

    /// Waits until all that was done to a file, and before, survives a power cut.
    pub(crate) fn sync(&self, file: Ino) -> anyhow::Result<()> {
        self.runtime.block_on(self.volume.commit(file))?;
        Ok(())
    }
}
