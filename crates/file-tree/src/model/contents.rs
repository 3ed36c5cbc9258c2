//! The bytes of one file of the model, holes not kept: pages of 4 KiB by number.
//!
//! Invariant: bytes that were never written, or were cut off by a truncate, are zero or absent.

use std::collections::BTreeMap;
use std::ops::Range;

const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Contents {
    pub(super) fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        for (number, range) in pieces(offset, offset + bytes.len() as u64) {
            let page = self.pages.entry(number).or_insert_with(empty_page);
            let (now, later) = bytes.split_at(range.len());
            page[range].copy_from_slice(now);
            bytes = later;
        }
    }

    /// The bytes from `start` to `end`; none if that is not ahead.
    pub(super) fn read(&self, start: u64, end: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, range) in pieces(start, end) {
            match self.pages.get(&number) {
                Some(page) => bytes.extend_from_slice(&page[range]),
                None => bytes.resize(bytes.len() + range.len(), 0),
            }
        }
        bytes
    }

    /// Forgets everything from `size` on.
    pub(super) fn truncate(&mut self, size: u64) {
        self.pages.retain(|number, _| number * PAGE_BYTES < size);
        if let Some(page) = self.pages.get_mut(&(size / PAGE_BYTES)) {
            page[within(size)..].fill(0);
        }
    }
}

/// The pages that `start..end` touches, and which of their bytes.
fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let number = at / PAGE_BYTES;
        let stop = end.min((number + 1) * PAGE_BYTES);
        let range = within(at)..within(stop - 1) + 1;
        at = stop;
        Some((number, range))
    })
}

fn empty_page() -> Box<[u8]> {
    vec![0; within(PAGE_BYTES - 1) + 1].into()
}

fn within(at: u64) -> usize {
    usize::try_from(at % PAGE_BYTES).expect("below a page")
}
