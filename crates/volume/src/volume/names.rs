//! Names: find, list, make, link, remove; and files without a name.
//!
//! A change of names holds the lock of the namespace ([`Names`]), so the entries it has read stay as they
//! are; then it takes the right to change the files concerned.
//!
//! Not here: renames (`rename.rs`).

use std::collections::hash_map::Entry;
use std::sync::MutexGuard;

use bytes::Bytes;
use file_tree::rules::{self, NLINK_MAX, Want};
use file_tree::{
    Access, Attr, Caller, DirItem, FileKind, Ino, Name, NewNode, Timestamp, TreeError,
};
use strands::{Order, Ticket};

use super::Volume;
use super::inodes::lock;
use crate::error::{StoreError, damaged};
use crate::rows::{self, Body, CookieRow, CountersRow, Dentry, Inode, Keys};

/// File numbers are reserved this many at a time.
const INOS_RESERVED: u64 = 1_024;
/// Most items of one listing.
const LIST_ITEMS_MAX: u32 = 1_024;

/// What the lock of the namespace guards, beside the entries.
#[derive(Debug)]
pub(super) struct Names {
    /// The number that the next file gets.
    pub(super) next_ino: u64,
    reserved_ino: u64,
    pub(super) files: u64,
}

impl Names {
    /// Begins after all numbers that may have been used.
    pub(super) fn new(row: CountersRow) -> Self {
        Self { next_ino: row.reserved_ino, reserved_ino: row.reserved_ino, files: row.files }
    }

    /// The counters to put into the next commit: they cover every number used so far.
    pub(super) fn row_to_keep(&mut self) -> CountersRow {
        if self.next_ino > self.reserved_ino {
            self.reserved_ino = self.next_ino + INOS_RESERVED;
        }
        CountersRow { reserved_ino: self.reserved_ino, files: self.files }
    }

    /// After a failed commit: whether its files count is for the store to say.
    pub(super) fn look_again(&mut self, volume: &Volume) {
        if let Ok(Some(row)) = volume.counters() {
            self.files = row.files;
        }
    }
}

