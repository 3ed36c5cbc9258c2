//! One volume: the [`FileTree`] over rows and strands.
//!
//! The calls here are the rim: they wait for admission, let a synchronous function decide and commit
//! under its locks, and wait for durability where the volume asks for it. No lock is held across an
//! await.
//!
//! Locks, in the order in which they are taken: the namespace (`names`), the files concerned (`inodes`,
//! in order of their stripes), the table of opens. Readers take none of them for longer than a look.
//!
//! Not here: what a call does (`volume/names.rs`, `rename.rs`, `contents.rs`), how a change is gathered
//! and committed (`change.rs`), the rules of permission (`file_tree::rules`).

mod change;
mod contents;
mod inodes;
mod names;
mod rename;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use file_tree::{
    Access, Attr, Caller, DirItem, FileKind, FileTree, Ino, Name, NewNode, RenameMode, Reply,
    SetAttr, Stability, Stat, Timestamp, TreeError, WriteEpoch, Written,
};
use strands::{Commit, Order, Strands, Ticket};

use self::inodes::{Inodes, Known, Look};
use self::names::Names;
use crate::error::{StoreError, damaged};
use crate::rows::{self, Body, CountersRow, Durability, Inode, Keys, VolumeId, VolumeRow};

/// Most bytes of one read or write.
pub const IO_BYTES_MAX: u32 = 8 << 20;
/// The root directory of every volume.
pub(crate) const ROOT: Ino = Ino(1);

/// What a change that needs new rows counts as when it asks for room.
const NEW_ROWS_BYTES: usize = 1_024;
/// Files without a name that are removed in one commit.
const ORPHANS_PER_COMMIT: usize = 256;
/// A clock that goes back by less than this counts as standing still.
const CLOCK_JITTER_NANOS: i64 = 1_000_000_000;

/// A volume. Every change is one commit; see the crate's documentation for what that promises.
#[derive(Debug)]
pub struct Volume {
    strands: Strands,
    id: VolumeId,
    durability: Durability,
    names: Mutex<Names>,
    inodes: Inodes,
    opens: Mutex<HashMap<Ino, Open>>,
    /// The latest moment given to a change, in nanoseconds since 1970.
    last_change: AtomicI64,
    is_deleted: AtomicBool,
}

/// How often a file is open.
#[derive(Debug, Default)]
struct Open {
    count: u64,
    /// Someone unprivileged has it open for writing: a write takes setuid and setgid away.
    loses_privileges: bool,
}

impl Volume {
    /// Opens a volume after a start: removes what was open without a name when the server stopped.
    pub(crate) fn open(strands: Strands, row: &VolumeRow) -> Result<Self, StoreError> {
        let none = CountersRow { reserved_ino: 0, files: 0 };
        let volume = Self {
            strands,
            id: row.id,
            durability: row.durability,
            names: Mutex::new(Names::new(none)),
            inodes: Inodes::new(),
            opens: Mutex::default(),
            last_change: AtomicI64::new(i64::MIN),
            is_deleted: AtomicBool::new(false),
        };
        let counters = volume.counters()?;
        let counters = counters
            .ok_or_else(|| StoreError::Damaged(format!("volume {} has no counters", row.id.0)))?;
        *volume.names() = Names::new(counters);
        while volume.remove_some_orphans()? {}
        Ok(volume)
    }

    /// Ends the volume: every later call is refused, and none is under way.
    pub(crate) fn end(&self) {
        let _names = self.names();
        let _all = self.inodes.hold_all();
        self.is_deleted.store(true, Ordering::Release);
    }

