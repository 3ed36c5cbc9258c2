//! What one connection may do and has open.
//!
//! Inode numbers are not secret, and reads and writes carry no caller. So a peer that is not trusted may
//! read and write only what it has opened on this connection for that purpose, which is where
//! the tree checked its rights; and each of its other calls is made as the peer itself. What it can do
//! with a guessed number is ask for attributes and link targets, and look into directories that its own
//! rights allow but whose parents' do not: the mode of the data directory, which holds the socket, is
//! what keeps such peers out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use file_tree::{Access, Caller, FileTree, Ino, TreeError};

use crate::peer::Peer;
use crate::wire::{Answer, LIST_ITEMS_MAX, Request};

/// A payload below this is copied out of the buffer that it shares with other frames, so that a tree
/// which keeps it does not keep the buffer.
const SHARED_BUFFER_BYTES: usize = 16 * 1024;

/// Bytes that the answer to a small request may take.
const SMALL_ANSWER_BYTES: u32 = 256;

/// Bytes that one directory item may take in an answer.
const ITEM_BYTES: u32 = 384;

/// One connection's rights and open files.
#[derive(Debug)]
pub(super) struct Session {
    tree: Arc<dyn FileTree>,
    peer: Peer,
    opens: Mutex<HashMap<Ino, Opens>>,
}

/// How often a file is open here, and what for. The rights last until the last release.
#[derive(Clone, Copy, Debug, Default)]
struct Opens {
    count: u64,
    reading: bool,
    writing: bool,
}

/// Bytes that the answer to `request` may take, for the connection's limit.
pub(super) fn answer_bytes_max(request: &Request) -> u32 {
    match request {
        Request::Read { len, .. } => len.saturating_add(SMALL_ANSWER_BYTES),
        Request::List { max, .. } => (*max).min(LIST_ITEMS_MAX) * ITEM_BYTES,
        Request::ReadLink { .. } => SMALL_ANSWER_BYTES + 4096,
        Request::Lookup { .. }
        | Request::Attr { .. }
        | Request::SetAttr { .. }
        | Request::Make { .. }
        | Request::Create { .. }
        | Request::Link { .. }
        | Request::Unlink { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::Open { .. }
        | Request::Release { .. }
        | Request::Write { .. }
        | Request::Commit { .. }
        | Request::Stat => SMALL_ANSWER_BYTES,
    }
}

impl Session {
    pub(super) fn new(tree: Arc<dyn FileTree>, peer: Peer) -> Self {
        Self { tree, peer, opens: Mutex::new(HashMap::new()) }
    }

    pub(super) fn root(&self) -> Ino {
        self.tree.root()
    }

    /// Does what `request` asks, as far as this peer may.
    pub(super) async fn answer(&self, request: Request) -> Answer {
        self.try_answer(request).await.unwrap_or_else(Answer::Failed)
    }

    async fn try_answer(&self, request: Request) -> Result<Answer, TreeError> {
        let tree = &self.tree;
        let who = |claimed: Caller| self.peer.caller(claimed);
        Ok(match request {
            Request::Lookup { caller, dir, name } => {
                Answer::Attr(tree.lookup(&who(caller), dir, &name).await?)
            }
            Request::Attr { ino } => Answer::Attr(tree.attr(ino).await?),
            Request::SetAttr { caller, ino, change } => {
                Answer::Attr(tree.set_attr(&who(caller), ino, change).await?)
            }
            Request::ReadLink { ino } => Answer::Link(tree.read_link(ino).await?),
            Request::Make { caller, dir, name, node } => {
                Answer::Attr(tree.make(&who(caller), dir, &name, node).await?)
            }
            Request::Create { caller, dir, name, mode } => {
                let attr = tree.create(&who(caller), dir, &name, mode).await?;
                self.opened(attr.ino, Access::ReadWrite);
                Answer::Attr(attr)
            }
            Request::Link { caller, ino, dir, name } => {
                Answer::Attr(tree.link(&who(caller), ino, dir, &name).await?)
            }
            Request::Unlink { caller, dir, name } => {
                done(tree.unlink(&who(caller), dir, &name).await)?
            }
            Request::RemoveDir { caller, dir, name } => {
                done(tree.remove_dir(&who(caller), dir, &name).await)?
            }
            Request::Rename { caller, from, to, mode } => {
                done(tree.rename(&who(caller), (from.0, &from.1), (to.0, &to.1), mode).await)?
            }
            Request::Open { caller, ino, access } => {
                let attr = tree.open(&who(caller), ino, access).await?;
                self.opened(ino, access);
                Answer::Attr(attr)
            }
            Request::Release { ino } => done(self.release(ino).await)?,
            Request::Read { ino, offset, len } => {
                self.check(ino, Access::Read)?;
                Answer::Data(tree.read(ino, offset, len).await?)
            }
            Request::Write { ino, offset, bytes } => {
                self.check(ino, Access::Write)?;
                Answer::Written(tree.write(ino, offset, unshared(bytes)).await?)
            }
            Request::Commit { ino } => Answer::Committed(tree.commit(ino).await?),
            Request::List { caller, dir, after, max } => {
                Answer::Items(tree.list(&who(caller), dir, after, max.min(LIST_ITEMS_MAX)).await?)
            }
            Request::Stat => Answer::Stat(tree.stat().await?),
        })
    }

    fn opened(&self, ino: Ino, access: Access) {
        let mut opens = self.opens();
        let open = opens.entry(ino).or_default();
        open.count += 1;
        open.reading |= access != Access::Write;
        open.writing |= access != Access::Read;
    }

    /// Releases what this connection opened; it cannot release what another one holds.
    async fn release(&self, ino: Ino) -> Result<(), TreeError> {
        if self.forget_open(ino) {
            return self.tree.release(ino).await;
        }
        self.tree.attr(ino).await?;
        Err(TreeError::Invalid("the file is not open on this connection"))
    }

    /// Counts one open less; false if there is none.
    fn forget_open(&self, ino: Ino) -> bool {
        match self.opens().entry(ino) {
            Entry::Vacant(_) => return false,
            Entry::Occupied(mut open) if open.get().count > 1 => open.get_mut().count -= 1,
            Entry::Occupied(open) => drop(open.remove()),
        }
        true
    }

    /// Releases everything that is still open.
    pub(super) async fn release_all(&self) {
        let opens = std::mem::take(&mut *self.opens());
        for (ino, open) in opens {
            for _ in 0..open.count {
                if let Err(error) = self.tree.release(ino).await {
                    tracing::debug!(%ino, %error, "a file of an ended connection cannot be released");
                }
            }
        }
    }

    /// Whether this peer may move bytes of `ino` in this direction.
    fn check(&self, ino: Ino, access: Access) -> Result<(), TreeError> {
        let may = match self.peer {
            Peer::Trusted => true,
            Peer::User(_) => self.opens().get(&ino).is_some_and(|open| match access {
                Access::Read => open.reading,
                Access::Write => open.writing,
                Access::ReadWrite => open.reading && open.writing,
            }),
        };
        if may { Ok(()) } else { Err(TreeError::AccessDenied) }
    }

    fn opens(&self) -> MutexGuard<'_, HashMap<Ino, Opens>> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn done(result: Result<(), TreeError>) -> Result<Answer, TreeError> {
    result.map(|()| Answer::Done)
}

fn unshared(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARED_BUFFER_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes }
}
