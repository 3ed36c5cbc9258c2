//! How long to wait before the next attempt: exponential, with full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).

use std::time::Duration;

use host::Random;

/// The longest wait after a first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait of all.
const MAX: Duration = Duration::from_secs(20);

/// The wait after `failures` failures in a row.
pub(crate) fn backoff(failures: u32, random: &dyn Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    jittered(FIRST.saturating_mul(1 << doublings).min(MAX), random)
}

/// Anything between nothing and `max`, each as likely.
pub(crate) fn jittered(max: Duration, random: &dyn Random) -> Duration {
    let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX - 1);
    Duration::from_nanos(random.next_u64() % (nanos + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_below_a_limit_that_doubles() {
        let random = host::sim::Machine::new(7).host().random;
        for (failures, limit) in [(1, FIRST), (2, FIRST * 2), (4, FIRST * 8), (40, MAX)] {
            let waits: Vec<_> = (0..1000).map(|_| backoff(failures, &*random)).collect();
            assert!(waits.iter().all(|wait| *wait <= limit));
            let below_half = waits.iter().filter(|wait| **wait < limit / 2).count();
            assert!((400..600).contains(&below_half), "{failures}: {below_half} of 1000");
        }
    }
}
