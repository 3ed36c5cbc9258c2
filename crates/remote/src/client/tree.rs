//! The calls of [`FileTree`], each as one or more requests.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use file_tree::{
    Access, Attr, Caller, DirItem, FileTree, Ino, Name, NewNode, RenameMode, Reply, SetAttr,
    SetTime, Stability, Stat, TreeError, WriteEpoch, Written,
};

use super::connection::Connection;
use super::opens::Release;
use super::unsynced::{Reserved, What};
use super::{Client, EPOCH, Inner, OUTAGES_MAX, fate_unknown, lost_too_often, wrong_answer};
use crate::wire::{
    Answer, GROUPS_MAX, LINK_BYTES_MAX, LIST_ITEMS_MAX, NANOS_PER_SECOND, PAYLOAD_BYTES_MAX,
    Request,
};

/// The caller as it goes into a request.
fn sent(caller: &Caller) -> Result<Caller, TreeError> {
    if caller.groups.len() > GROUPS_MAX {
        return Err(TreeError::Invalid("the caller is in more groups than the protocol carries"));
    }
    Ok(caller.clone())
}

/// Times go over the wire only if they are times.
fn check_times(change: &SetAttr) -> Result<(), TreeError> {
    let bad = |time: Option<SetTime>| matches!(time, Some(SetTime::At(at)) if at.nanos >= NANOS_PER_SECOND);
    if bad(change.atime) || bad(change.mtime) {
        return Err(TreeError::Invalid("nanoseconds of a second or more"));
    }
    Ok(())
}

fn attr(answer: Answer) -> Result<Attr, TreeError> {
    if let Answer::Attr(attr) = answer { Ok(attr) } else { Err(wrong_answer()) }
}

fn done(answer: Answer) -> Result<(), TreeError> {
    if let Answer::Done = answer { Ok(()) } else { Err(wrong_answer()) }
}

