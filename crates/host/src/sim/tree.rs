//! Directories and names: who is called what, what of it is durable, and the operations between the two.
//!
//! Invariant: the durable names with all of `pending` applied in order are the live ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Component, Path};

use rustix::io::Errno;

use crate::sim::file::{FileNode, pick};
use crate::sim::outcome::{Choice, Outcome};

/// Number of a file or directory; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u64);

const ROOT: NodeId = NodeId(0);

/// Files that lost their last live name are looked over whenever there are so many.
const ORPHANS_MAX: usize = 32;

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: BTreeMap<OsString, NodeId>,
    durable: BTreeMap<OsString, NodeId>,
}

/// A name in a directory.
type Place = (NodeId, OsString);

/// A create, rename or unlink: each place with what stands there afterwards.
#[derive(Clone, Debug)]
struct NameOperation {
    changes: Vec<(Place, Option<NodeId>)>,
    /// Directories that have to be synced before it is durable.
    unsynced: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    pending: Vec<NameOperation>,
    orphans: usize,
}

/// What a path leads to.
pub(super) enum Found {
    File(NodeId),
    Dir(NodeId),
}

impl Tree {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Self { nodes, next: ROOT.0 + 1, pending: Vec::new(), orphans: 0 }
    }

    /// What `path`, taken from the root, leads to.
    pub(super) fn find(&self, path: &Path) -> io::Result<Found> {
        let mut here = ROOT;
        for name in names(path)? {
            here = *self.dir(here)?.live.get(name).ok_or(Errno::NOENT)?;
        }
        match self.nodes.get(&here) {
            Some(Node::File(_)) => Ok(Found::File(here)),
            Some(Node::Dir(_)) => Ok(Found::Dir(here)),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Found::Dir(dir) => Ok(dir),
            Found::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Found::File(file) => Ok(file),
            Found::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }

    pub(super) fn file(&self, file: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&file) {
            Some(Node::File(node)) => Ok(node),
            Some(Node::Dir(_)) | None => Err(Errno::BADF.into()),
        }
    }

    pub(super) fn file_mut(&mut self, file: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&file) {
            Some(Node::File(node)) => Ok(node),
            Some(Node::Dir(_)) | None => Err(Errno::BADF.into()),
        }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        self.create(path, Node::File(FileNode::default()))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<NodeId> {
        self.create(path, Node::Dir(DirNode::default()))
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (dir, name) = self.place(path)?;
        if self.dir(dir)?.live.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        let id = NodeId(self.next);
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(vec![((dir, name), Some(id))]);
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find_file(from)?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        match self.dir(to.0)?.live.get(&to.1) {
            Some(there) if *there == file => return Ok(()),
            Some(there) if matches!(self.nodes.get(there), Some(Node::Dir(_))) => {
                return Err(Errno::ISDIR.into());
            }
            Some(_) => self.orphans += 1,
            None => {}
        }
        self.change(vec![(from, None), (to, Some(file))]);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let place = self.place(path)?;
        self.change(vec![(place, None)]);
        self.orphans += 1;
        Ok(())
    }

    /// Names and nodes of a directory, by name.
    pub(super) fn list(&self, dir: NodeId) -> io::Result<Vec<(&OsStr, Option<&FileNode>)>> {
        let entries = self.dir(dir)?.live.iter();
        Ok(entries.map(|(name, id)| (name.as_os_str(), self.file(*id).ok())).collect())
    }

    /// The same number for trees in which running code sees the same names and bytes.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = Mixer(MIXER_FACTOR);
        self.hash_node(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_node(&self, node: NodeId, hasher: &mut Mixer) {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => file.live().hash(hasher),
            Some(Node::Dir(dir)) => {
                hasher.write_usize(dir.live.len());
                for (name, node) in &dir.live {
                    name.hash(hasher);
                    self.hash_node(*node, hasher);
                }
            }
            None => {}
        }
    }

    /// Makes durable what waited for no other directory, and for no earlier operation on the same name.
    pub(super) fn sync_dir(&mut self, dir: NodeId) {
        let mut held = BTreeSet::new();
        for mut operation in std::mem::take(&mut self.pending) {
            operation.unsynced.remove(&dir);
            let waits = !operation.unsynced.is_empty()
                || operation.changes.iter().any(|(place, _)| held.contains(place));
            if waits {
                held.extend(operation.changes.iter().map(|(place, _)| place.clone()));
                self.pending.push(operation);
            } else {
                self.settle(operation);
            }
        }
        if self.orphans > ORPHANS_MAX {
            self.sweep();
        }
    }

    /// The power goes: names, then the files that still have one.
    pub(super) fn crash(&mut self, outcome: &mut dyn Outcome) {
        let mut lost = BTreeSet::new();
        for operation in std::mem::take(&mut self.pending) {
            let possible = operation.changes.iter().all(|(place, _)| !lost.contains(place));
            if possible && pick(outcome, Choice::Name, 2) == 1 {
                self.settle(operation);
            } else {
                lost.extend(operation.changes.into_iter().map(|(place, _)| place));
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live = dir.durable.clone(),
                Node::File(file) => file.open = 0,
            }
        }
        self.sweep();
        let any = self.files().any(|(_, file)| file.is_pending());
        let unit_bytes = if any && pick(outcome, Choice::Unit, 2) == 1 { 4096 } else { 512 };
        for (id, node) in &mut self.nodes {
            if let Node::File(file) = node {
                file.crash(id.0, unit_bytes, outcome);
            }
        }
    }

    /// No process holds anything any more.
    pub(super) fn close_all(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.open = 0;
            }
        }
        self.sweep();
    }

    /// Pages of the disk that live files take, open ones without a name too.
    pub(super) fn charged_pages(&self) -> u64 {
        let mut named = BTreeSet::new();
        self.mark(ROOT, &|dir| &dir.live, &mut named);
        let charged = self.files().filter(|(id, file)| file.open > 0 || named.contains(id));
        charged.map(|(_, file)| file.charged_pages()).sum()
    }

    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn files(&self) -> impl Iterator<Item = (NodeId, &FileNode)> {
        self.nodes.iter().filter_map(|(id, node)| match node {
            Node::File(file) => Some((*id, file)),
            Node::Dir(_) => None,
        })
    }

    fn dir(&self, dir: NodeId) -> io::Result<&DirNode> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(node)) => Ok(node),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Directory and name of `path`; the name need not exist.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(Errno::EXIST.into());
        };
        Ok((self.find_dir(parent)?, name.to_owned()))
    }

    /// Changes the live names and remembers it for the next sync.
    fn change(&mut self, changes: Vec<(Place, Option<NodeId>)>) {
        for ((dir, name), node) in &changes {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                set(&mut dir.live, name, *node);
            }
        }
        let unsynced = changes.iter().map(|((dir, _), _)| *dir).collect();
        self.pending.push(NameOperation { changes, unsynced });
    }

    fn settle(&mut self, operation: NameOperation) {
        for ((dir, name), node) in operation.changes {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&dir) {
                set(&mut dir.durable, &name, node);
            }
        }
    }

    /// Forgets what has no name, neither live nor durable nor pending, and no handle.
    fn sweep(&mut self) {
        let mut used = BTreeSet::new();
        self.mark(ROOT, &|dir| &dir.live, &mut used);
        self.mark(ROOT, &|dir| &dir.durable, &mut used);
        used.extend(self.files().filter(|(_, file)| file.open > 0).map(|(id, _)| id));
        for operation in &self.pending {
            for ((dir, _), node) in &operation.changes {
                used.insert(*dir);
                used.extend(node);
            }
        }
        self.nodes.retain(|id, _| used.contains(id));
        self.orphans = 0;
    }

    fn mark(
        &self,
        from: NodeId,
        side: &dyn Fn(&DirNode) -> &BTreeMap<OsString, NodeId>,
        used: &mut BTreeSet<NodeId>,
    ) {
        let mut next = vec![from];
        while let Some(id) = next.pop() {
            used.insert(id);
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                next.extend(side(dir).values());
            }
        }
    }
}

/// Odd, its bits without a pattern.
const MIXER_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash of many bytes, several times as quick as the standard one, for nobody who chooses the bytes. Each step is
/// undone by another, so two states that differ stay different while the same bytes follow.
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(MIXER_FACTOR);
        self.0 ^= self.0 >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn set(names: &mut BTreeMap<OsString, NodeId>, name: &OsStr, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

/// The names in `path`, from the root on; where a program runs is not simulated.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(names)
}
