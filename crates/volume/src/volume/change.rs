//! One change: the files and rows it touches, gathered and then committed at once.
//!
//! A change begins with the right to change its files ([`Held`]), and for names with the lock of the
//! namespace; both are kept until it is dropped. What it reads is what is there, as nobody else may change
//! it; a change that is dropped before [`Change::apply`] leaves no trace.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use file_tree::{Attr, FileKind, Ino, Name, Timestamp, TreeError};
use strands::{Commit, Ticket};

use super::inodes::{Held, Known};
use super::{Names, Volume};
use crate::error::StoreError;
use crate::rows::{self, Body, CookieRow, Dentry, Inode};

#[derive(Debug)]
pub(super) struct Change<'v> {
    volume: &'v Volume,
    names: Option<MutexGuard<'v, Names>>,
    _held: Held<'v>,
    commit: Commit,
    files: BTreeMap<Ino, File>,
    /// The moment of the change.
    pub(super) now: Timestamp,
}

/// A file before and after the change; `None`: it does not exist.
#[derive(Debug)]
struct File {
    before: Option<Inode>,
    after: Option<Inode>,
}

impl Volume {
    /// Begins a change of one file's bytes or attributes.
    pub(super) fn change_file(&self, ino: Ino) -> Result<Change<'_>, TreeError> {
        self.change(None, &[ino])
    }

    /// Begins a change of names that touches `inos`.
    pub(super) fn change_names<'v>(
        &'v self,
        names: MutexGuard<'v, Names>,
        inos: &[Ino],
    ) -> Result<Change<'v>, TreeError> {
        self.change(Some(names), inos)
    }

    fn change<'v>(
        &'v self,
        names: Option<MutexGuard<'v, Names>>,
        inos: &[Ino],
    ) -> Result<Change<'v>, TreeError> {
        let held = self.inodes.hold(inos);
        self.check_exists()?;
        let mut files = BTreeMap::new();
        for ino in inos {
            let before = self.inode(*ino)?;
            files.insert(*ino, File { after: before.clone(), before });
        }
        let now = self.now();
        Ok(Change { volume: self, names, _held: held, commit: Commit::new(), files, now })
    }
}

