//! The reference model: a [`FileTree`] in memory, written to be obviously right rather than fast.
//!
//! One lock around a map of nodes; each call is one function that checks everything first and changes
//! things last, so that a refused call leaves no trace. Time is a count of calls ([`Model`] has no clock),
//! so a test can tell exactly which call set a time.
//!
//! Invariants: every entry names a node; a node without a name lives only while it is open; the `nlink` of
//! a file is its entries, of a directory 2 plus its subdirectories.
//!
//! Not here: the permission rules ([`crate::rules`]), the file contents (`model/contents.rs`), renames (`model/rename.rs`).

mod contents;
mod rename;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use self::contents::Contents;
use crate::error::TreeError;
use crate::rules::{self, Want};
use crate::tree::{FileTree, Reply};
use crate::types::{
    Access, Attr, Caller, DirItem, FileKind, Ino, Name, NewNode, RenameMode, SetAttr, Stability,
    Stat, Timestamp, WriteEpoch, Written,
};

/// What [`Model`] says its size is: no promise, memory is the limit.
const TOTAL_BYTES: u64 = 1 << 40;
/// The first moment of the model's clock, in seconds since 1970; each call is one second later.
const CLOCK_START: i64 = 1_000_000_000;

/// The reference model. Bytes live as long as the value; every write is as good as durable.
#[derive(Debug)]
pub struct Model {
    state: Mutex<State>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// An empty tree whose root belongs to the superuser, mode 0755.
    pub fn new() -> Self {
        Self { state: Mutex::new(State::new()) }
    }

    /// What a restart of a server does to a tree: nothing is open any more, so files without a name go.
    pub fn restart(&self) {
        self.with(|state| {
            for node in state.nodes.values_mut() {
                node.opens = 0;
                node.loses_privileges = false;
            }
            state.nodes.retain(|_, node| node.attr.nlink > 0);
            Ok(())
        })
        .expect("forgetting opens cannot fail");
    }

    /// Which call the model is at, as its clock says it.
    pub fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// A copy as it is now, with a life of its own.
    pub fn snapshot(&self) -> Self {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { state: Mutex::new(state) }
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&mut State) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        call(&mut state)
    }

    fn reply<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut State) -> Result<T, TreeError>,
    ) -> Reply<'a, T> {
        Box::pin(ready(self.with(call)))
    }
}

#[derive(Clone, Debug)]
struct State {
    nodes: BTreeMap<Ino, Node>,
    next_ino: u64,
    calls: i64,
}

#[derive(Clone, Debug)]
struct Node {
    attr: Attr,
    body: Body,
    opens: u64,
    /// Someone unprivileged has it open for writing: a write takes setuid and setgid away.
    loses_privileges: bool,
}

#[derive(Clone, Debug)]
enum Body {
    File(Contents),
    Directory { parent: Ino, entries: BTreeMap<Name, Entry>, next_cookie: u64 },
    Link(Bytes),
    Special,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ino: Ino,
    cookie: u64,
}

const ROOT: Ino = Ino(1);

impl State {
    fn new() -> Self {
        let mut state = Self { nodes: BTreeMap::new(), next_ino: 2, calls: 0 };
        let now = state.now();
        let attr = Attr {
            ino: ROOT,
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
        };
        state.nodes.insert(ROOT, Node::new(attr, Body::directory(ROOT)));
        state
    }

    fn now(&self) -> Timestamp {
        Timestamp { seconds: CLOCK_START + self.calls, nanos: 0 }
    }

    fn node(&self, ino: Ino) -> Result<&Node, TreeError> {
        self.nodes.get(&ino).ok_or(TreeError::Stale)
    }

    fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, TreeError> {
        self.nodes.get_mut(&ino).ok_or(TreeError::Stale)
    }

    fn entries(&self, dir: Ino) -> Result<(&Attr, &BTreeMap<Name, Entry>), TreeError> {
        let node = self.node(dir)?;
        match &node.body {
            Body::Directory { entries, .. } => Ok((&node.attr, entries)),
            Body::File(_) | Body::Link(_) | Body::Special => Err(TreeError::NotADirectory),
        }
    }

    /// What `name` in `dir` is, if the caller may look.
    fn find(&self, caller: &Caller, dir: Ino, name: &Name) -> Result<Option<Ino>, TreeError> {
        let (attr, entries) = self.entries(dir)?;
        rules::check_access(attr, caller, Want::Search)?;
        Ok(entries.get(name).map(|entry| entry.ino))
    }

