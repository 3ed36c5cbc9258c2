//! Blocks as files in a directory, on `host::Disk` so that crash simulation sees every step.
//!
//! Put writes `NAME.tmp`, syncs it, renames it, and syncs the folder, whose own name was synced before:
//! so a `.blk` file is always whole, and durable once put returned. Creating `NAME.tmp` claims the name,
//! which keeps two writers of one name apart. Leftover `.tmp` files are removed at open, other strangers
//! left alone.
//!
//! A block that is put unsynced gets the name `NAME.unsynced` in place of `NAME.blk`, and that one when it is synced
//! (`unsynced`). So whoever finds a block in this directory knows whether it can be torn.
//!
//! Invariant: `usage` counts every `.blk` and `.unsynced` file there is. Folders are never removed; one holds up to 1 GiB.
//!
//! Not here: the bytes of a block (`crate::format`), where a block's file lies and how it is read
//! (`crate::files`), the folder `objects` (`objects`).

#[cfg(test)]
mod crash_tests;
mod objects;
mod unsynced;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use host::{Disk, File, Host, OpenMode};

pub(crate) use self::objects::ObjectFiles;
use crate::files::{BlockFiles, Found};
use crate::{
    Block, BlockName, BlockStore, DeleteError, Footer, ListError, Listed, Objects, OpenError,
    PutError, ReadError, SyncError, Usage,
};

/// Of how many folders it is remembered that their names are durable.
const FOLDERS_REMEMBERED_MAX: usize = 64;

/// A store in a directory.
#[derive(Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    files: BlockFiles,
    objects: ObjectFiles,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    usage: Usage,
    durable_folders: HashSet<PathBuf>,
    /// Blocks that are not durable yet, with the file that wrote them; none for those that an earlier opening left,
    /// and for those whose sync failed. Kept open, because that file hears of a write that failed.
    unsynced: HashMap<BlockName, Option<Arc<dyn File>>>,
}

/// What a put does about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Synced,
    Unsynced,
}

impl Directory {
    /// Opens the store in `dir`, creating it if it is missing and syncing its name, removes what an
    /// interrupted put left, and counts the blocks: one listing of all folders.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`] when the disk refuses.
    pub fn open(host: &Host, dir: &Path) -> Result<Self, OpenError> {
        let disk = Arc::clone(&host.disk);
        let refused = |source| OpenError::Io { path: dir.into(), source };
        disk.create_dir_all(dir).map_err(refused)?;
        // It may exist without being durable, if an earlier process ended before it synced the name.
        disk.sync_dir(parent(dir)).map_err(refused)?;
        let store = Self {
            files: BlockFiles::new(&disk, dir),
            disk,
            objects: ObjectFiles::new(host, dir),
            state: Mutex::default(),
        };
        let mut usage = Usage::default();
        let mut unsynced = HashMap::new();
        let mut leftovers = Vec::new();
        let walked = store.files.walk(&mut |path, found| {
            match found {
                Found::Block(listed) => {
                    usage.blocks += 1;
                    usage.bytes += listed.bytes;
                }
                Found::Unsynced(listed) => {
                    usage.blocks += 1;
                    usage.bytes += listed.bytes;
                    unsynced.insert(listed.name, None);
                }
                Found::Leftover => leftovers.push(path),
                Found::Stranger => {
                    tracing::warn!(path = %path.display(), "not a block; left alone")
                }
            }
            ControlFlow::Continue(())
        });
        walked.map_err(|(path, source)| OpenError::Io { path, source })?;
        for path in leftovers {
            tracing::info!(path = %path.display(), "removing a block that was never finished");
            store.disk.unlink(&path).map_err(|source| OpenError::Io { path, source })?;
        }
        *store.state() = State { usage, unsynced, ..State::default() };
        Ok(store)
    }

    /// The file of a block, whether it exists or not.
    pub(crate) fn path_of(&self, name: BlockName) -> PathBuf {
        self.files.path(name)
    }

    /// All bytes of a block as they are in its file, not verified.
    pub(crate) fn read_whole(&self, name: BlockName) -> Result<Bytes, ReadError> {
        self.files.read_whole(name)
    }

    /// Gives a block's file and size to `take`, which moves it away, or says that it did not: then the block is
    /// deleted.
    pub(crate) fn give_up(
        &self,
        name: BlockName,
        take: impl FnOnce(u64, &Path) -> bool,
    ) -> Result<(), DeleteError> {
        let path = self.files.path(name);
        let size = self.disk.open(&path, OpenMode::Read).and_then(|file| file.size());
        let bytes = size.map_err(|source| DeleteError::Io { name, source })?;
        if !take(bytes, &path) {
            return self.delete(name).map(drop);
        }
        self.files.forget(name);
        let mut state = self.state();
        state.usage.blocks -= 1;
        state.usage.bytes -= bytes;
        Ok(())
    }

