//! The volumes of a data directory, by name.
//!
//! A volume is deleted in two steps: one commit takes its name away and notes it as deleted; then its rows
//! and strands go, some at a time. A stop in between leaves the note, and the next start goes on.
//!
//! Not here: what is in a volume (`crate::volume`).

mod purge;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use file_tree::rules::COOKIE_MIN;
use file_tree::{Attr, FileKind, Timestamp};
use strands::{Commit, Order, Strands};

use crate::error::{CreateError, DeleteError, FindError, StoreError, VolumeNameError, damaged};
use crate::rows::{
    self, Body, CountersRow, Durability, Inode, Keys, RowError, VolumeId, VolumeRow,
};
use crate::volume::{ROOT, Volume};

/// Rows of volumes that are read at a time.
const PAGE_ROWS: usize = 256;
/// Key of the counter of volumes: no volume has the number 0.
const COUNTER: VolumeId = VolumeId(0);

/// A volume's name: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`, but neither `.` nor `..`, which mean
/// something else in paths and addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, VolumeNameError> {
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let bytes = matches!(name.len(), 1..=Self::BYTES_MAX) && name.bytes().all(allowed);
        if bytes && !matches!(name, "." | "..") {
            Ok(Self(name.to_owned()))
        } else {
            Err(VolumeNameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VolumeName {
    type Err = VolumeNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

/// How a volume begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// When writes are answered.
    pub durability: Durability,
}

impl Default for NewVolume {
    /// The superuser's, mode 0755, answered when written.
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: 0o755, durability: Durability::default() }
    }
}

/// What is known of a volume without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub name: VolumeName,
    /// When writes are answered.
    pub durability: Durability,
    /// When it was made.
    pub created: Timestamp,
    /// Files that exist in it, its root included.
    pub files: u64,
}

/// The volumes of a data directory. Clones share them.
#[derive(Clone, Debug)]
pub struct Volumes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    strands: Strands,
    /// Volumes that are open. Held while the set of volumes changes.
    open: Mutex<HashMap<VolumeId, Arc<Volume>>>,
}

impl Volumes {
    /// Takes over the volumes kept in `strands`; finishes deletions that were under way.
    ///
    /// # Errors
    ///
    /// When rows cannot be read or removed.
    pub fn open(strands: Strands) -> Result<Self, StoreError> {
        purge::finish_deletions(&strands)?;
        Ok(Self { shared: Arc::new(Shared { strands, open: Mutex::default() }) })
    }

    /// Makes a volume. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`CreateError::Exists`] if the name is taken.
    pub async fn create(
        &self,
        name: &VolumeName,
        new: NewVolume,
    ) -> Result<VolumeInfo, CreateError> {
        let strands = &self.shared.strands;
        strands.admit(PAGE_ROWS).await.map_err(StoreError::from)?;
        let (info, ticket) = {
            let _open = self.lock();
            if self.shared.row(name)?.is_some() {
                return Err(CreateError::Exists(name.clone()));
            }
            let (info, commit) = self.shared.new_volume(name, new)?;
            (info, strands.commit(commit).map_err(StoreError::from)?)
        };
        ticket.durable().await.map_err(StoreError::from)?;
        Ok(info)
    }

    /// All volumes, by name.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn list(&self) -> Result<Vec<VolumeInfo>, StoreError> {
        let mut all = Vec::new();
        let mut keys = Keys::of(&[]);
        loop {
            let strands = &self.shared.strands;
            let page = strands.rows(rows::VOLUMES, keys.bounds(), Order::Ascending, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            keys = keys.after(last.to_vec());
            for (key, value) in &page {
                let row = VolumeRow::decode(value).map_err(|why| damaged("volume", key, why))?;
                let name =
                    std::str::from_utf8(key).ok().and_then(|name| VolumeName::new(name).ok());
                let name = name.ok_or_else(|| damaged("volume", key, RowError::Value("name")))?;
                // A volume that is being deleted just now has no counters any more.
                let Some(CountersRow { files, .. }) = self.shared.counters(row.id)? else {
                    continue;
                };
                let VolumeRow { durability, created, .. } = row;
                all.push(VolumeInfo { name, durability, created, files });
            }
        }
    }