    fn remove_some_orphans(&self) -> Result<bool, StoreError> {
        self.strands.admit_blocking(0)?;
        let keys = Keys::of(&rows::volume_key(self.id));
        let orphans = self.strands.rows(
            rows::ORPHANS,
            keys.bounds(),
            Order::Ascending,
            ORPHANS_PER_COMMIT,
        )?;
        let mut names = self.names();
        let mut commit = Commit::new();
        for (key, _) in &orphans {
            let ino = rows::ino_of_key(key).map_err(|why| damaged("orphan", key, why))?;
            commit.delete(rows::ORPHANS, key.clone());
            let Some(inode) = self.inode(ino)? else { continue };
            commit.delete(rows::INODES, rows::ino_key(self.id, ino));
            names.files = names.files.saturating_sub(1);
            if let Body::Regular { strand } = inode.body {
                commit.remove(strand);
            }
        }
        if commit.is_empty() {
            return Ok(false);
        }
        let counters = names.row_to_keep();
        commit.put(rows::COUNTERS, rows::volume_key(self.id).to_vec(), counters.encode());
        let files = orphans.iter().filter_map(|(key, _)| rows::ino_of_key(key).ok());
        let files: Vec<_> = files.collect();
        self.inodes.begin(files.iter().copied());
        let made = self.strands.commit(commit);
        self.inodes.finish(files.into_iter().map(|ino| (ino, None)));
        made.map(|_| true).map_err(StoreError::from)
    }

    /// Deleted volumes have no files.
    fn check_exists(&self) -> Result<(), TreeError> {
        if self.is_deleted.load(Ordering::Acquire) { Err(TreeError::Stale) } else { Ok(()) }
    }

    /// A file's row, from the cache or the store.
    fn known(&self, ino: Ino) -> Result<Option<Known>, StoreError> {
        let unread = match self.inodes.look(ino) {
            Look::Known(known) => return Ok(Some(*known)),
            Look::Unknown(unread) => unread,
        };
        let key = rows::ino_key(self.id, ino);
        let Some(value) = self.strands.row(rows::INODES, &key)? else { return Ok(None) };
        let inode = Inode::decode(ino, &value).map_err(|why| damaged("file", &key, why))?;
        let known = Known { inode, changed_before: self.strands.positions().appended };
        self.inodes.learn(ino, unread, known.clone());
        Ok(Some(known))
    }

    fn inode(&self, ino: Ino) -> Result<Option<Inode>, StoreError> {
        Ok(self.known(ino)?.map(|known| known.inode))
    }

    /// The same for a file that the caller names by number: [`TreeError::Stale`] when it is gone.
    fn existing(&self, ino: Ino) -> Result<Inode, TreeError> {
        self.check_exists()?;
        self.inode(ino)?.ok_or(TreeError::Stale)
    }

    fn directory(&self, ino: Ino) -> Result<Attr, TreeError> {
        let attr = self.existing(ino)?.attr;
        if attr.kind == FileKind::Directory { Ok(attr) } else { Err(TreeError::NotADirectory) }
    }

    /// The moment of a change: later than any other, however coarse the clock; but a clock that was set
    /// back is followed.
    fn now(&self) -> Timestamp {
        let wall = self.strands.host().clock.wall().nanos();
        let next = |last: i64| {
            let is_after = wall > last || last.saturating_sub(wall) > CLOCK_JITTER_NANOS;
            if is_after { wall } else { last + 1 }
        };
        let last = self
            .last_change
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)))
            .unwrap_or_else(|last| last);
        Timestamp::from_nanos(next(last))
    }

    async fn admit(&self, payload_bytes: usize) -> Result<(), TreeError> {
        self.strands.admit(payload_bytes).await.map_err(|error| StoreError::from(error).into())
    }

    /// Waits until a change is as safe as the volume promises.
    async fn settle(&self, ticket: Option<Ticket>) -> Result<(), TreeError> {
        match (self.durability, ticket) {
            (Durability::Synced, Some(ticket)) => {
                ticket.durable().await.map_err(|error| StoreError::from(error).into())
            }
            (Durability::Synced | Durability::Written, _) => Ok(()),
        }
    }

    async fn settled<T>(&self, done: (T, Option<Ticket>)) -> Result<T, TreeError> {
        self.settle(done.1).await?;
        Ok(done.0)
    }

    async fn commit_soon(&self, ino: Ino) -> Result<WriteEpoch, TreeError> {
        self.check_exists()?;
        let known = self.known(ino)?.ok_or(TreeError::Stale)?;
        let durable = self.strands.ticket(known.changed_before).durable().await;
        durable.map_err(StoreError::from)?;
        Ok(WriteEpoch(self.strands.write_epoch()))
    }

    fn stat_now(&self) -> Result<Stat, TreeError> {
        self.check_exists()?;
        let space = self.strands.space().map_err(|error| TreeError::Failed(error.to_string()))?;
        let files = self.names().files;
        Ok(Stat { total_bytes: space.total_bytes, available_bytes: space.available_bytes, files })
    }
}

