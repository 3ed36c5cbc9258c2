//! Goal: `fsync` and `close` tell of writes that are lost, and of nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use file_tree::model::Model;
use file_tree::{
    Access, Attr, Caller, DirItem, FileTree, Ino, Name, NewNode, RenameMode, Reply, SetAttr, Stat,
    TreeError, WriteEpoch, Written,
};

use crate::lab::{Lab, errno};

/// A model with troubles: commits and flushes that fail as told, and an epoch that can change.
#[derive(Debug, Default)]
struct Troubled {
    model: Model,
    epoch: AtomicU64,
    commits: AtomicU64,
    commit: Mutex<Option<TreeError>>,
    flush: Mutex<Option<TreeError>>,
    write: Mutex<Option<TreeError>>,
}

fn trouble(from: &Mutex<Option<TreeError>>) -> Result<(), TreeError> {
    from.lock().unwrap().take().map_or(Ok(()), Err)
}

impl FileTree for Troubled {
    fn root(&self) -> Ino {
        self.model.root()
    }
    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr> {
        self.model.lookup(caller, dir, name)
    }
    fn attr(&self, ino: Ino) -> Reply<'_, Attr> {
        self.model.attr(ino)
    }
    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr> {
        self.model.set_attr(caller, ino, change)
    }
    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes> {
        self.model.read_link(ino)
    }
    fn make<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        node: NewNode,
    ) -> Reply<'a, Attr> {
        self.model.make(caller, dir, name, node)
    }
    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr> {
        self.model.create(caller, dir, name, mode)
    }
    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr> {
        self.model.link(caller, ino, dir, name)
    }
    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        self.model.unlink(caller, dir, name)
    }
    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        self.model.remove_dir(caller, dir, name)
    }
    fn rename<'a>(
        &'a self,
        caller: &'a Caller,
        from: (Ino, &'a Name),
        to: (Ino, &'a Name),
        mode: RenameMode,
    ) -> Reply<'a, ()> {
        self.model.rename(caller, from, to, mode)
    }
    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr> {
        self.model.open(caller, ino, access)
    }
    fn release(&self, ino: Ino) -> Reply<'_, ()> {
        self.model.release(ino)
    }
    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes> {
        Box::pin(async move {
            // Waits once, so that the request goes on in a task.
            tokio::task::yield_now().await;
            self.model.read(ino, offset, len).await
        })
    }
    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written> {
        Box::pin(async move {
            trouble(&self.write)?;
            let written = self.model.write(ino, offset, bytes).await?;
            Ok(Written { epoch: WriteEpoch(self.epoch.load(Ordering::SeqCst)), ..written })
        })
    }
    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch> {
        Box::pin(async move {
            self.commits.fetch_add(1, Ordering::SeqCst);
            trouble(&self.commit)?;
            self.model.commit(ino).await?;
            Ok(WriteEpoch(self.epoch.load(Ordering::SeqCst)))
        })
    }
    fn flush(&self, _ino: Ino) -> Reply<'_, ()> {
        Box::pin(async move { trouble(&self.flush) })
    }
    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>> {
        self.model.list(caller, dir, after, max)
    }
    fn stat(&self) -> Reply<'_, Stat> {
        self.model.stat()
    }
}

/// A mount of a troubled tree with an open file of a few bytes.
fn with_file() -> Option<(Lab, Arc<Troubled>, File)> {
    let tree = Arc::new(Troubled::default());
    let lab = Lab::with(tree.clone(), 1)?;
    let mut file = File::create(lab.path("a")).unwrap();
    file.write_all(b"bytes").unwrap();
    Some((lab, tree, file))
}

#[test]
fn an_fsync_reaches_the_tree_and_its_error_the_caller() {
    let Some((lab, tree, file)) = with_file() else { return };
    assert_eq!(tree.commits.load(Ordering::SeqCst), 0, "a write is not a commit");
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!(tree.commits.load(Ordering::SeqCst), 2);
    for (error, number) in [
        (TreeError::NoSpace, libc::ENOSPC),
        (TreeError::Failed("disk".into()), libc::EIO),
        (TreeError::Unreachable("away".into()), libc::EIO),
    ] {
        *tree.commit.lock().unwrap() = Some(error);
        assert_eq!(errno(file.sync_all()), number);
        file.sync_all().unwrap();
    }
    let dir = File::open(lab.path("")).unwrap();
    *tree.commit.lock().unwrap() = Some(TreeError::NoSpace);
    assert_eq!(errno(dir.sync_all()), libc::ENOSPC);
    dir.sync_all().unwrap();
}

#[test]
fn an_fsync_after_a_lost_epoch_fails_once() {
    let Some((_lab, tree, mut file)) = with_file() else { return };
    tree.epoch.fetch_add(1, Ordering::SeqCst);
    file.write_all(b"more").unwrap();
    assert_eq!(errno(file.sync_all()), libc::EIO);
    file.sync_all().unwrap();
    file.write_all(b"more").unwrap();
    file.sync_all().unwrap();
    // A commit that fails answers for nothing: the loss is still told.
    file.write_all(b"more").unwrap();
    tree.epoch.fetch_add(1, Ordering::SeqCst);
    *tree.commit.lock().unwrap() = Some(TreeError::NoSpace);
    assert_eq!(errno(file.sync_all()), libc::ENOSPC);
    assert_eq!(errno(file.sync_all()), libc::EIO);
}

#[test]
fn a_close_makes_nothing_durable_but_tells_what_went_wrong() {
    let Some((lab, tree, file)) = with_file() else { return };
    *tree.flush.lock().unwrap() = Some(TreeError::NoSpace);
    let closed = close(file);
    assert_eq!(closed, Err(libc::ENOSPC));
    assert_eq!(tree.commits.load(Ordering::SeqCst), 0);
    assert_eq!(fs::read(lab.path("a")).unwrap(), b"bytes");
}

/// Closes and says how that went, which `File` does not.
#[expect(unsafe_code, reason = "the standard library closes files without telling errors")]
fn close(file: File) -> Result<(), i32> {
    let descriptor = file.into_raw_fd();
    // SAFETY: the descriptor was just taken out of its owner and is used by nobody else.
    match unsafe { libc::close(descriptor) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

#[test]
fn a_write_without_room_fails_and_the_next_goes_on() {
    let Some((lab, tree, mut file)) = with_file() else { return };
    *tree.write.lock().unwrap() = Some(TreeError::NoSpace);
    assert_eq!(errno(file.write_all(b"lost")), libc::ENOSPC);
    file.write_all(b" and more").unwrap();
    assert_eq!(fs::read(lab.path("a")).unwrap(), b"bytes and more");
}