    /// The tree of a volume: the same one for all callers, so that they share what is open.
    ///
    /// The first call after a start may block for the removal of files that were open without a name.
    ///
    /// # Errors
    ///
    /// [`FindError::NotFound`] if there is no such volume.
    pub fn tree(&self, name: &VolumeName) -> Result<Arc<Volume>, FindError> {
        let mut open = self.lock();
        let row = self.shared.row(name)?.ok_or_else(|| FindError::NotFound(name.clone()))?;
        if let Some(volume) = open.get(&row.id) {
            return Ok(Arc::clone(volume));
        }
        let volume = Arc::new(Volume::open(self.shared.strands.clone(), &row)?);
        open.insert(row.id, Arc::clone(&volume));
        Ok(volume)
    }

    /// Deletes a volume and everything in it, also while it is in use: every call on its tree is then
    /// [`file_tree::TreeError::Stale`]. The deletion is durable when this returns; should it stop halfway,
    /// the name is gone and the next start removes the rest.
    ///
    /// # Errors
    ///
    /// [`DeleteError::NotFound`] if there is no such volume.
    pub async fn delete(&self, name: &VolumeName) -> Result<(), DeleteError> {
        let strands = &self.shared.strands;
        strands.admit(0).await.map_err(StoreError::from)?;
        let (id, ticket) = {
            let mut open = self.lock();
            let row = self.shared.row(name)?.ok_or_else(|| DeleteError::NotFound(name.clone()))?;
            if let Some(volume) = open.remove(&row.id) {
                volume.end();
            }
            let mut commit = Commit::new();
            commit.delete(rows::VOLUMES, name.as_str().as_bytes().to_vec());
            let note = rows::encode_deleted(name.as_str());
            commit.put(rows::DELETED, rows::volume_key(row.id).to_vec(), note);
            (row.id, strands.commit(commit).map_err(StoreError::from)?)
        };
        ticket.durable().await.map_err(StoreError::from)?;
        while let Some(commit) = purge::next_commit(strands, id)? {
            strands.admit(0).await.map_err(StoreError::from)?;
            drop(strands.commit(commit).map_err(StoreError::from)?);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Arc<Volume>>> {
        self.shared.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shared {
    fn row(&self, name: &VolumeName) -> Result<Option<VolumeRow>, StoreError> {
        let key = name.as_str().as_bytes();
        let value = self.strands.row(rows::VOLUMES, key)?;
        value
            .map(|value| VolumeRow::decode(&value).map_err(|why| damaged("volume", key, why)))
            .transpose()
    }

    fn counters(&self, id: VolumeId) -> Result<Option<CountersRow>, StoreError> {
        let key = rows::volume_key(id);
        let value = self.strands.row(rows::COUNTERS, &key)?;
        value
            .map(|value| CountersRow::decode(&value).map_err(|why| damaged("counters", &key, why)))
            .transpose()
    }

    /// The rows of a volume with nothing but its root.
    fn new_volume(
        &self,
        name: &VolumeName,
        new: NewVolume,
    ) -> Result<(VolumeInfo, Commit), CreateError> {
        let counter = rows::volume_key(COUNTER);
        let id = match self.strands.row(rows::COUNTERS, &counter).map_err(StoreError::from)? {
            None => VolumeId(1),
            Some(value) => {
                rows::decode_next_volume(&value).map_err(|why| damaged("counter", &counter, why))?
            }
        };
        let next = VolumeId(id.0.checked_add(1).ok_or(CreateError::TooMany)?);
        let created = Timestamp::from_nanos(self.strands.host().clock.wall().nanos());
        let row = VolumeRow { id, durability: new.durability, created };
        let counters = CountersRow { reserved_ino: ROOT.0 + 1, files: 1 };
        let mut commit = Commit::new();
        commit.put(rows::COUNTERS, counter.to_vec(), rows::encode_next_volume(next));
        commit.put(rows::COUNTERS, rows::volume_key(id).to_vec(), counters.encode());
        commit.put(rows::INODES, rows::ino_key(id, ROOT), new_root(new, created).encode());
        commit.put(rows::VOLUMES, name.as_str().as_bytes().to_vec(), row.encode());
        let info = VolumeInfo { name: name.clone(), durability: new.durability, created, files: 1 };
        Ok((info, commit))
    }
}

fn new_root(new: NewVolume, now: Timestamp) -> Inode {
    let attr = Attr {
        ino: ROOT,
        kind: FileKind::Directory,
        mode: new.mode & file_tree::rules::MODE_BITS,
        nlink: 2,
        uid: new.uid,
        gid: new.gid,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: now,
        mtime: now,
        ctime: now,
    };
    Inode { attr, body: Body::Directory { parent: ROOT, next_cookie: COOKIE_MIN } }
}
