//! The best of many: what is most worth rewriting, in bounded memory.

use std::cmp::Reverse;

/// The `max` items with the highest scores of all that were added.
#[derive(Debug)]
pub(crate) struct Best<T> {
    max: usize,
    /// Up to twice as many; then the worse half goes.
    scored: Vec<(Reverse<u64>, T)>,
}

impl<T: Ord> Best<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, scored: Vec::new() }
    }

    pub(crate) fn add(&mut self, score: u64, item: T) {
        self.scored.push((Reverse(score), item));
        if self.scored.len() >= 2 * self.max {
            self.scored.select_nth_unstable(self.max);
            self.scored.truncate(self.max);
        }
    }

    /// The highest score first; of equal ones, the lowest item.
    pub(crate) fn into_sorted(mut self) -> Vec<T> {
        self.scored.sort_unstable();
        self.scored.truncate(self.max);
        self.scored.into_iter().map(|(_, item)| item).collect()
    }
}

/// How much is gained for each byte that is moved.
pub(crate) fn gain_per_byte(gain: u64, moved_bytes: u64) -> u64 {
    gain.saturating_mul(1 << 32) / moved_bytes.max(1)
}

#[cfg(test)]
mod tests {
    //! Goal: of any number of items the best are kept, in order.

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_kept_in_order(scores in prop::collection::vec(0..50_u64, 0..300), max in 1..40_usize) {
            let mut best = Best::new(max);
            scores.iter().zip(0_u32..).for_each(|(score, item)| best.add(*score, item));
            let mut want: Vec<_> = scores.iter().zip(0_u32..).map(|(score, item)| (Reverse(*score), item)).collect();
            want.sort_unstable();
            let want: Vec<_> = want.into_iter().take(max).map(|(_, item)| item).collect();
            prop_assert_eq!(best.into_sorted(), want);
        }
    }
}