    /// Makes sure that `folder` exists and is still there after a power cut.
    ///
    /// Also an existing folder's name may not be durable yet, if the process ended before it synced it.
    fn prepare(&self, folder: &Path) -> io::Result<()> {
        if self.state().durable_folders.contains(folder) {
            return Ok(());
        }
        self.disk.create_dir_all(folder)?;
        for parent in folder.ancestors().skip(1).take(2) {
            self.disk.sync_dir(parent)?;
        }
        let mut state = self.state();
        if state.durable_folders.len() >= FOLDERS_REMEMBERED_MAX {
            state.durable_folders.clear();
        }
        state.durable_folders.insert(folder.into());
        Ok(())
    }

    /// Claims the block's name, writes it, and renames it.
    fn write(&self, block: &Block, put: Put) -> Result<(), PutError> {
        let name = block.name();
        let temp = self.files.folder(name).join(format!("{name}.tmp"));
        let file = match self.disk.open(&temp, OpenMode::CreateNew) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(PutError::AlreadyExists { name });
            }
            Err(source) => return Err(put_error(name, source)),
        };
        if let Err(error) = self.write_claimed(&*file, &temp, block, put) {
            if let Err(left) = self.disk.unlink(&temp) {
                tracing::warn!(path = %temp.display(), error = %left, "an unfinished block stays until the next start");
            }
            return Err(error);
        }
        if put == Put::Unsynced {
            // It may be read soon, and its file stays open anyhow.
            self.files.keep(Arc::clone(&file), block.footer());
        }
        let mut state = self.state();
        state.usage.blocks += 1;
        state.usage.bytes += block.bytes().len() as u64;
        if put == Put::Unsynced {
            state.unsynced.insert(name, Some(file));
        }
        Ok(())
    }

    /// Writes the block under its temporary name, which the caller has just created as `file`, and
    /// renames it.
    fn write_claimed(
        &self,
        file: &dyn File,
        temp: &Path,
        block: &Block,
        put: Put,
    ) -> Result<(), PutError> {
        let name = block.name();
        match self.files.find(name) {
            Ok(_) => return Err(PutError::AlreadyExists { name }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PutError::Io { name, source }),
        }
        let refused = |source| put_error(name, source);
        file.write_all_at(block.bytes(), 0).map_err(refused)?;
        let path = match put {
            Put::Synced => {
                file.sync_data().map_err(refused)?;
                self.files.path(name)
            }
            Put::Unsynced => self.files.unsynced_path(name),
        };
        self.disk.rename(temp, &path).map_err(refused)
    }

    /// The lock is held for plain counting only, so a poisoned one is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for Directory {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let name = block.name();
        let folder = self.files.folder(name);
        self.prepare(&folder).map_err(|source| put_error(name, source))?;
        self.write(block, Put::Synced)?;
        self.disk.sync_dir(&folder).map_err(|source| put_error(name, source))
    }

    fn put_unsynced(&self, block: &Block) -> Result<(), PutError> {
        let name = block.name();
        let folder = self.files.folder(name);
        // Once for a folder, and then there is no reason to do it later.
        self.prepare(&folder).map_err(|source| put_error(name, source))?;
        self.write(block, Put::Unsynced)
    }

    fn sync(&self, names: &[BlockName]) -> Result<(), SyncError> {
        self.sync_blocks(names)
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        self.files.read(name, range)
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        self.files.footer(name)
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        let unlinked = self.files.find(name).and_then(|(path, file)| {
            let bytes = file.size()?;
            self.disk.unlink(&path)?;
            Ok(bytes)
        });
        match unlinked {
            Ok(bytes) => {
                self.files.forget(name);
                let mut state = self.state();
                state.unsynced.remove(&name);
                state.usage.blocks -= 1;
                state.usage.bytes -= bytes;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(DeleteError::Io { name, source }),
        }
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        let walked = self.files.walk(&mut |_, found| match found {
            Found::Block(listed) | Found::Unsynced(listed) => visit(listed),
            Found::Leftover | Found::Stranger => ControlFlow::Continue(()),
        });
        walked.map_err(|(path, source)| ListError::Io { path, source })
    }

    fn hint(&self, names: &[BlockName]) {
        names.iter().for_each(|name| self.files.will_need(*name));
    }

    fn objects(&self) -> &dyn Objects {
        &self.objects
    }

    fn usage(&self) -> Usage {
        self.state().usage
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn put_error(name: BlockName, source: io::Error) -> PutError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PutError::NoSpace { name },
        _ => PutError::Io { name, source },
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the directory store behaves as every store does, tells damage apart from absence, and starts
    //! clean from what an interrupted put left. Method: the real disk, with files changed behind its back.

    use std::cell::Cell;

    use super::*;
    use crate::conformance::{check_all, sample};
    use crate::format::HEADER_BYTES;

    fn store() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(&Host::real(), &dir.path().join("blocks")).unwrap();
        (dir, store)
    }

    fn reopen(store: &Directory) -> Directory {
        Directory::open(&Host::real(), store.files.dir()).unwrap()
    }

    fn damage(store: &Directory, name: BlockName, at: u64) {
        let file = store.disk.open(&store.files.path(name), OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    #[test]
    fn conforms_on_the_real_disk() {
        let dir = tempfile::tempdir().unwrap();
        let made = Cell::new(0);
        check_all(&|| {
            made.set(made.get() + 1);
            Box::new(
                Directory::open(&Host::real(), &dir.path().join(made.get().to_string())).unwrap(),
            )
        });
    }

    #[test]
    fn a_reopened_store_counts_and_reads_what_was_put() {
        let (_dir, store) = store();
        let blocks: Vec<_> = [1, 255, 256, 100_000].map(|n| sample(n, &[9, 70_000])).into();
        for block in &blocks {
            store.put(block).unwrap();
        }
        let usage = store.usage();
        let store = reopen(&store);
        assert_eq!(store.usage(), usage);
        for block in &blocks {
            assert_eq!(store.read(block.name(), 0..70_009).unwrap(), block.payload());
        }
    }

    #[test]
    fn an_unfinished_block_is_removed_at_open_and_strangers_stay() {
        let (_dir, store) = store();
        let block = sample(5, &[100]);
        store.put(&block).unwrap();
        let folder = store.files.folder(block.name());
        let other = BlockName { counter: 6, ..block.name() };
        for file_name in
            [format!("{other}.tmp"), "notes.txt".into(), "x.blk".into(), "noext".into()]
        {
            store.disk.open(&folder.join(file_name), OpenMode::CreateNew).unwrap();
        }
        let elsewhere = BlockName { counter: 1 << 20, ..block.name() };
        store.disk.open(&folder.join(format!("{elsewhere}.blk")), OpenMode::CreateNew).unwrap();
        let store = reopen(&store);
        assert_eq!(store.usage(), Usage { blocks: 1, bytes: block.bytes().len() as u64 });
        let names: Vec<_> =
            store.disk.list(&folder).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(!names.iter().any(|name| name.ends_with(".tmp")));
    }

    #[test]
    fn damage_in_one_chunk_leaves_the_others_readable() {
        let (_dir, store) = store();
        let block = sample(1, &[200_000]);
        store.put(&block).unwrap();
        damage(&store, block.name(), HEADER_BYTES as u64 + 70_000);
        assert_eq!(store.read(block.name(), 0..65_536).unwrap(), block.payload().slice(..65_536));
        assert_eq!(
            store.read(block.name(), 131_072..200_000).unwrap(),
            block.payload().slice(131_072..)
        );
        let error = store.read(block.name(), 65_535..65_537).unwrap_err();
        assert!(
            matches!(&error, ReadError::Damaged { name, at: 65_568, place, .. }
            if *name == block.name() && place.ends_with(".blk")),
            "{error}"
        );
    }

    #[test]
    fn damage_in_header_or_footer_is_an_error_that_names_the_block() {
        let len = sample(1, &[10]).bytes().len() as u64;
        for at in (0..len).filter(|at| !(32..42).contains(at)) {
            let (_dir, store) = store();
            let block = sample(1, &[10]);
            store.put(&block).unwrap();
            damage(&store, block.name(), at);
            let error = store.read(block.name(), 0..10).unwrap_err();
            let named = matches!(&error, ReadError::Damaged { name, .. } | ReadError::UnknownVersion { name, .. }
                if *name == block.name());
            assert!(named, "byte {at}: {error}");
        }
    }

    #[test]
    fn a_file_of_a_wrong_size_is_damage_not_absence() {
        let (_dir, store) = store();
        let block = sample(1, &[10]);
        store.put(&block).unwrap();
        let file = store.disk.open(&store.files.path(block.name()), OpenMode::ReadWrite).unwrap();
        for size in [0, 10, 55, 56, 60, 101, 103, 1 << 40] {
            file.set_size(size).unwrap();
            let error = store.read(block.name(), 0..1).unwrap_err();
            assert!(matches!(error, ReadError::Damaged { .. }), "{size}: {error}");
        }
    }

    #[test]
    fn a_block_under_another_name_is_damage() {
        let (_dir, store) = store();
        let (a, b) = (sample(1, &[10]), BlockName { counter: 4, ..sample(1, &[10]).name() });
        store.put(&a).unwrap();
        store.disk.rename(&store.files.path(a.name()), &store.files.path(b)).unwrap();
        assert!(matches!(store.read(b, 0..1), Err(ReadError::Damaged { at: 12, .. })));
        assert!(matches!(store.read(a.name(), 0..1), Err(ReadError::Missing { .. })));
    }

    #[test]
    fn more_blocks_than_open_files_are_read() {
        let (_dir, store) = store();
        for round in 0..2 {
            for counter in 0..200 {
                let block = sample(counter, &[20]);
                if round == 0 {
                    store.put(&block).unwrap();
                }
                assert_eq!(store.read(block.name(), 3..17).unwrap(), block.payload().slice(3..17));
            }
        }
    }
}