impl FileTree for Volume {
    fn root(&self) -> Ino {
        ROOT
    }

    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr> {
        Box::pin(async move { self.lookup_now(caller, dir, name) })
    }

    fn attr(&self, ino: Ino) -> Reply<'_, Attr> {
        Box::pin(async move { Ok(self.existing(ino)?.attr) })
    }

    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr> {
        Box::pin(async move {
            self.admit(0).await?;
            self.settled(self.set_attr_now(caller, ino, &change)?).await
        })
    }

    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes> {
        Box::pin(async move {
            match self.existing(ino)?.body {
                Body::Symlink { target } => Ok(target),
                Body::Regular { .. } | Body::Directory { .. } | Body::Special => {
                    Err(TreeError::Invalid("not a symbolic link"))
                }
            }
        })
    }

    fn make<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        node: NewNode,
    ) -> Reply<'a, Attr> {
        Box::pin(async move {
            self.admit(NEW_ROWS_BYTES).await?;
            self.settled(self.make_now(caller, dir, name, node, false)?).await
        })
    }

    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr> {
        Box::pin(async move {
            self.admit(NEW_ROWS_BYTES).await?;
            self.settled(self.make_now(caller, dir, name, NewNode::File { mode }, true)?).await
        })
    }

    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr> {
        Box::pin(async move {
            self.admit(NEW_ROWS_BYTES).await?;
            self.settled(self.link_now(caller, ino, dir, name)?).await
        })
    }

    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move {
            self.admit(0).await?;
            self.settle(self.remove_now(caller, dir, name, false)?).await
        })
    }

    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move {
            self.admit(0).await?;
            self.settle(self.remove_now(caller, dir, name, true)?).await
        })
    }

    fn rename<'a>(
        &'a self,
        caller: &'a Caller,
        from: (Ino, &'a Name),
        to: (Ino, &'a Name),
        mode: RenameMode,
    ) -> Reply<'a, ()> {
        Box::pin(async move {
            self.admit(0).await?;
            self.settle(self.rename_now(caller, from, to, mode)?).await
        })
    }

    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr> {
        Box::pin(async move { self.open_now(caller, ino, access) })
    }

    fn release(&self, ino: Ino) -> Reply<'_, ()> {
        Box::pin(async move {
            self.admit(0).await?;
            self.settle(self.release_now(ino)?).await
        })
    }

    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes> {
        Box::pin(self.read_soon(ino, offset, len))
    }

    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written> {
        Box::pin(async move {
            self.admit(bytes.len()).await?;
            // Taken before the bytes are: a sync that fails in between makes the caller send them again.
            let epoch = WriteEpoch(self.strands.write_epoch());
            let bytes = self.stage(ino, offset, bytes).await?;
            let attr = self.settled(self.write_now(ino, offset, bytes)?).await?;
            let stability = match self.durability {
                Durability::Written => Stability::Written,
                Durability::Synced => Stability::Durable,
            };
            Ok(Written { stability, epoch, attr })
        })
    }

    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch> {
        Box::pin(self.commit_soon(ino))
    }

    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>> {
        Box::pin(async move { self.list_now(caller, dir, after, max) })
    }

    fn stat(&self) -> Reply<'_, Stat> {
        Box::pin(async move { self.stat_now() })
    }
}
