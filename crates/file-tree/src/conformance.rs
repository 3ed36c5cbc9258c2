//! The conformance suite: what every file tree must do, whoever implements it.
//!
//! [`check_all`] runs named cases, each on a tree of its own, and then random calls compared with the
//! [`Model`](crate::model::Model). A tree that is reopened or crashed in its own tests drives a
//! [`Comparison`] itself.
//!
//! The suite panics where a tree differs, naming the case, or the seed and the calls that led there. It
//! runs the futures of a tree on the calling thread; a tree that needs a runtime brings threads for it.
//!
//! Not here: times of day, `allocated`, the size of directories and the room of [`FileTree::stat`], which
//! each tree may fill in its own way.

mod bytes_cases;
mod name_cases;
mod random;
mod rename_cases;
mod rights_cases;

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;

pub use self::random::Comparison;
use crate::error::TreeError;
use crate::tree::FileTree;
use crate::types::{
    Access, Attr, Caller, DirItem, Ino, Name, NewNode, RenameMode, SetAttr, Timestamp, Written,
};

/// Random calls per seed in [`check_all`], and how many seeds.
const CALLS: u32 = 400;
const SEEDS: u64 = 5;

/// Runs the whole suite; `make` gives a new, empty tree each time, whose root belongs to the superuser.
///
/// # Panics
///
/// When the tree does something else than it should.
pub fn check_all(make: &dyn Fn() -> Arc<dyn FileTree>) {
    check_cases(make);
    for seed in 0..SEEDS {
        check_random(make(), seed, CALLS);
    }
}

/// Runs the named cases alone.
///
/// # Panics
///
/// When the tree does something else than it should.
pub fn check_cases(make: &dyn Fn() -> Arc<dyn FileTree>) {
    let all = [name_cases::CASES, bytes_cases::CASES, rename_cases::CASES, rights_cases::CASES];
    for (name, case) in all.into_iter().flatten() {
        let _named = CaseName(name);
        case(&Subject::new(make()));
    }
}

/// Makes `calls` random calls on `tree`, which must be empty, and on a model, and compares all that can be
/// seen. The same seed gives the same calls.
///
/// # Panics
///
/// At the first difference, with the seed and the calls that led there.
pub fn check_random(tree: Arc<dyn FileTree>, seed: u64, calls: u32) {
    let mut comparison = Comparison::new(tree, seed);
    comparison.run(calls);
    comparison.verify();
}

/// Runs one future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A named sentence that must hold, and how to see it.
type Case = (&'static str, fn(&Subject));

/// Says which case failed, when one panics.
struct CaseName(&'static str);

impl Drop for CaseName {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("file tree conformance, failed case: {}", self.0);
        }
    }
}

/// The tree under test with calls that block, so that a case reads as a list of steps.
struct Subject {
    tree: Arc<dyn FileTree>,
    root: Ino,
}

impl Subject {
    fn new(tree: Arc<dyn FileTree>) -> Self {
        let root = tree.root();
        Self { tree, root }
    }

    fn lookup_as(&self, caller: &Caller, dir: Ino, name: &str) -> Result<Attr, TreeError> {
        block_on(self.tree.lookup(caller, dir, &named(name)))
    }

    fn lookup(&self, dir: Ino, name: &str) -> Result<Attr, TreeError> {
        self.lookup_as(&Caller::root(), dir, name)
    }

    fn attr(&self, ino: Ino) -> Result<Attr, TreeError> {
        block_on(self.tree.attr(ino))
    }

    fn set_as(&self, caller: &Caller, ino: Ino, change: SetAttr) -> Result<Attr, TreeError> {
        block_on(self.tree.set_attr(caller, ino, change))
    }

    fn set(&self, ino: Ino, change: SetAttr) -> Attr {
        self.set_as(&Caller::root(), ino, change).expect("root may change attributes")
    }

    fn make_as(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &str,
        node: NewNode,
    ) -> Result<Attr, TreeError> {
        block_on(self.tree.make(caller, dir, &named(name), node))
    }

    fn file(&self, dir: Ino, name: &str) -> Attr {
        self.make_as(&Caller::root(), dir, name, NewNode::File { mode: 0o644 }).expect("a new file")
    }

    fn dir(&self, dir: Ino, name: &str) -> Attr {
        self.make_as(&Caller::root(), dir, name, NewNode::Directory { mode: 0o755 })
            .expect("a new directory")
    }

    fn create_as(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &str,
        mode: u32,
    ) -> Result<Attr, TreeError> {
        block_on(self.tree.create(caller, dir, &named(name), mode))
    }

    fn link_as(&self, caller: &Caller, ino: Ino, dir: Ino, name: &str) -> Result<Attr, TreeError> {
        block_on(self.tree.link(caller, ino, dir, &named(name)))
    }

