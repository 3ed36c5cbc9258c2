//! The trait itself.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;

use bytes::Bytes;

use crate::error::TreeError;
use crate::types::{
    Access, Attr, Caller, DirItem, Ino, Name, NewNode, RenameMode, SetAttr, Stat, WriteEpoch,
    Written,
};

/// The answer to one call: a boxed future, so that a tree can be used as `dyn FileTree`.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, TreeError>> + Send + 'a>>;

/// A tree of files, local or far away.
///
/// Permission checks are the tree's own job, by `caller` ([`Caller::checks_done`] says that a trusted
/// kernel has already made them). Each `open` and `create` that was answered is paired with one
/// [`FileTree::release`]; while a file is open it can be read and written even when its last name is
/// gone.
pub trait FileTree: Debug + Send + Sync {
    /// The root directory.
    fn root(&self) -> Ino;

    /// Finds `name` in `dir`.
    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr>;

    /// Attributes of a file.
    fn attr(&self, ino: Ino) -> Reply<'_, Attr>;

    /// Changes attributes, all or none; a size change truncates or extends with a hole.
    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr>;

    /// The target of a symbolic link.
    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes>;

    /// Makes a file, directory, symbolic link or special node; [`TreeError::Exists`] if the name is taken.
    /// The new file is not open.
    fn make<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        node: NewNode,
    ) -> Reply<'a, Attr>;

    /// Makes a regular file and opens it for reading and writing, in one step.
    /// [`TreeError::Exists`] if the name is taken.
    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr>;

    /// Gives a file another name. [`TreeError::NotPermitted`] for a directory.
    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr>;

    /// Removes the name of something that is not a directory.
    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()>;

    /// Removes an empty directory.
    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()>;

    /// Moves a name, in one atomic step.
    fn rename<'a>(
        &'a self,
        caller: &'a Caller,
        from: (Ino, &'a Name),
        to: (Ino, &'a Name),
        mode: RenameMode,
    ) -> Reply<'a, ()>;

    /// Opens a file or directory for `access`; keeps it alive until [`FileTree::release`].
    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr>;

    /// Ends one `open` or `create`.
    fn release(&self, ino: Ino) -> Reply<'_, ()>;

    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file, empty beyond it. Holes
    /// are zeros; bytes that cannot be found are [`TreeError::Damaged`].
    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes>;

    /// Writes all of `bytes` at `offset`, extending the file as needed.
    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written>;

    /// Returns when everything written to and changed about the file before is on stable storage.
    ///
    /// A returned epoch other than the one a write carried means that this write may be lost and
    /// must be sent again.
    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch>;

    /// Reports, once, what has gone wrong since with writes to `ino` that were answered; a door calls it
    /// at each close. It waits for nothing and makes nothing durable.
    ///
    /// A tree whose writes cannot go wrong after their answer keeps this default.
    fn flush(&self, ino: Ino) -> Reply<'_, ()> {
        let _nothing_to_report = ino;
        Box::pin(ready(Ok(())))
    }

    /// Lists `dir` in a stable order, beginning after `after` (0: from the start), at most `max` items.
    /// `.` and `..` are not listed. An empty answer is the end.
    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>>;

    /// Room and limits.
    fn stat(&self) -> Reply<'_, Stat>;
}
