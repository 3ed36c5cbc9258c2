//! How many bytes of strands lie in which block: a sorted list, so that a listing in order of name is one walk
//! beside it.

use block_store::BlockName;

/// Bytes of extents by block. What was added lately is sorted in when it is as much as all before.
#[derive(Debug, Default)]
pub(crate) struct LiveBlocks {
    sorted: Vec<(BlockName, u64)>,
    fresh: Vec<(BlockName, u64)>,
}

/// The blocks when all were added.
#[derive(Debug)]
pub(crate) struct SortedBlocks(Vec<(BlockName, u64)>);

/// Looks blocks up; quick when they come in order.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    blocks: &'a [(BlockName, u64)],
    next: usize,
}

impl LiveBlocks {
    pub(crate) fn add(&mut self, block: BlockName, bytes: u64) {
        match self.fresh.last_mut() {
            Some((last, sum)) if *last == block => *sum += bytes,
            _ => {
                if self.fresh.len() >= self.sorted.len().max(FRESH_MIN) {
                    self.sort_in();
                }
                self.fresh.push((block, bytes));
            }
        }
    }

    pub(crate) fn into_sorted(mut self) -> SortedBlocks {
        self.sort_in();
        SortedBlocks(self.sorted)
    }

    fn sort_in(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable_by_key(|(name, _)| *name);
        let old = std::mem::take(&mut self.sorted);
        if old.is_empty() {
            fresh.dedup_by(|next, kept| {
                let is_same = next.0 == kept.0;
                kept.1 += if is_same { next.1 } else { 0 };
                is_same
            });
            self.sorted = fresh;
            return;
        }
        let mut merged: Vec<(BlockName, u64)> = Vec::with_capacity(old.len() + fresh.len());
        let mut old = old.into_iter().peekable();
        for (name, bytes) in fresh.drain(..) {
            while let Some(before) = old.next_if(|(old, _)| *old <= name) {
                merged.push(before);
            }
            match merged.last_mut() {
                Some((last, sum)) if *last == name => *sum += bytes,
                _ => merged.push((name, bytes)),
            }
        }
        merged.extend(old);
        (self.sorted, self.fresh) = (merged, fresh);
    }
}

impl SortedBlocks {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { blocks: &self.0, next: 0 }
    }
}

impl Walk<'_> {
    /// The bytes of a block, if any live.
    pub(crate) fn find(&mut self, block: BlockName) -> Option<u64> {
        let is_next = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| self.blocks.get(before));
            let here = self.blocks.get(at);
            before.is_none_or(|(name, _)| *name < block)
                && here.is_none_or(|(name, _)| *name >= block)
        };
        if !is_next(self.next) {
            self.next = self.blocks.partition_point(|(name, _)| *name < block);
        }
        let (name, bytes) = self.blocks.get(self.next)?;
        if *name != block {
            return None;
        }
        self.next += 1;
        Some(*bytes)
    }
}

/// Fewer are not sorted in before the end.
const FRESH_MIN: usize = 1 << 16;

#[cfg(test)]
mod tests {
    //! Goal: the list says of each block what a map of sums says, in whatever order blocks come and are asked for.

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn name(counter: u64) -> BlockName {
        BlockName { domain: 0, epoch: counter % 3, counter }
    }

    proptest! {
        #[test]
        fn blocks_have_the_sum_of_their_bytes(
            runs in prop::collection::vec(prop::collection::vec((0..40_u64, 1..9_u64), 0..30), 1..6),
            asked in prop::collection::vec(0..45_u64, 0..60),
        ) {
            let (mut blocks, mut want) = (LiveBlocks::default(), BTreeMap::new());
            for run in runs {
                for (counter, bytes) in run {
                    blocks.add(name(counter), bytes);
                    *want.entry(name(counter)).or_insert(0) += bytes;
                }
                blocks.sort_in();
            }
            let sorted = blocks.into_sorted();
            prop_assert_eq!(&sorted.0, &want.clone().into_iter().collect::<Vec<_>>());
            let mut walk = sorted.walk();
            for counter in asked.iter().copied().chain(0..45) {
                prop_assert_eq!(walk.find(name(counter)), want.get(&name(counter)).copied());
            }
        }
    }

    #[test]
    fn many_blocks_are_sorted_in_a_few_times() {
        let mut blocks = LiveBlocks::default();
        let count = 5 * FRESH_MIN as u64;
        for n in 0..count {
            blocks.add(BlockName { domain: 0, epoch: 1, counter: n * 7_919 % count }, 1);
        }
        let sorted = blocks.into_sorted();
        assert_eq!(sorted.len() as u64, count);
        assert!(sorted.0.is_sorted() && sorted.0.iter().all(|(_, bytes)| *bytes == 1));
    }
}
