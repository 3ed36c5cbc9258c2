//! Copying into memory: the limit of an append that is only buffered.
//!
//! Pieces are copied one after the other into a ring, round and round. The ring is as large as what the
//! product fills before it starts anew, so that both touch as much memory and miss as many caches; its pages
//! are touched before the first measurement.

use std::hint::black_box;
use std::time::Duration;

use crate::measure::timed;

/// Memory that pieces are copied into.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    at: usize,
}

impl Ring {
    /// A ring of `size` bytes, all of them touched.
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: vec![0xA5; size], at: 0 }
    }

    /// How long it takes to copy `piece` into the ring `count` times.
    pub(crate) fn copy(&mut self, piece: &[u8], count: usize) -> anyhow::Result<Duration> {
        assert!(piece.len() <= self.bytes.len(), "the ring holds at least one piece");
        timed(|| {
            for _ in 0..count {
                if self.at + piece.len() > self.bytes.len() {
                    self.at = 0;
                }
                // The optimiser must take every copy for one that somebody reads.
                self.bytes[self.at..self.at + piece.len()].copy_from_slice(black_box(piece));
                self.at += piece.len();
                black_box(&mut self.bytes[self.at - 1]);
            }
            Ok(())
        })
    }
}
