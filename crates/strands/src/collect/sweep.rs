//! The sweep: which of the store's blocks are dead, and deleting them.

use std::collections::HashSet;
use std::ops::ControlFlow;

use block_store::format::{CHECKSUM_BYTES, HEADER_BYTES, PIECE_BYTES, TRAILER_BYTES};
use block_store::{BlockName, DeleteError, Listed};

use crate::collect::best::{Best, gain_per_byte};
use crate::collect::{CollectOptions, CollectPhase, Collected, InFlight, Live};
use crate::commit::DOMAIN;
use crate::error::CollectError;
use crate::shared::Shared;

/// What a listing found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Dead blocks and their bytes.
    pub(super) dead: Vec<(BlockName, u64)>,
    /// Blocks of which less than half seems to live, and how much: those that give back most for what is moved.
    pub(super) sparse: Vec<(BlockName, u64)>,
}

/// What a listing is held against.
struct Judge<'a> {
    pinned: &'a HashSet<BlockName>,
    in_flight: &'a InFlight,
    /// Blocks that were put later than this are young; milliseconds since 1970.
    old_ms: i64,
}

/// What one block is.
enum Verdict {
    /// Not to be looked at: of another domain, or minted after the round began.
    Unknown,
    Live {
        /// How much of it lives, if that is little.
        sparse: Option<u64>,
    },
    /// Needed, but by no extent.
    Pinned,
    Young,
    Dead,
    /// Minted by a later opening.
    Later,
}

impl Judge<'_> {
    /// `live`: how much of it the mark found alive, if any.
    fn judge(&self, listed: &Listed, live: Option<u64>) -> Verdict {
        let name = listed.name;
        if name.domain != DOMAIN || self.in_flight.holds(name) {
            return Verdict::Unknown;
        }
        if self.in_flight.is_later(name) {
            return Verdict::Later;
        }
        let is_old = listed.modified_ms <= self.old_ms;
        if let Some(bytes) = live {
            let is_sparse = bytes * 2 < payload_bytes(listed.bytes);
            // A root names the block that it needs, so that one stays.
            let may_move = is_sparse && is_old && !self.pinned.contains(&name);
            return Verdict::Live { sparse: may_move.then_some(bytes) };
        }
        if self.pinned.contains(&name) {
            Verdict::Pinned
        } else if is_old {
            Verdict::Dead
        } else {
            Verdict::Young
        }
    }
}

impl Shared {
    /// Lists the store and says what is dead and what is sparse.
    pub(super) fn find(
        &self,
        live: &Live,
        pinned: &HashSet<BlockName>,
        in_flight: &InFlight,
        options: &CollectOptions,
        collected: &mut Collected,
    ) -> Result<Found, CollectError> {
        let grace_ms = i64::try_from(options.grace.as_millis()).unwrap_or(i64::MAX);
        let old_ms = self.host.clock.wall().millis().saturating_sub(grace_ms);
        let judge = Judge { pinned, in_flight, old_ms };
        let mut walk = live.blocks.walk();
        let mut found = Found::default();
        let mut sparse = Best::new(SPARSE_MAX);
        let mut live_listed = 0;
        let mut stopped = Ok(());
        let total = live.blocks.len() as u64;
        let listed = self.blocks.list(&mut |listed| {
            if collected.stored_blocks.is_multiple_of(TELL_BLOCKS) {
                self.tell_collecting(CollectPhase::List, collected.stored_blocks, Some(total));
                stopped = self.go_on_marking();
            }
            let live = walk.find(listed.name);
            live_listed += u64::from(live.is_some());
            let verdict = judge.judge(&listed, live);
            match verdict {
                Verdict::Later => {
                    stopped = Err(CollectError::NotOurs { block: listed.name.to_string() });
                }
                Verdict::Dead => found.dead.push((listed.name, listed.bytes)),
                Verdict::Live { sparse: Some(bytes) } => {
                    let gain = payload_bytes(listed.bytes).saturating_sub(bytes);
                    sparse.add(gain_per_byte(gain, bytes), (listed.name, bytes));
                }
                Verdict::Live { sparse: None }
                | Verdict::Unknown
                | Verdict::Pinned
                | Verdict::Young => {}
            }
            note(&listed, &verdict, collected);
            if stopped.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        stopped?;
        listed.map_err(|error| CollectError::Store(with_causes(&error)))?;
        collected.marked_extents = live.extents;
        collected.live_blocks = total;
        collected.live_bytes = live.bytes;
        collected.missing_blocks = total - live_listed;
        collected.scattered_stretches = live.scattered_count;
        found.sparse = sparse.into_sorted();
        Ok(found)
    }

    /// Deletes what is dead, a batch at a time. What cannot be deleted is left for the next round.
    pub(super) fn sweep(&self, dead: &[(BlockName, u64)], collected: &mut Collected) {
        let mut done = 0;
        for batch in dead.chunks(BATCH_BLOCKS) {
            if self.is_stopping() {
                break;
            }
            self.tell_collecting(CollectPhase::Sweep, done, Some(dead.len() as u64));
            let names: Vec<_> = batch.iter().map(|(name, _)| *name).collect();
            match self.blocks.delete_many(&names) {
                Ok(existed) => {
                    collected.deleted_blocks += existed;
                    collected.deleted_bytes += batch.iter().map(|(_, bytes)| bytes).sum::<u64>();
                }
                Err(error) => {
                    collected.failed(&with_causes(&error));
                    if matches!(error, DeleteError::Away { .. }) {
                        break;
                    }
                }
            }
            done += batch.len() as u64;
        }
    }
}

fn note(listed: &Listed, verdict: &Verdict, collected: &mut Collected) {
    collected.stored_blocks += 1;
    collected.stored_bytes += listed.bytes;
    match verdict {
        Verdict::Unknown | Verdict::Pinned | Verdict::Later | Verdict::Live { sparse: None } => {}
        Verdict::Live { sparse: Some(_) } => collected.sparse_blocks += 1,
        Verdict::Young => {
            collected.young_blocks += 1;
            collected.young_bytes += listed.bytes;
        }
        Verdict::Dead => {
            collected.dead_blocks += 1;
            collected.dead_bytes += listed.bytes;
        }
    }
}

/// Payload of a block of so many bytes, if it has one piece; less, if it has many.
fn payload_bytes(block_bytes: u64) -> u64 {
    let fixed = HEADER_BYTES + PIECE_BYTES + CHECKSUM_BYTES + TRAILER_BYTES;
    block_bytes.saturating_sub(fixed as u64)
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Blocks that are deleted by one request.
const BATCH_BLOCKS: usize = 1000;
/// How often a listing tells how far it is.
const TELL_BLOCKS: u64 = 1000;
/// Sparse blocks that one round remembers; there is another round.
const SPARSE_MAX: usize = 1 << 16;