    fn link(&self, ino: Ino, dir: Ino, name: &str) -> Result<Attr, TreeError> {
        self.link_as(&Caller::root(), ino, dir, name)
    }

    fn unlink_as(&self, caller: &Caller, dir: Ino, name: &str) -> Result<(), TreeError> {
        block_on(self.tree.unlink(caller, dir, &named(name)))
    }

    fn unlink(&self, dir: Ino, name: &str) -> Result<(), TreeError> {
        self.unlink_as(&Caller::root(), dir, name)
    }

    fn remove_dir(&self, dir: Ino, name: &str) -> Result<(), TreeError> {
        block_on(self.tree.remove_dir(&Caller::root(), dir, &named(name)))
    }

    fn rename_as(
        &self,
        caller: &Caller,
        from: (Ino, &str),
        to: (Ino, &str),
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        block_on(self.tree.rename(caller, (from.0, &named(from.1)), (to.0, &named(to.1)), mode))
    }

    fn rename(&self, from: (Ino, &str), to: (Ino, &str)) -> Result<(), TreeError> {
        self.rename_as(&Caller::root(), from, to, RenameMode::Replace)
    }

    fn open_as(&self, caller: &Caller, ino: Ino, access: Access) -> Result<Attr, TreeError> {
        block_on(self.tree.open(caller, ino, access))
    }

    fn open(&self, ino: Ino, access: Access) -> Result<Attr, TreeError> {
        self.open_as(&Caller::root(), ino, access)
    }

    fn release(&self, ino: Ino) -> Result<(), TreeError> {
        block_on(self.tree.release(ino))
    }

    fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, TreeError> {
        block_on(self.tree.read(ino, offset, len))
    }

    fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<Written, TreeError> {
        block_on(self.tree.write(ino, offset, Bytes::copy_from_slice(bytes)))
    }

    fn list_as(
        &self,
        caller: &Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Result<Vec<DirItem>, TreeError> {
        block_on(self.tree.list(caller, dir, after, max))
    }

    /// The whole directory, asked for `max` items at a time.
    fn list(&self, dir: Ino, max: u32) -> Vec<DirItem> {
        let mut all: Vec<DirItem> = Vec::new();
        loop {
            let after = all.last().map_or(0, |item| item.cookie);
            let page = self.list_as(&Caller::root(), dir, after, max).expect("root may list");
            assert!(page.len() <= max as usize, "{} items where {max} were asked for", page.len());
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    fn names(&self, dir: Ino) -> Vec<String> {
        let name = |item: &DirItem| String::from_utf8_lossy(item.name.as_bytes()).into_owned();
        let mut names: Vec<_> = self.list(dir, 100).iter().map(name).collect();
        names.sort_unstable();
        names
    }

    fn contents(&self, ino: Ino) -> Vec<u8> {
        self.read(ino, 0, 1 << 20).expect("the file can be read").to_vec()
    }
}

fn named(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("the suite uses valid names")
}

fn user(uid: u32) -> Caller {
    Caller { uid, gid: uid, groups: Vec::new(), checks_done: false }
}

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

fn owner(uid: u32, gid: u32) -> SetAttr {
    SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() }
}

fn size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

fn times(attr: &Attr) -> [Timestamp; 3] {
    [attr.atime, attr.mtime, attr.ctime]
}

/// The answer must be exactly this error.
#[track_caller]
fn refused<T: Debug>(answer: Result<T, TreeError>, want: TreeError) {
    assert_eq!(answer.expect_err("the call should be refused"), want);
}

/// The answer must be [`TreeError::Invalid`], for whatever reason.
#[track_caller]
fn invalid<T: Debug>(answer: Result<T, TreeError>) {
    let error = answer.expect_err("the call should be refused");
    assert!(matches!(error, TreeError::Invalid(_)), "{error:?} instead of Invalid");
}

#[cfg(test)]
mod tests {
    //! Goal: the model passes its own suite, and the suite sees a tree that differs.

    use super::*;
    use crate::model::Model;

    #[test]
    fn the_model_passes_every_case() {
        check_cases(&|| Arc::new(Model::new()));
    }

    #[test]
    fn the_model_equals_itself_under_random_calls() {
        for seed in 0..30 {
            check_random(Arc::new(Model::new()), seed, CALLS);
        }
    }

    #[test]
    #[should_panic(expected = "seed 7")]
    fn a_tree_that_was_changed_behind_our_back_is_seen() {
        let tree = Arc::new(Model::new());
        let mut comparison = Comparison::new(tree.clone(), 7);
        comparison.run(50);
        let subject = Subject::new(tree);
        subject.file(subject.root, "not in the model");
        comparison.verify();
    }
}
