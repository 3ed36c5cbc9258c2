//! Buffers that reads fill. One that nobody looks at any more is filled again: its memory is there already, and
//! needs no zeros before it is overwritten.
//!
//! Invariants: what is idle is at most [`IDLE_BYTES_MAX`] together; a buffer is in the hands of one answer or idle.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::BLOCK_BYTES_MAX;

/// Most bytes in buffers that nobody uses.
const IDLE_BYTES_MAX: usize = 2 * BLOCK_BYTES_MAX as usize;

/// A smaller answer is not worth a buffer that comes back.
const RECYCLED_BYTES_MIN: usize = 32 << 10;

/// The buffers of one store.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    idle: Arc<Idle>,
}

/// Those that nobody uses, the longest idle first.
#[derive(Debug, Default)]
struct Idle(Mutex<Vec<Vec<u8>>>);

/// A buffer that goes back when its last reader is done.
struct Lent {
    buffer: Vec<u8>,
    len: usize,
    home: Arc<Idle>,
}

impl Buffers {
    /// `len` bytes that `fill` has written all of; what they were before means nothing.
    pub(super) fn filled<E>(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        if len < RECYCLED_BYTES_MIN {
            let mut bytes = vec![0; len];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let buffer = self.idle.take(len).unwrap_or_else(|| vec![0; len]);
        let mut lent = Lent { buffer, len, home: Arc::clone(&self.idle) };
        fill(&mut lent.buffer[..len])?;
        Ok(Bytes::from_owner(lent))
    }
}

impl Idle {
    /// A buffer of at least `len` bytes, and not of many more: an answer may be kept for long.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = len..=len + len / 8;
        let place = idle.iter().rposition(|buffer| fitting.contains(&buffer.len()))?;
        Some(idle.remove(place))
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(buffer);
        let mut bytes: usize = idle.iter().map(Vec::len).sum();
        while bytes > IDLE_BYTES_MAX {
            bytes -= idle.remove(0).len();
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a buffer serves one answer at a time, and few are kept. Method: their addresses, and what is idle.

    use super::*;

    const MIB: usize = 1 << 20;

    fn filled(buffers: &Buffers, len: usize, with: u8) -> Bytes {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(with);
            Ok::<_, ()>(())
        };
        buffers.filled(len, fill).unwrap()
    }

    fn idle_bytes(buffers: &Buffers) -> usize {
        buffers.idle.0.lock().unwrap().iter().map(Vec::len).sum()
    }

    #[test]
    fn a_buffer_is_used_again_when_its_last_reader_is_done_and_not_before() {
        let buffers = Buffers::default();
        let first = filled(&buffers, MIB, 1);
        let address = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        let second = filled(&buffers, MIB, 2);
        assert_ne!(second.as_ptr(), address);
        assert_eq!(part, vec![1; 10]);
        drop(part);
        let third = filled(&buffers, MIB - 5, 3);
        assert_eq!(third.as_ptr(), address);
        assert_eq!((third, second), (vec![3; MIB - 5].into(), vec![2; MIB].into()));
    }

    #[test]
    fn a_failed_fill_and_a_small_answer_take_nothing_along() {
        let buffers = Buffers::default();
        assert_eq!(buffers.filled(MIB, |_| Err(7)), Err(7));
        assert_eq!(idle_bytes(&buffers), MIB);
        assert_eq!(filled(&buffers, 100, 1), vec![1; 100]);
        // Much smaller: it would keep the rest alive.
        drop(filled(&buffers, MIB / 2, 1));
        assert_eq!(idle_bytes(&buffers), MIB + MIB / 2);
    }

    #[test]
    fn what_is_idle_is_bounded() {
        let buffers = Buffers::default();
        let answers: Vec<_> = (1..40).map(|n| filled(&buffers, n * 100_000, 1)).collect();
        drop(answers);
        assert!(idle_bytes(&buffers) <= IDLE_BYTES_MAX);
        assert!(idle_bytes(&buffers) > IDLE_BYTES_MAX / 2);
    }
}