    /// Whether a free name in `dir` may be taken.
    fn check_add(&self, caller: &Caller, dir: Ino, name: &Name) -> Result<(), TreeError> {
        if self.find(caller, dir, name)?.is_some() {
            return Err(TreeError::Exists);
        }
        let attr = &self.node(dir)?.attr;
        if attr.nlink == 0 {
            return Err(TreeError::NotFound);
        }
        rules::check_add(attr, caller)
    }

    /// The file that `name` in `dir` names, if the caller may remove the name.
    fn check_remove(&self, caller: &Caller, dir: Ino, name: &Name) -> Result<Ino, TreeError> {
        let ino = self.find(caller, dir, name)?.ok_or(TreeError::NotFound)?;
        rules::check_remove(&self.node(dir)?.attr, &self.node(ino)?.attr, caller)?;
        Ok(ino)
    }

    /// Makes `name` in `dir` name `now_names` (nothing: the entry goes), whatever it named before. Keeps
    /// the directory's count of subdirectories and its times, and the parent of a directory.
    fn set_entry(&mut self, dir: Ino, name: &Name, now_names: Option<Ino>) {
        let now = self.now();
        let names_dir = now_names.is_some_and(|ino| self.is_directory(ino));
        let old = self.entries(dir).ok().and_then(|(_, entries)| entries.get(name).copied());
        let named_dir = old.is_some_and(|entry| self.is_directory(entry.ino));
        let node = self.nodes.get_mut(&dir).expect("the caller has checked the directory");
        let Body::Directory { entries, next_cookie, .. } = &mut node.body else {
            unreachable!("the caller has checked that it is a directory");
        };
        match (now_names, old) {
            (Some(ino), Some(old)) => {
                entries.insert(name.clone(), Entry { ino, cookie: old.cookie });
            }
            (Some(ino), None) => {
                entries.insert(name.clone(), Entry { ino, cookie: *next_cookie });
                *next_cookie += 1;
            }
            (None, _) => {
                entries.remove(name);
            }
        }
        node.attr.nlink = node.attr.nlink + u32::from(names_dir) - u32::from(named_dir);
        node.attr.mtime = now;
        node.attr.ctime = now;
        if let Some(Node { body: Body::Directory { parent, .. }, .. }) =
            now_names.and_then(|ino| self.nodes.get_mut(&ino))
        {
            *parent = dir;
        }
    }

