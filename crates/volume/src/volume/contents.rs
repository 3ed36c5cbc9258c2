//! Bytes and attributes of one file. Changes of different files do not wait for each other.

use bytes::Bytes;
use file_tree::rules::{self, FILE_BYTES_MAX};
use file_tree::{Attr, Caller, Ino, SetAttr, TreeError};
use strands::{Staged, StrandId, Ticket};

use super::{IO_BYTES_MAX, Volume};
use crate::error::StoreError;
use crate::rows::{Body, Durability};

/// A read starts over when the file was cut to nothing under it; after this many times the answer is what
/// the file held at one of those moments: nothing.
const READ_TRIES: u32 = 16;

impl Volume {
    pub(super) fn set_attr_now(
        &self,
        caller: &Caller,
        ino: Ino,
        set: &SetAttr,
    ) -> Result<(Attr, Option<Ticket>), TreeError> {
        let mut change = self.change_file(ino)?;
        let now = change.now;
        let inode = change.file_mut(ino)?;
        let old = inode.attr;
        inode.attr = rules::changed(&old, caller, set, now)?;
        inode.attr.allocated = old.allocated.min(inode.attr.size);
        let attr = inode.attr;
        if let Body::Regular { strand } = &mut inode.body {
            let had = *strand;
            if attr.size == 0 && old.size > 0 {
                *strand = self.strands.mint().map_err(StoreError::from)?;
                change.commit_mut().remove(had);
            } else if attr.size < old.size {
                change.commit_mut().truncate(had, attr.size);
            }
        }
        Ok((attr, change.apply()?))
    }

    /// Gives large payload blocks of its own, before any lock is taken.
    pub(super) async fn stage(
        &self,
        ino: Ino,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Staged, TreeError> {
        let waits_for_sync = self.durability == Durability::Synced;
        let end = offset.checked_add(bytes.len() as u64);
        let is_refused =
            bytes.len() > IO_BYTES_MAX as usize || end.is_none_or(|end| end > FILE_BYTES_MAX);
        if is_refused || !self.strands.should_stage(bytes.len()) {
            return Ok(Staged::journalled(bytes));
        }
        let inode = self.existing(ino)?;
        rules::check_is_regular(inode.attr.kind)?;
        let strand = strand_of(&inode.body)?;
        Ok(self
            .strands
            .stage(strand, offset, bytes, waits_for_sync)
            .await
            .map_err(StoreError::from)?)
    }

    pub(super) fn write_now(
        &self,
        ino: Ino,
        offset: u64,
        bytes: Staged,
    ) -> Result<(Attr, Option<Ticket>), TreeError> {
        let mut change = self.change_file(ino)?;
        let now = change.now;
        let inode = change.file_mut(ino)?;
        let attr = &mut inode.attr;
        rules::check_is_regular(attr.kind)?;
        let len = bytes.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(TreeError::TooLarge)?;
        if len > u64::from(IO_BYTES_MAX) {
            return Err(TreeError::Invalid("more than 8 MiB in one write"));
        }
        if bytes.is_empty() {
            return Ok((*attr, None));
        }
        attr.size = attr.size.max(end);
        attr.allocated = attr.allocated.saturating_add(len).min(attr.size);
        (attr.mtime, attr.ctime) = (now, now);
        if self.loses_privileges(ino) {
            attr.mode = rules::without_privileges(attr.mode);
        }
        let (attr, strand) = (*attr, strand_of(&inode.body)?);
        // If the file was emptied since, it has another strand, and the bytes go into the journal.
        change.commit_mut().place(strand, offset, bytes);
        Ok((attr, change.apply()?))
    }

    pub(super) async fn read_soon(
        &self,
        ino: Ino,
        offset: u64,
        len: u32,
    ) -> Result<Bytes, TreeError> {
        for _ in 0..READ_TRIES {
            let inode = self.existing(ino)?;
            rules::check_is_regular(inode.attr.kind)?;
            let strand = strand_of(&inode.body)?;
            let len = u64::from(len).min(inode.attr.size.saturating_sub(offset));
            let len = match u32::try_from(len) {
                Ok(0) => return Ok(Bytes::new()),
                Ok(len @ ..=IO_BYTES_MAX) => len,
                Ok(_) | Err(_) => return Err(TreeError::Invalid("more than 8 MiB in one read")),
            };
            let read = self.strands.read(strand, offset, len).await;
            // The bytes are of one moment; the size may be of an earlier one.
            let after = self.existing(ino)?;
            if strand_of(&after.body)? != strand {
                continue;
            }
            let mut bytes = read.map_err(StoreError::from)?;
            let left = after.attr.size.saturating_sub(offset);
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            return Ok(bytes);
        }
        Ok(Bytes::new())
    }
}

fn strand_of(body: &Body) -> Result<StrandId, TreeError> {
    match body {
        Body::Regular { strand } => Ok(*strand),
        Body::Directory { .. } => Err(TreeError::IsADirectory),
        Body::Symlink { .. } | Body::Special => {
            Err(TreeError::Invalid("only a regular file has bytes"))
        }
    }
}