impl Inner {
    async fn open(&self, caller: &Caller, ino: Ino, access: Access) -> Result<Attr, TreeError> {
        let request = Request::Open { caller: sent(caller)?, ino, access };
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            after = connection.number();
            match connection.call(&request).await {
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(answer) => {
                    let attr = attr(answer)?;
                    if self.opens.add(ino, access, caller, after) {
                        return Ok(attr);
                    }
                }
                Err(_) => {}
            }
        }
        Err(lost_too_often())
    }

    async fn create(
        &self,
        caller: &Caller,
        dir: Ino,
        name: &Name,
        mode: u32,
    ) -> Result<Attr, TreeError> {
        let request = Request::Create { caller: sent(caller)?, dir, name: name.clone(), mode };
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            after = connection.number();
            match connection.call(&request).await {
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(answer) => {
                    let attr = attr(answer)?;
                    if self.opens.add(attr.ino, Access::ReadWrite, caller, after) {
                        return Ok(attr);
                    }
                    // Made, and its open lost with the connection: a creator may always open its file.
                    let creator = Caller { checks_done: true, ..caller.clone() };
                    return self.open(&creator, attr.ino, Access::ReadWrite).await;
                }
                Err(lost) if lost.sent => return Err(fate_unknown()),
                Err(_) => {}
            }
        }
        Err(lost_too_often())
    }

    async fn release(&self, ino: Ino) -> Result<(), TreeError> {
        match self.opens.remove(ino) {
            Release::Send(connection) => match connection.call(&Request::Release { ino }).await {
                Ok(Answer::Failed(error)) => Err(error),
                Ok(answer) => done(answer),
                // The connection took the open along.
                Err(_) => Ok(()),
            },
            Release::Done => Ok(()),
            Release::Unknown => done(self.call(Request::Release { ino }).await?),
        }
    }

    /// Reads at most one payload.
    async fn read_piece(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, TreeError> {
        match self.call(Request::Read { ino, offset, len }).await? {
            Answer::Data(data) if data.len() <= usize::try_from(len).unwrap_or(usize::MAX) => {
                Ok(data)
            }
            _ => Err(wrong_answer()),
        }
    }

    async fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, TreeError> {
        let piece_max = u32::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u32::MAX);
        if len <= piece_max {
            return self.read_piece(ino, offset, len).await;
        }
        let mut all = BytesMut::new();
        let (mut at, mut left) = (offset, len);
        while left > 0 {
            let want = left.min(piece_max);
            let piece = self.read_piece(ino, at, want).await?;
            let got = u32::try_from(piece.len()).unwrap_or(want);
            all.extend_from_slice(&piece);
            if got < want {
                break;
            }
            left -= got;
            at = at.saturating_add(u64::from(got));
        }
        Ok(all.freeze())
    }

    /// Room for a change among those that may have to be sent again.
    async fn reserve(self: &Arc<Self>, payload_bytes: usize) -> Result<Reserved<'_>, TreeError> {
        loop {
            let freed = self.unsynced.freed();
            if let Some(reserved) = self.unsynced.try_reserve(payload_bytes) {
                if self.unsynced.is_half_full() && self.relief.try_lock().is_ok() {
                    let inner = self.clone();
                    // What could not be committed now is tried again when there is no room left.
                    self.runtime.spawn(async move { inner.relieve().await });
                }
                return Ok(reserved);
            }
            if self.unsynced.files().is_empty() {
                freed.await;
            } else {
                self.relieve().await?;
            }
        }
    }

    async fn write(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Written, TreeError> {
        let mut bytes = bytes;
        let mut at = offset;
        loop {
            let piece = bytes.split_to(bytes.len().min(PAYLOAD_BYTES_MAX));
            let piece_bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let written = self.write_piece(ino, at, piece).await?;
            if bytes.is_empty() {
                return Ok(written);
            }
            at = at.checked_add(piece_bytes).ok_or(TreeError::TooLarge)?;
        }
    }

    async fn write_piece(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Written, TreeError> {
        let reserved = self.reserve(bytes.len()).await?;
        let request = Request::Write { ino, offset, bytes: bytes.clone() };
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            after = connection.number();
            let _in_order = self.unsynced.order(ino).read().await;
            match connection.call(&request).await {
                Ok(Answer::Written(written)) => {
                    if written.stability == Stability::Written && !bytes.is_empty() {
                        let what = What::Write { offset, bytes };
                        self.unsynced.record(ino, reserved, Some(written.epoch), what);
                    }
                    return Ok(Written { epoch: EPOCH, ..written });
                }
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(_) => return Err(wrong_answer()),
                Err(_) => {}
            }
        }
        Err(lost_too_often())
    }

    /// The epoch that the server is in or was in lately; asked for once per connection if nothing has
    /// told it yet. Without an answer the change will be sent again needlessly, which is harmless.
    async fn epoch_now(&self, connection: &Connection) -> Option<WriteEpoch> {
        if let Some(epoch) = self.unsynced.seen() {
            return Some(epoch);
        }
        match connection.call(&Request::Commit { ino: self.root }).await {
            Ok(Answer::Committed(epoch)) => {
                self.unsynced.see(Some(epoch));
                Some(epoch)
            }
            Ok(_) | Err(_) => None,
        }
    }

    async fn set_attr(
        self: &Arc<Self>,
        caller: &Caller,
        ino: Ino,
        change: SetAttr,
    ) -> Result<Attr, TreeError> {
        check_times(&change)?;
        let request = Request::SetAttr { caller: sent(caller)?, ino, change };
        let reserved = self.reserve(0).await?;
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            after = connection.number();
            let _in_order = self.unsynced.order(ino).read().await;
            let epoch = self.epoch_now(&connection).await;
            match connection.call(&request).await {
                Ok(Answer::Attr(attr)) => {
                    // Sent again, it would be refused what it has been granted already.
                    let caller = Caller { checks_done: true, ..caller.clone() };
                    self.unsynced.record(ino, reserved, epoch, What::Attr { caller, change });
                    return Ok(attr);
                }
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(_) => return Err(wrong_answer()),
                Err(_) => {}
            }
        }
        Err(lost_too_often())
    }
}

impl FileTree for Client {
    fn root(&self) -> Ino {
        self.inner.root
    }