    fn is_directory(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.attr.kind == FileKind::Directory)
    }

    /// One name of `ino` is gone (all of a directory's); a file without names lives while it is open.
    fn drop_name(&mut self, ino: Ino) {
        let now = self.now();
        let node = self.nodes.get_mut(&ino).expect("every entry names a node");
        let is_directory = node.attr.kind == FileKind::Directory;
        node.attr.nlink = if is_directory { 0 } else { node.attr.nlink - 1 };
        node.attr.ctime = now;
        if node.attr.nlink == 0 && node.opens == 0 {
            self.nodes.remove(&ino);
        }
    }

    fn is_empty(&self, dir: Ino) -> bool {
        self.entries(dir).is_ok_and(|(_, entries)| entries.is_empty())
    }

    fn set_attr(&mut self, caller: &Caller, ino: Ino, change: &SetAttr) -> Result<Attr, TreeError> {
        let now = self.now();
        let node = self.node_mut(ino)?;
        node.attr = rules::changed(&node.attr, caller, change, now)?;
        if let (Body::File(contents), Some(size)) = (&mut node.body, change.size) {
            contents.truncate(size);
        }
        Ok(node.attr)
    }

    fn make(
        &mut self,
        caller: &Caller,
        dir: Ino,
        name: &Name,
        new: NewNode,
    ) -> Result<Attr, TreeError> {
        self.check_add(caller, dir, name)?;
        let (kind, mode, rdev, body) = parts(new, caller, dir)?;
        if kind == FileKind::Directory && self.node(dir)?.attr.nlink >= rules::NLINK_MAX {
            return Err(TreeError::TooManyLinks);
        }
        let ino = Ino(self.next_ino);
        self.next_ino += 1;
        let mut attr = rules::new_attr(caller, &self.node(dir)?.attr, ino, kind, mode, self.now());
        attr.rdev = rdev;
        attr.size = if let Body::Link(target) = &body { target.len() as u64 } else { 0 };
        self.nodes.insert(ino, Node::new(attr, body));
        self.set_entry(dir, name, Some(ino));
        Ok(attr)
    }

    fn link(
        &mut self,
        caller: &Caller,
        ino: Ino,
        dir: Ino,
        name: &Name,
    ) -> Result<Attr, TreeError> {
        let (kind, nlink) = (self.node(ino)?.attr.kind, self.node(ino)?.attr.nlink);
        self.check_add(caller, dir, name)?;
        match (kind, nlink) {
            (FileKind::Directory, _) => return Err(TreeError::NotPermitted),
            (_, 0) => return Err(TreeError::NotFound),
            (_, rules::NLINK_MAX..) => return Err(TreeError::TooManyLinks),
            _ => self.set_entry(dir, name, Some(ino)),
        }
        let now = self.now();
        let attr = &mut self.node_mut(ino)?.attr;
        attr.nlink += 1;
        attr.ctime = now;
        Ok(*attr)
    }

    fn unlink(&mut self, caller: &Caller, dir: Ino, name: &Name) -> Result<(), TreeError> {
        let ino = self.check_remove(caller, dir, name)?;
        if self.is_directory(ino) {
            return Err(TreeError::IsADirectory);
        }
        self.set_entry(dir, name, None);
        self.drop_name(ino);
        Ok(())
    }

    fn remove_dir(&mut self, caller: &Caller, dir: Ino, name: &Name) -> Result<(), TreeError> {
        let ino = self.check_remove(caller, dir, name)?;
        if !self.is_directory(ino) {
            return Err(TreeError::NotADirectory);
        }
        if !self.is_empty(ino) {
            return Err(TreeError::NotEmpty);
        }
        self.set_entry(dir, name, None);
        self.drop_name(ino);
        Ok(())
    }

    fn open(&mut self, caller: &Caller, ino: Ino, access: Access) -> Result<Attr, TreeError> {
        let node = self.node_mut(ino)?;
        let (reads, writes) = (access != Access::Write, access != Access::Read);
        match node.attr.kind {
            FileKind::Regular => {}
            FileKind::Directory if writes => return Err(TreeError::IsADirectory),
            FileKind::Directory => {}
            _ => return Err(TreeError::Invalid("only files and directories can be opened")),
        }
        if reads {
            rules::check_access(&node.attr, caller, Want::Read)?;
        }
        if writes {
            rules::check_access(&node.attr, caller, Want::Write)?;
        }
        node.opens += 1;
        node.loses_privileges |= writes && !rules::is_privileged(caller);
        Ok(node.attr)
    }

    fn release(&mut self, ino: Ino) -> Result<(), TreeError> {
        let node = self.node_mut(ino)?;
        node.opens = node.opens.checked_sub(1).ok_or(TreeError::Invalid("the file is not open"))?;
        if node.opens == 0 {
            node.loses_privileges = false;
            if node.attr.nlink == 0 {
                self.nodes.remove(&ino);
            }
        }
        Ok(())
    }

    fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<Written, TreeError> {
        let now = self.now();
        let node = self.node_mut(ino)?;
        rules::check_is_regular(node.attr.kind)?;
        let end =
            offset.checked_add(bytes.len() as u64).filter(|end| *end <= rules::FILE_BYTES_MAX);
        let end = end.ok_or(TreeError::TooLarge)?;
        if let (Body::File(contents), false) = (&mut node.body, bytes.is_empty()) {
            contents.write(offset, bytes);
            node.attr.size = node.attr.size.max(end);
            node.attr.mtime = now;
            node.attr.ctime = now;
            if node.loses_privileges {
                node.attr.mode = rules::without_privileges(node.attr.mode);
            }
        }
        Ok(Written { stability: Stability::Written, epoch: EPOCH, attr: node.attr })
    }

    fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, TreeError> {
        let node = self.node(ino)?;
        rules::check_is_regular(node.attr.kind)?;
        let Body::File(contents) = &node.body else { unreachable!("a regular file has contents") };
        let end = node.attr.size.min(offset.saturating_add(u64::from(len)));
        Ok(contents.read(offset, end).into())
    }

    fn list(
        &self,
        caller: &Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Result<Vec<DirItem>, TreeError> {
        let (attr, entries) = self.entries(dir)?;
        rules::check_access(attr, caller, Want::Read)?;
        let mut entries: Vec<_> =
            entries.iter().filter(|(_, entry)| entry.cookie > after).collect();
        entries.sort_by_key(|(_, entry)| entry.cookie);
        let item = |(name, entry): &(&Name, &Entry)| {
            let attr = self.node(entry.ino)?.attr;
            Ok(DirItem { cookie: entry.cookie, name: (*name).clone(), attr })
        };
        entries.iter().take(max as usize).map(item).collect()
    }
}

