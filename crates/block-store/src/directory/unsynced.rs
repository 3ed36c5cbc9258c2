//! Making blocks durable that were put unsynced.
//!
//! Each file is synced, then renamed to `NAME.blk`, then the folders are synced, each once. So a `.blk` file is whole,
//! whatever crashes, and a power cut leaves a block that was not synced as `.unsynced`, or not at all.
//!
//! Invariant: what this process did not write, or could not sync, is believed only after it was read, verified and
//! written again.

use std::collections::BTreeMap;
use std::io;

use host::OpenMode;

use super::Directory;
use crate::{Block, BlockName, ReadError, SyncError};

impl Directory {
    /// Whether a block of this directory may be torn after a power cut.
    pub(crate) fn is_unsynced(&self, name: BlockName) -> bool {
        self.state().unsynced.contains_key(&name)
    }

    pub(super) fn sync_blocks(&self, names: &[BlockName]) -> Result<(), SyncError> {
        let mut renamed = Vec::new();
        let mut folders = BTreeMap::new();
        for name in names {
            if self.sync_bytes(*name)? {
                renamed.push(*name);
            }
            folders.insert(self.files.folder(*name), *name);
        }
        for name in &renamed {
            let (from, to) = (self.files.unsynced_path(*name), self.files.path(*name));
            let named = self.disk.rename(&from, &to);
            named.map_err(|source| SyncError::Io { name: *name, source })?;
            self.state().unsynced.remove(name);
        }
        for (folder, name) in folders {
            let synced = self.prepare(&folder).and_then(|()| self.disk.sync_dir(&folder));
            synced.map_err(|source| SyncError::Io { name, source })?;
        }
        Ok(())
    }

    /// Makes the bytes of a block durable; says whether its name is still that of an unsynced one.
    fn sync_bytes(&self, name: BlockName) -> Result<bool, SyncError> {
        // Taken out: if this sync fails, the next one does not believe the file.
        let file = self.state().unsynced.get_mut(&name).map(Option::take);
        match file {
            Some(Some(file)) => {
                file.sync_data().map_err(|source| SyncError::Io { name, source })?
            }
            Some(None) => self.write_again(name)?,
            None => {
                let found = self.files.find(name);
                return found.map(|_| false).map_err(|source| not_found(name, source));
            }
        }
        Ok(true)
    }

    /// Verifies a block that somebody else left, and makes what was read true.
    fn write_again(&self, name: BlockName) -> Result<(), SyncError> {
        let path = self.files.unsynced_path(name);
        let bytes = self.files.read_whole(name)?;
        let decoded = Block::decode(bytes)
            .map_err(|source| ReadError::from_format(name, path.display().to_string(), source))?;
        let refused = |source| SyncError::Io { name, source };
        let file = self.disk.open(&path, OpenMode::ReadWrite).map_err(refused)?;
        file.write_all_at(decoded.bytes(), 0).map_err(refused)?;
        file.sync_data().map_err(refused)
    }
}

fn not_found(name: BlockName, source: io::Error) -> SyncError {
    match source.kind() {
        io::ErrorKind::NotFound => SyncError::NotWhole(ReadError::Missing { name }),
        _ => SyncError::Io { name, source },
    }
}
