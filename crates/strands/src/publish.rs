//! Publishing: putting the root of a round into the store, and letting go what older roots needed.
//!
//! The order, after the round's blocks are in the store:
//!
//! 1. look whether the store is still ours;
//! 2. put the root as an object, and come again later if the store only has it on its way;
//! 3. commit which two roots are kept now, and that the ledger and checkpoints that only older ones need are
//!    nobody's any more; wait until that is durable;
//! 4. delete the objects of older roots.
//!
//! A crash between two steps leaves a root more than two, or one that is put again under the same name. A store that
//! cannot be reached is tried again; a later round's root then takes the place of this one.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use block_store::PutIf;
use bytes::Bytes;

use crate::commit::Commit;
use crate::error::ReadError;
use crate::extents;
use crate::frames::{CHECKPOINTS, LEDGER};
use crate::pack::PackError;
use crate::recover::NODE;
use crate::root::{ROOTS_PREFIX, Root, decode_roots, encode_roots};
use crate::shared::{Shared, lock};
use crate::types::{Position, StrandId};

/// The row of the roots that the store is known to hold, oldest first.
pub(crate) const PUBLISHED_KEY: &[u8] = b"published roots";
/// How many are kept.
const ROOTS_KEPT: usize = 2;

impl Shared {
    /// Puts the newest root into the store, unless it is there. A store that does not take it is noted and tried
    /// again; one that is not ours any more is an error.
    pub(crate) fn publish_root(&self) -> Result<(), PackError> {
        let (waits, error) = match self.try_publish() {
            Ok(is_published) => (!is_published, None),
            Err(error @ PackError::Owner(_)) => return Err(error),
            Err(error) => (true, Some(error.to_string())),
        };
        let mut stats = lock(&self.pack_stats);
        if let Some(why) = error.as_ref().filter(|_| error != stats.root_error) {
            tracing::warn!(why, "the root waits for the store");
        }
        stats.root_error = error;
        self.root_waits.store(waits, Ordering::Release);
        Ok(())
    }

    /// Whether the newest root is in the store when this returns; if not, it is on its way.
    fn try_publish(&self) -> Result<bool, PackError> {
        let Some(root) = self.last_root()?.filter(|root| root.complete) else { return Ok(true) };
        let mut kept = self.published_roots()?;
        let name = root.object_name();
        if kept.last().is_some_and(|last| last.object_name() == name) {
            return Ok(true);
        }
        let objects = self.blocks.objects();
        let store = |why: String| PackError::Store(why);
        let mut put = lock(&self.root_put);
        if put.as_ref() != Some(&name) {
            self.check_owner()?;
            objects
                .put(&name, Bytes::from(root.encode()), PutIf::Always)
                .map_err(|error| store(error.to_string()))?;
            *put = Some(name.clone());
        }
        drop(put);
        if !objects.is_settled(&name) {
            return Ok(false);
        }
        kept.push(root);
        kept.drain(..kept.len().saturating_sub(ROOTS_KEPT));
        self.commit_published(&kept)?;
        let oldest = kept.first().map(Root::object_name);
        let names = objects.list(ROOTS_PREFIX).map_err(|error| store(error.to_string()))?;
        for name in names.iter().filter(|name| Some(*name) < oldest.as_ref()) {
            objects.delete(name).map_err(|error| store(error.to_string()))?;
        }
        Ok(true)
    }

    /// The roots that the store is known to hold, oldest first: what they need must stay.
    pub(crate) fn published_roots(&self) -> Result<Vec<Root>, ReadError> {
        let Some(row) = self.row(NODE, PUBLISHED_KEY)? else { return Ok(Vec::new()) };
        decode_roots(&row).map_err(|error| {
            ReadError::Failed(format!("the row of the roots in the store cannot be read: {error}"))
        })
    }

    /// Makes durable which roots are kept, and that nobody needs what only others did.
    fn commit_published(&self, kept: &[Root]) -> Result<(), PackError> {
        let mut commit = Commit::new();
        commit.put(NODE, PUBLISHED_KEY, encode_roots(kept));
        let _extents = self.lock_extents([LEDGER, CHECKPOINTS].into_iter());
        for strand in [LEDGER, CHECKPOINTS] {
            let needed = places(kept, strand);
            let all = extents::overlapping(self, strand, 0, u64::MAX)?;
            let gone = all.into_iter().filter(|extent| !needed.contains(&extent.start));
            gone.for_each(|extent| extents::remove(&mut commit, strand, extent.start));
        }
        let done: Position = self.append(commit)?;
        self.write_out()?;
        self.wait_durable(done)
    }
}

/// Where in `strand` the runs begin that these roots name.
fn places(roots: &[Root], strand: StrandId) -> BTreeSet<u64> {
    let mut places = BTreeSet::new();
    for root in roots {
        let stream = if strand == LEDGER { &root.ledger } else { &root.checkpoint };
        let mut at = stream.start;
        for range in &stream.ranges {
            places.insert(at);
            at += u64::from(range.len);
        }
    }
    places
}