const EPOCH: WriteEpoch = WriteEpoch(1);

impl Node {
    fn new(attr: Attr, body: Body) -> Self {
        Self { attr, body, opens: 0, loses_privileges: false }
    }
}

impl Body {
    fn directory(parent: Ino) -> Self {
        Self::Directory { parent, entries: BTreeMap::new(), next_cookie: rules::COOKIE_MIN }
    }
}

/// Kind, mode, device number and body of a new node.
fn parts(new: NewNode, caller: &Caller, dir: Ino) -> Result<(FileKind, u32, u64, Body), TreeError> {
    match new {
        NewNode::File { mode } => Ok((FileKind::Regular, mode, 0, Body::File(Contents::default()))),
        NewNode::Directory { mode } => Ok((FileKind::Directory, mode, 0, Body::directory(dir))),
        NewNode::Symlink { target } => {
            rules::check_link_target(&target)?;
            Ok((FileKind::Symlink, 0o777, 0, Body::Link(target.into())))
        }
        NewNode::Special { kind, mode, rdev } => {
            let rdev = rules::check_special(kind, rdev, caller)?;
            Ok((kind, mode, rdev, Body::Special))
        }
    }
}

impl FileTree for Model {
    fn root(&self) -> Ino {
        ROOT
    }

    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr> {
        self.reply(|state| {
            let ino = state.find(caller, dir, name)?.ok_or(TreeError::NotFound)?;
            Ok(state.node(ino)?.attr)
        })
    }

    fn attr(&self, ino: Ino) -> Reply<'_, Attr> {
        self.reply(|state| Ok(state.node(ino)?.attr))
    }

    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr> {
        self.reply(|state| state.set_attr(caller, ino, &change))
    }

    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes> {
        self.reply(|state| match &state.node(ino)?.body {
            Body::Link(target) => Ok(target.clone()),
            Body::File(_) | Body::Directory { .. } | Body::Special => {
                Err(TreeError::Invalid("not a symbolic link"))
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
        self.reply(|state| state.make(caller, dir, name, node))
    }

    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr> {
        self.reply(|state| {
            let attr = state.make(caller, dir, name, NewNode::File { mode })?;
            let node = state.node_mut(attr.ino)?;
            node.opens = 1;
            node.loses_privileges = !rules::is_privileged(caller);
            Ok(attr)
        })
    }

    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr> {
        self.reply(|state| state.link(caller, ino, dir, name))
    }

    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        self.reply(|state| state.unlink(caller, dir, name))
    }

    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        self.reply(|state| state.remove_dir(caller, dir, name))
    }

    fn rename<'a>(
        &'a self,
        caller: &'a Caller,
        from: (Ino, &'a Name),
        to: (Ino, &'a Name),
        mode: RenameMode,
    ) -> Reply<'a, ()> {
        self.reply(|state| state.rename(caller, from, to, mode))
    }

    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr> {
        self.reply(|state| state.open(caller, ino, access))
    }

    fn release(&self, ino: Ino) -> Reply<'_, ()> {
        self.reply(|state| state.release(ino))
    }

    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes> {
        self.reply(|state| state.read(ino, offset, len))
    }

    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written> {
        self.reply(|state| state.write(ino, offset, &bytes))
    }

    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch> {
        self.reply(|state| state.node(ino).map(|_| EPOCH))
    }

    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>> {
        self.reply(|state| state.list(caller, dir, after, max))
    }

    fn stat(&self) -> Reply<'_, Stat> {
        self.reply(|state| {
            let files = state.nodes.len() as u64;
            Ok(Stat { total_bytes: TOTAL_BYTES, available_bytes: TOTAL_BYTES, files })
        })
    }
}
