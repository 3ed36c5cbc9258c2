//! Removing what a deleted volume left: its rows and strands, some in each commit.
//!
//! Files go first, each together with its strand; then entries, listings, counters, and last the note that
//! the volume was deleted, which alone keeps the work from being lost.

use strands::{Commit, Order, Strands};

use crate::error::{StoreError, damaged};
use crate::rows::{self, Body, Inode, Keys, VolumeId};

/// Rows removed in one commit.
const ROWS_PER_COMMIT: usize = 512;

/// What removes the next rows of a deleted volume; `None` when nothing is left.
pub(super) fn next_commit(strands: &Strands, id: VolumeId) -> Result<Option<Commit>, StoreError> {
    let prefix = rows::volume_key(id);
    for table in
        [rows::INODES, rows::DENTRIES, rows::COOKIES, rows::ORPHANS, rows::COUNTERS, rows::DELETED]
    {
        let keys = Keys::of(&prefix);
        let page = strands.rows(table, keys.bounds(), Order::Ascending, ROWS_PER_COMMIT)?;
        if page.is_empty() {
            continue;
        }
        let mut commit = Commit::new();
        for (key, value) in page {
            if table == rows::INODES {
                remove_bytes(&mut commit, &key, &value);
            }
            commit.delete(table, key);
        }
        return Ok(Some(commit));
    }
    Ok(None)
}

/// A damaged row does not keep the rest from going; only its own bytes then stay behind.
fn remove_bytes(commit: &mut Commit, key: &[u8], value: &[u8]) {
    let inode = rows::ino_of_key(key).and_then(|ino| Inode::decode(ino, value));
    match inode {
        Ok(Inode { body: Body::Regular { strand }, .. }) => {
            commit.remove(strand);
        }
        Ok(_) => {}
        Err(why) => {
            let error = damaged("file", key, why);
            tracing::error!(%error, "a file of a deleted volume leaves its bytes behind");
        }
    }
}

/// Goes on with every deletion that a stop interrupted.
pub(super) fn finish_deletions(strands: &Strands) -> Result<(), StoreError> {
    let all = Keys::of(&[]);
    while let Some((key, _)) =
        strands.rows(rows::DELETED, all.bounds(), Order::Ascending, 1)?.into_iter().next()
    {
        let id = rows::volume_of_key(&key).map_err(|why| damaged("deleted volume", &key, why))?;
        while let Some(commit) = next_commit(strands, id)? {
            strands.admit_blocking(0)?;
            drop(strands.commit(commit)?);
        }
    }
    Ok(())
}