impl Volume {
    /// Locks the namespace.
    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }

    pub(super) fn counters(&self) -> Result<Option<CountersRow>, StoreError> {
        let key = rows::volume_key(self.id);
        let value = self.strands.row(rows::COUNTERS, &key)?;
        value
            .map(|value| CountersRow::decode(&value).map_err(|why| damaged("counters", &key, why)))
            .transpose()
    }

    pub(super) fn dentry(&self, dir: Ino, name: &Name) -> Result<Option<Dentry>, StoreError> {
        let key = rows::dentry_key(self.id, dir, name);
        let value = self.strands.row(rows::DENTRIES, &key)?;
        value
            .map(|value| Dentry::decode(&value).map_err(|why| damaged("entry", &key, why)))
            .transpose()
    }

    pub(super) fn is_empty(&self, dir: Ino) -> Result<bool, StoreError> {
        let keys = Keys::of(&rows::ino_key(self.id, dir));
        Ok(self.strands.rows(rows::DENTRIES, keys.bounds(), Order::Ascending, 1)?.is_empty())
    }

    pub(super) fn lookup_now(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &Name,
    ) -> Result<Attr, TreeError> {
        loop {
            rules::check_access(&self.directory(dir)?, caller, Want::Search)?;
            let entry = self.dentry(dir, name)?.ok_or(TreeError::NotFound)?;
            if let Some(inode) = self.inode(entry.ino)? {
                return Ok(inode.attr);
            }
            // Either the entry went together with the file just now, or something is wrong.
            if self.dentry(dir, name)? == Some(entry) {
                return Err(TreeError::Damaged(format!(
                    "{name:?} names file {}, which is not there",
                    entry.ino
                )));
            }
        }
    }

    pub(super) fn list_now(
        &self,
        caller: &Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Result<Vec<DirItem>, TreeError> {
        rules::check_access(&self.directory(dir)?, caller, Want::Read)?;
        let (mut after, limit) = (after, max.min(LIST_ITEMS_MAX) as usize);
        loop {
            let keys =
                Keys::of(&rows::ino_key(self.id, dir)).after(rows::cookie_key(self.id, dir, after));
            let page = self.strands.rows(rows::COOKIES, keys.bounds(), Order::Ascending, limit);
            let rows = page.map_err(StoreError::from)?;
            let mut items = Vec::with_capacity(rows.len());
            for (key, value) in &rows {
                after = rows::cookie_of_key(key).map_err(|why| damaged("cookie", key, why))?;
                items.extend(self.item(key, value, after)?);
            }
            // A page of entries that all went just now is not the end.
            if !items.is_empty() || rows.is_empty() {
                return Ok(items);
            }
        }
    }

    /// One item of a listing; `None` if the entry went since it was read.
    fn item(&self, key: &[u8], value: &Bytes, cookie: u64) -> Result<Option<DirItem>, TreeError> {
        let row = CookieRow::decode(value).map_err(|why| damaged("cookie", key, why))?;
        if let Some(inode) = self.inode(row.ino)? {
            return Ok(Some(DirItem { cookie, name: row.name, attr: inode.attr }));
        }
        if self.strands.row(rows::COOKIES, key).map_err(StoreError::from)?.as_ref() == Some(value) {
            let why = format!("{:?} names file {}, which is not there", row.name, row.ino);
            return Err(TreeError::Damaged(why));
        }
        Ok(None)
    }

    /// Makes a node; `open`: and opens it for reading and writing.
    pub(super) fn make_now(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &Name,
        node: NewNode,
        open: bool,
    ) -> Result<(Attr, Option<Ticket>), TreeError> {
        let names = self.names();
        let found = self.dentry(dir, name)?;
        let ino = Ino(names.next_ino);
        let mut change = self.change_names(names, &[dir, ino])?;
        let parent = change.directory(dir)?;
        check_free(caller, &parent, found)?;
        let inode = self.new_inode(caller, &parent, ino, node, change.now)?;
        let attr = inode.attr;
        if attr.kind == FileKind::Directory && parent.nlink >= NLINK_MAX {
            return Err(TreeError::TooManyLinks);
        }
        change.add(inode);
        change.set_entry(dir, name, None, Some((attr.kind, ino)))?;
        let ticket = change.apply()?;
        if open {
            self.count_open(ino, !rules::is_privileged(caller));
        }
        Ok((attr, ticket))
    }

    fn new_inode(
        &self,
        caller: &Caller,
        parent: &Attr,
        ino: Ino,
        node: NewNode,
        now: Timestamp,
    ) -> Result<Inode, TreeError> {
        let attr = |kind, mode| rules::new_attr(caller, parent, ino, kind, mode, now);
        Ok(match node {
            NewNode::File { mode } => {
                let strand = self.strands.mint().map_err(StoreError::from)?;
                Inode { attr: attr(FileKind::Regular, mode), body: Body::Regular { strand } }
            }
            NewNode::Directory { mode } => Inode {
                attr: attr(FileKind::Directory, mode),
                body: Body::Directory { parent: parent.ino, next_cookie: rules::COOKIE_MIN },
            },
            NewNode::Symlink { target } => {
                rules::check_link_target(&target)?;
                let size = target.len() as u64;
                let attr = Attr { size, ..attr(FileKind::Symlink, 0o777) };
                Inode { attr, body: Body::Symlink { target: target.into() } }
            }
            NewNode::Special { kind, mode, rdev } => {
                let rdev = rules::check_special(kind, rdev, caller)?;
                Inode { attr: Attr { rdev, ..attr(kind, mode) }, body: Body::Special }
            }
        })
    }

    pub(super) fn link_now(
        &self,
        caller: &Caller,
        ino: Ino,
        dir: Ino,
        name: &Name,
    ) -> Result<(Attr, Option<Ticket>), TreeError> {
        let names = self.names();
        let found = self.dentry(dir, name)?;
        let mut change = self.change_names(names, &[dir, ino])?;
        let attr = change.file(ino)?.attr;
        check_free(caller, &change.directory(dir)?, found)?;
        match attr {
            Attr { kind: FileKind::Directory, .. } => return Err(TreeError::NotPermitted),
            Attr { nlink: 0, .. } => return Err(TreeError::NotFound),
            Attr { nlink: NLINK_MAX.., .. } => return Err(TreeError::TooManyLinks),
            _ => {}
        }
        change.set_entry(dir, name, None, Some((attr.kind, ino)))?;
        let now = change.now;
        let linked = &mut change.file_mut(ino)?.attr;
        linked.nlink += 1;
        linked.ctime = now;
        let attr = *linked;
        Ok((attr, change.apply()?))
    }

    /// Removes the name of a directory, or of anything else.
    pub(super) fn remove_now(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &Name,
        directory: bool,
    ) -> Result<Option<Ticket>, TreeError> {
        let names = self.names();
        let found = self.dentry(dir, name)?;
        let inos: Vec<_> =
            [Some(dir), found.map(|found| found.ino)].into_iter().flatten().collect();
        let mut change = self.change_names(names, &inos)?;
        let parent = change.directory(dir)?;
        rules::check_access(&parent, caller, Want::Search)?;
        let found = found.ok_or(TreeError::NotFound)?;
        rules::check_remove(&parent, &change.named(found)?, caller)?;
        match (found.kind == FileKind::Directory, directory) {
            (true, false) => return Err(TreeError::IsADirectory),
            (false, true) => return Err(TreeError::NotADirectory),
            (true, true) if !self.is_empty(found.ino)? => return Err(TreeError::NotEmpty),
            _ => {}
        }
        change.set_entry(dir, name, Some(found), None)?;
        change.drop_name(found.ino)?;
        Ok(change.apply()?)
    }

    pub(super) fn open_now(
        &self,
        caller: &Caller,
        ino: Ino,
        access: Access,
    ) -> Result<Attr, TreeError> {
        let _held = self.inodes.hold(&[ino]);
        let attr = self.existing(ino)?.attr;
        let (reads, writes) = (access != Access::Write, access != Access::Read);
        match attr.kind {
            FileKind::Regular => {}
            FileKind::Directory if writes => return Err(TreeError::IsADirectory),
            FileKind::Directory => {}
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => {
                return Err(TreeError::Invalid("only files and directories can be opened"));
            }
        }
        if reads {
            rules::check_access(&attr, caller, Want::Read)?;
        }
        if writes {
            rules::check_access(&attr, caller, Want::Write)?;
        }
        if attr.nlink == 0 && !self.is_open(ino) {
            return Err(TreeError::Stale);
        }
        self.count_open(ino, writes && !rules::is_privileged(caller));
        Ok(attr)
    }

    pub(super) fn release_now(&self, ino: Ino) -> Result<Option<Ticket>, TreeError> {
        {
            let _held = self.inodes.hold(&[ino]);
            let attr = self.existing(ino)?.attr;
            if self.count_release(ino)? || attr.nlink > 0 {
                return Ok(None);
            }
        }
        // The last release of a file without a name; nobody can open it again.
        let mut change = self.change_names(self.names(), &[ino])?;
        if change.file(ino)?.attr.nlink > 0 || self.is_open(ino) {
            return Ok(None);
        }
        change.remove(ino)?;
        change.commit_mut().delete(rows::ORPHANS, rows::ino_key(self.id, ino));
        Ok(change.apply()?)
    }

    pub(super) fn is_open(&self, ino: Ino) -> bool {
        lock(&self.opens).contains_key(&ino)
    }

    /// Whether a write to this file takes setuid and setgid away.
    pub(super) fn loses_privileges(&self, ino: Ino) -> bool {
        lock(&self.opens).get(&ino).is_some_and(|open| open.loses_privileges)
    }

    fn count_open(&self, ino: Ino, loses_privileges: bool) {
        let mut opens = lock(&self.opens);
        let open = opens.entry(ino).or_default();
        open.count += 1;
        open.loses_privileges |= loses_privileges;
    }

    /// Returns whether the file is still open.
    fn count_release(&self, ino: Ino) -> Result<bool, TreeError> {
        match lock(&self.opens).entry(ino) {
            Entry::Vacant(_) => Err(TreeError::Invalid("the file is not open")),
            Entry::Occupied(mut open) if open.get().count > 1 => {
                open.get_mut().count -= 1;
                Ok(true)
            }
            Entry::Occupied(open) => {
                open.remove();
                Ok(false)
            }
        }
    }
}

/// Whether a name of `parent` that names `found` is free, and the caller may take it.
pub(super) fn check_free(
    caller: &Caller,
    parent: &Attr,
    found: Option<Dentry>,
) -> Result<(), TreeError> {
    rules::check_access(parent, caller, Want::Search)?;
    match found {
        Some(_) => Err(TreeError::Exists),
        None if parent.nlink == 0 => Err(TreeError::NotFound),
        None => rules::check_add(parent, caller),
    }
}
