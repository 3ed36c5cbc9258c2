//! Copying into memory: the limit of an append that is only buffered.
//!
//! Pieces are copied one after the other into a ring, round and round. The ring is as large as what the
//! product fills before it starts anew, so that both touch as much memory and miss as many caches; its pages
//! are touched before the first measurement.

use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::measure::{timed, timed_threads};

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
        timed(|| {
            for _ in 0..count {
                self.copy_one(piece);
            }
            Ok(())
        })
    }

    fn copy_one(&mut self, piece: &[u8]) {
        assert!(piece.len() <= self.bytes.len(), "the ring holds at least one piece");
        if self.at + piece.len() > self.bytes.len() {
            self.at = 0;
        }
        // The optimiser must take every copy for one that somebody reads.
        self.bytes[self.at..self.at + piece.len()].copy_from_slice(black_box(piece));
        self.at += piece.len();
        black_box(&mut self.bytes[self.at - 1]);
    }
}

/// Bytes that begin at a page of memory: how two buffers lie to each other can halve the speed of a copy.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    /// So many bytes, all of them touched.
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0x5A; len + 4096];
        let from = bytes.as_ptr().align_offset(4096);
        Self { bytes, from, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }
}

/// A ring for each of several threads, and a number that all of them draw from for each piece: the least that
/// it takes to bring their pieces into one order.
#[derive(Debug)]
pub(crate) struct Rings {
    rings: Vec<Mutex<Ring>>,
    drawn: AtomicU64,
}

impl Rings {
    /// Rings of `size` bytes together.
    pub(crate) fn new(threads: usize, size: usize) -> Self {
        let rings = (0..threads).map(|_| Mutex::new(Ring::new(size / threads))).collect();
        Self { rings, drawn: AtomicU64::new(0) }
    }

    /// How long it takes all threads together to copy `piece` `count` times each.
    pub(crate) fn copy(&self, piece: &[u8], count: usize) -> anyhow::Result<Duration> {
        timed_threads(self.rings.len(), |number| {
            let mut ring = self.rings[number].lock().expect("no copying thread panics");
            for _ in 0..count {
                black_box(self.drawn.fetch_add(1, Ordering::Relaxed));
                ring.copy_one(piece);
            }
            Ok(())
        })
    }
}