impl Change<'_> {
    /// A file of this change, as it will be.
    pub(super) fn file(&self, ino: Ino) -> Result<&Inode, TreeError> {
        self.files.get(&ino).and_then(|file| file.after.as_ref()).ok_or(TreeError::Stale)
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> Result<&mut Inode, TreeError> {
        self.files.get_mut(&ino).and_then(|file| file.after.as_mut()).ok_or(TreeError::Stale)
    }

    /// A file that an entry names: it must exist.
    pub(super) fn named(&self, entry: Dentry) -> Result<Attr, TreeError> {
        match self.file(entry.ino) {
            Ok(inode) if inode.attr.kind == entry.kind => Ok(inode.attr),
            Ok(_) | Err(_) => {
                Err(TreeError::Damaged(format!("an entry names file {} wrongly", entry.ino)))
            }
        }
    }

    /// Attributes of a file that must be a directory.
    pub(super) fn directory(&self, ino: Ino) -> Result<Attr, TreeError> {
        let attr = self.file(ino)?.attr;
        if attr.kind == FileKind::Directory { Ok(attr) } else { Err(TreeError::NotADirectory) }
    }

    pub(super) fn commit_mut(&mut self) -> &mut Commit {
        &mut self.commit
    }

    /// Adds a file that is new; its number is the next one of the namespace.
    pub(super) fn add(&mut self, inode: Inode) {
        let names = self.names.as_mut().expect("only a change of names makes files");
        names.next_ino = names.next_ino.max(inode.attr.ino.0 + 1);
        names.files += 1;
        self.files.insert(inode.attr.ino, File { before: None, after: Some(inode) });
    }

    /// Makes `name` in `dir`, which named `old`, name `new` (`None`: nothing). The directory's times and
    /// its count of subdirectories follow, and so does the parent of a directory that moved.
    pub(super) fn set_entry(
        &mut self,
        dir: Ino,
        name: &Name,
        old: Option<Dentry>,
        new: Option<(FileKind, Ino)>,
    ) -> Result<(), TreeError> {
        let (now, volume) = (self.now, self.volume.id);
        let is_dir = |kind: Option<FileKind>| u32::from(kind == Some(FileKind::Directory));
        let (comes, goes) = (is_dir(new.map(|new| new.0)), is_dir(old.map(|old| old.kind)));
        let inode = self.file_mut(dir)?;
        let Body::Directory { next_cookie, .. } = &mut inode.body else {
            return Err(TreeError::NotADirectory);
        };
        let cookie = old.map_or(*next_cookie, |old| old.cookie);
        *next_cookie = (*next_cookie).max(cookie.saturating_add(1));
        inode.attr.nlink = (inode.attr.nlink + comes).saturating_sub(goes);
        (inode.attr.mtime, inode.attr.ctime) = (now, now);
        let (dentry, place) =
            (rows::dentry_key(volume, dir, name), rows::cookie_key(volume, dir, cookie));
        match new {
            Some((kind, ino)) => {
                self.commit.put(rows::DENTRIES, dentry, Dentry { kind, ino, cookie }.encode());
                self.commit.put(
                    rows::COOKIES,
                    place,
                    CookieRow { ino, name: name.clone() }.encode(),
                );
                if let Body::Directory { parent, .. } = &mut self.file_mut(ino)?.body {
                    *parent = dir;
                }
            }
            None => {
                self.commit.delete(rows::DENTRIES, dentry);
                self.commit.delete(rows::COOKIES, place);
            }
        }
        Ok(())
    }

    /// One name of `ino` is gone (all of a directory's). Without a name it lives only while it is open.
    pub(super) fn drop_name(&mut self, ino: Ino) -> Result<(), TreeError> {
        let now = self.now;
        let attr = &mut self.file_mut(ino)?.attr;
        attr.nlink = match attr.kind {
            FileKind::Directory => 0,
            _ => attr.nlink.saturating_sub(1),
        };
        attr.ctime = now;
        if attr.nlink > 0 {
            return Ok(());
        }
        if self.volume.is_open(ino) {
            self.commit.put(
                rows::ORPHANS,
                rows::ino_key(self.volume.id, ino),
                rows::encode_orphan(),
            );
        } else {
            self.remove(ino)?;
        }
        Ok(())
    }

    /// The file and its bytes are gone.
    pub(super) fn remove(&mut self, ino: Ino) -> Result<(), TreeError> {
        if let Body::Regular { strand } = self.file(ino)?.body {
            self.commit.remove(strand);
        }
        let names = self.names.as_mut().expect("only a change of names removes files");
        names.files = names.files.saturating_sub(1);
        if let Some(file) = self.files.get_mut(&ino) {
            file.after = None;
        }
        Ok(())
    }

    /// Commits everything at once. `None`: there was nothing to do.
    pub(super) fn apply(&mut self) -> Result<Option<Ticket>, StoreError> {
        let mut commit = std::mem::replace(&mut self.commit, Commit::new());
        self.files.retain(|_, file| file.before != file.after);
        for (ino, file) in &self.files {
            let key = rows::ino_key(self.volume.id, *ino);
            match &file.after {
                Some(inode) => commit.put(rows::INODES, key, inode.encode()),
                None => commit.delete(rows::INODES, key),
            };
        }
        if commit.is_empty() {
            return Ok(None);
        }
        if let Some(names) = &mut self.names {
            let row = names.row_to_keep();
            commit.put(rows::COUNTERS, rows::volume_key(self.volume.id).to_vec(), row.encode());
        }
        self.volume.inodes.begin(self.files.keys().copied());
        let ticket = self.volume.strands.commit(commit);
        let position = ticket.as_ref().ok().map(Ticket::position);
        let files = std::mem::take(&mut self.files).into_iter().map(|(ino, file)| {
            // After a failure the rows are what they are: the next reader looks.
            let known = |inode| position.map(|changed_before| Known { inode, changed_before });
            (ino, file.after.and_then(known))
        });
        self.volume.inodes.finish(files);
        if ticket.is_err()
            && let Some(names) = &mut self.names
        {
            names.look_again(self.volume);
        }
        Ok(Some(ticket?))
    }
}