    fn lookup<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, Attr> {
        Box::pin(async move {
            let request = Request::Lookup { caller: sent(caller)?, dir, name: name.clone() };
            attr(self.inner.call(request).await?)
        })
    }

    fn attr(&self, ino: Ino) -> Reply<'_, Attr> {
        Box::pin(async move { attr(self.inner.call(Request::Attr { ino }).await?) })
    }

    fn set_attr<'a>(&'a self, caller: &'a Caller, ino: Ino, change: SetAttr) -> Reply<'a, Attr> {
        Box::pin(self.inner.set_attr(caller, ino, change))
    }

    fn read_link(&self, ino: Ino) -> Reply<'_, Bytes> {
        Box::pin(async move {
            match self.inner.call(Request::ReadLink { ino }).await? {
                Answer::Link(target) => Ok(target),
                _ => Err(wrong_answer()),
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
            if matches!(&node, NewNode::Symlink { target } if target.len() > LINK_BYTES_MAX) {
                return Err(TreeError::NameTooLong);
            }
            let request = Request::Make { caller: sent(caller)?, dir, name: name.clone(), node };
            attr(self.inner.call(request).await?)
        })
    }

    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        name: &'a Name,
        mode: u32,
    ) -> Reply<'a, Attr> {
        Box::pin(self.inner.create(caller, dir, name, mode))
    }

    fn link<'a>(
        &'a self,
        caller: &'a Caller,
        ino: Ino,
        dir: Ino,
        name: &'a Name,
    ) -> Reply<'a, Attr> {
        Box::pin(async move {
            let request = Request::Link { caller: sent(caller)?, ino, dir, name: name.clone() };
            attr(self.inner.call(request).await?)
        })
    }

    fn unlink<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move {
            let request = Request::Unlink { caller: sent(caller)?, dir, name: name.clone() };
            done(self.inner.call(request).await?)
        })
    }

    fn remove_dir<'a>(&'a self, caller: &'a Caller, dir: Ino, name: &'a Name) -> Reply<'a, ()> {
        Box::pin(async move {
            let request = Request::RemoveDir { caller: sent(caller)?, dir, name: name.clone() };
            done(self.inner.call(request).await?)
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
            let (from, to) = ((from.0, from.1.clone()), (to.0, to.1.clone()));
            done(self.inner.call(Request::Rename { caller: sent(caller)?, from, to, mode }).await?)
        })
    }

    fn open<'a>(&'a self, caller: &'a Caller, ino: Ino, access: Access) -> Reply<'a, Attr> {
        Box::pin(self.inner.open(caller, ino, access))
    }

    fn release(&self, ino: Ino) -> Reply<'_, ()> {
        Box::pin(self.inner.release(ino))
    }

    fn read(&self, ino: Ino, offset: u64, len: u32) -> Reply<'_, Bytes> {
        Box::pin(self.inner.read(ino, offset, len))
    }

    fn write(&self, ino: Ino, offset: u64, bytes: Bytes) -> Reply<'_, Written> {
        Box::pin(self.inner.write(ino, offset, bytes))
    }

    fn commit(&self, ino: Ino) -> Reply<'_, WriteEpoch> {
        Box::pin(async move { self.inner.commit(ino).await.map(|()| EPOCH) })
    }

    fn flush(&self, ino: Ino) -> Reply<'_, ()> {
        Box::pin(async move { self.inner.unsynced.take_error(ino).map_or(Ok(()), Err) })
    }

    fn list<'a>(
        &'a self,
        caller: &'a Caller,
        dir: Ino,
        after: u64,
        max: u32,
    ) -> Reply<'a, Vec<DirItem>> {
        Box::pin(async move {
            let max = max.min(LIST_ITEMS_MAX);
            match self.inner.call(Request::List { caller: sent(caller)?, dir, after, max }).await? {
                Answer::Items(items) => Ok(items),
                _ => Err(wrong_answer()),
            }
        })
    }

    fn stat(&self) -> Reply<'_, Stat> {
        Box::pin(async move {
            match self.inner.call(Request::Stat).await? {
                Answer::Stat(stat) => Ok(stat),
                _ => Err(wrong_answer()),
            }
        })
    }
}
