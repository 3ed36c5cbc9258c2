//! Numbers that look random and are the same in every run.

/// Marsaglia's xorshift generator with 64 bits of state (<https://www.jstatsoft.org/article/view/v008i14>).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// A generator that begins with `seed`, which is not 0.
    pub(crate) fn new(seed: u64) -> Self {
        // Small seeds differ in few bits; the first numbers would too.
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % end
    }

    /// So many numbers below `end`.
    pub(crate) fn below_each(&mut self, end: usize, count: usize) -> Vec<usize> {
        let below = |_| usize::try_from(self.below(end as u64)).expect("below a usize");
        (0..count).map(below).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the numbers are spread over their range, and the same for one seed.

    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0; 10];
        for number in Random::new(42).below_each(10, 10_000) {
            counts[number] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(Random::new(1).below_each(100, 9), Random::new(1).below_each(100, 9));
        assert_ne!(Random::new(1).below_each(100, 9), Random::new(2).below_each(100, 9));
    }
}
