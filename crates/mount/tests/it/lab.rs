//! A mounted tree for one test.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use file_tree::FileTree;
use file_tree::model::Model;
use mount::{Mounted, Options};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Whether this machine can mount; says so if not.
pub(crate) fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists();
    if !can {
        println!("skipped: /dev/fuse is missing, so nothing can be mounted here");
    }
    can
}

/// Mounts of one tree, each on a directory of its own. Unmounted when dropped, before the directories go.
pub(crate) struct Lab {
    mounts: Vec<(Mounted, TempDir)>,
    runtime: Runtime,
    tree: Arc<dyn FileTree>,
}

impl Lab {
    /// One mount of an empty model.
    pub(crate) fn new() -> Option<Self> {
        Self::with(Arc::new(Model::new()), 1)
    }

    /// Two mounts of one empty model.
    pub(crate) fn two() -> Option<Self> {
        Self::with(Arc::new(Model::new()), 2)
    }

    pub(crate) fn with(tree: Arc<dyn FileTree>, mounts: usize) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let runtime = Runtime::new().unwrap();
        let mut lab = Self { mounts: Vec::new(), runtime, tree };
        for _ in 0..mounts {
            lab.mount(&Options::new("test"));
        }
        Some(lab)
    }

    /// Adds a mount.
    pub(crate) fn mount(&mut self, options: &Options) {
        let dir = tempfile::tempdir().unwrap();
        let _runtime = self.runtime.enter();
        let mounted = mount::mount(self.tree.clone(), dir.path(), options).unwrap();
        self.mounts.push((mounted, dir));
    }

    /// A path on the first mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path_on(0, name)
    }

    /// A path on mount `number`.
    pub(crate) fn path_on(&self, number: usize, name: &str) -> PathBuf {
        self.mounts[number].1.path().join(name)
    }

    pub(crate) fn mounted(&self) -> &Mounted {
        &self.mounts[0].0
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Opens for appending, without making the file.
pub(crate) fn appender(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entry_name =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(entry_name).collect();
    names.sort();
    names
}

/// The error number of a failed call.
pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
