//! Pace: how much collection in the background may rewrite, and what has been left in peace long enough.
//!
//! Each two bytes of payload that are written earn one byte of rewriting. So in the long run at most half as much
//! again is written, and it is enough: while more than three times the live bytes is stored, less than a third of the
//! sparsest block lives, so that a byte moved gives back more than the two that earned it took.
//!
//! What is earned and not spent is kept, over restarts too, up to what is stored: no more can be worth it.
//!
//! ```text
//! row: table 0, key = "collection allowance", value = version u8 (1) | bytes u64 LE
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use host::Monotonic;

use crate::commit::Commit;
use crate::error::CommitError;
use crate::recover::NODE;
use crate::shared::{Shared, lock};
use crate::types::Position;

/// What the rounds so far have left to the next one.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Bytes that may be rewritten; `None`: its row was not read yet.
    allowance: Option<u64>,
    /// What the row says.
    saved: u64,
    /// Of the bytes written since the start, those that have earned already.
    counted: u64,
    seen: Seen,
}

/// Where the journal ended when, oldest first; no more than it takes to look back.
#[derive(Debug, Default)]
struct Seen(VecDeque<(Monotonic, Position)>);

impl Seen {
    /// Notes where the journal ends now, and says where it ended `ago` or longer before; `None`: not known.
    fn look_back(&mut self, now: Monotonic, end: Position, ago: Duration) -> Option<Position> {
        let is_due = |(last, _): &(Monotonic, Position)| now.since(*last) >= ago / LOOKS;
        if self.0.back().is_none_or(is_due) {
            self.0.push_back((now, end));
        }
        let is_old = |seen: &(Monotonic, Position)| now.since(seen.0) >= ago;
        while self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.front().filter(|seen| is_old(seen)).map(|(_, end)| *end)
    }
}

impl Shared {
    /// Before which position a strand must have been written last to be in peace since `cold`.
    pub(super) fn cold_before(&self, cold: Duration) -> Position {
        let (now, end) = (self.host.clock.monotonic(), Position::of(self.log.positions().appended));
        lock(&self.pace).seen.look_back(now, end, cold).unwrap_or(Position::START)
    }

    /// How many bytes may be rewritten now, of a store that holds so many.
    pub(super) fn allowance(&self, stored_bytes: u64) -> u64 {
        let saved = lock(&self.pace).allowance.is_none().then(|| self.saved_allowance());
        let written = self.read_state().written_bytes;
        let mut pace = lock(&self.pace);
        if let Some(saved) = saved {
            (pace.allowance, pace.saved) = (Some(saved), saved);
        }
        let earned = (written - pace.counted) / WRITTEN_PER_BYTE;
        pace.counted += earned * WRITTEN_PER_BYTE;
        let all = pace.allowance.unwrap_or(0).saturating_add(earned);
        *pace.allowance.insert(all.min(stored_bytes))
    }

    /// Takes what was rewritten off the allowance, and keeps the rest for the next round.
    pub(super) fn spend_allowance(&self, bytes: u64) -> Result<u64, CommitError> {
        let (left, is_saved) = {
            let mut pace = lock(&self.pace);
            let left = pace.allowance.unwrap_or(0).saturating_sub(bytes);
            pace.allowance = Some(left);
            (left, pace.saved == left)
        };
        if is_saved {
            return Ok(left);
        }
        let mut commit = Commit::new();
        commit.put(NODE, ALLOWANCE_KEY, [&[VERSION][..], &left.to_le_bytes()].concat());
        self.append(commit)?;
        self.write_out()?;
        lock(&self.pace).saved = left;
        Ok(left)
    }

    /// What the last run left. A row that cannot be read is as good as none.
    fn saved_allowance(&self) -> u64 {
        let row = self.row(NODE, ALLOWANCE_KEY).ok().flatten();
        let bytes = row.as_deref().and_then(|row| match row {
            [VERSION, bytes @ ..] => bytes.try_into().ok(),
            _ => None,
        });
        bytes.map_or(0, u64::from_le_bytes)
    }
}

const ALLOWANCE_KEY: &[u8] = b"collection allowance";
const VERSION: u8 = 1;
/// Payload that is written for each byte that may be rewritten.
const WRITTEN_PER_BYTE: u64 = 2;
/// How often within the time that it looks back the journal's end is noted.
const LOOKS: u32 = 8;

#[cfg(test)]
mod tests {
    //! Goal: looking back finds a position that is old enough and not much older, in bounded memory.

    use host::sim::Machine;

    use super::*;

    #[test]
    fn looking_back_finds_where_the_journal_ended_then() {
        const HOUR: Duration = Duration::from_secs(3600);
        let machine = Machine::new(1);
        let mut seen = Seen::default();
        for minute in 0..600 {
            let now = machine.host().clock.monotonic();
            let found = seen.look_back(now, Position::new(minute), HOUR);
            match found {
                None => assert!(minute < 60),
                Some(then) => {
                    assert!((60..=60 + 9).contains(&(minute - then.get())), "{then} at {minute}")
                }
            }
            assert!(seen.0.len() <= 10);
            machine.advance(Duration::from_secs(60));
        }
        let now = machine.host().clock.monotonic();
        assert_eq!(
            Seen::default().look_back(now, Position::new(7), Duration::ZERO),
            Some(Position::new(7))
        );
    }
}
