//! A circuit: after some failures in a row nobody asks any more, but for one who tries from time to time.

use std::time::Duration;

use host::{Monotonic, Random};

use super::backoff::jittered;

/// The first pause; each one that follows without an answer is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The circuit.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// Without an answer between.
    failures: u32,
    failures_max: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    why: String,
    /// When it opened.
    since: Monotonic,
    /// When somebody may try.
    until: Monotonic,
    /// Pauses so far.
    pauses: u32,
    /// Somebody is trying.
    probing: bool,
}

impl Circuit {
    /// A closed circuit that opens after `failures_max` failures in a row.
    pub(crate) fn new(failures_max: u32) -> Self {
        Self { failures: 0, failures_max, open: None }
    }

    /// Why nobody asks; `None` while all do.
    pub(crate) fn why_open(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.why.as_str())
    }

    /// Since when nobody asks; `None` while all do.
    pub(crate) fn open_since(&self) -> Option<Monotonic> {
        self.open.as_ref().map(|open| open.since)
    }

    /// Whether the circuit is closed, or it is time to try.
    pub(crate) fn admits(&self, now: Monotonic) -> bool {
        self.open.as_ref().is_none_or(|open| !open.probing && open.until <= now)
    }

    /// When somebody may try, if somebody may and it is open.
    pub(crate) fn tries_at(&self) -> Option<Monotonic> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.until)
    }

    /// Somebody who was admitted asks. Says whether that is the try: the one whose failure counts while
    /// the circuit is open.
    pub(crate) fn ask(&mut self) -> bool {
        match &mut self.open {
            Some(open) => !std::mem::replace(&mut open.probing, true),
            None => false,
        }
    }

    /// The store answered, whatever it said.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
        self.open = None;
    }

    /// The try came to no end: another one may follow.
    pub(crate) fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// The store did not answer, or could not; `wait` is how long it asked to be left alone. `probe` is what
    /// [`Circuit::ask`] said. Says whether this opened the circuit.
    pub(crate) fn failed(
        &mut self,
        now: Monotonic,
        wait: Duration,
        why: &str,
        probe: bool,
        random: &dyn Random,
    ) -> bool {
        // From when on an answer may be hoped for.
        let from = now + wait;
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) if probe => {
                open.pauses = open.pauses.saturating_add(1);
                open.probing = false;
                open.until = from + pause(open.pauses, random);
                why.clone_into(&mut open.why);
                false
            }
            Some(_) => false,
            None if self.failures >= self.failures_max => {
                let until = from + pause(0, random);
                let why = why.to_owned();
                self.open = Some(Open { why, since: now, until, pauses: 0, probing: false });
                true
            }
            None => false,
        }
    }
}

/// Between half of the pause and all of it.
fn pause(pauses: u32, random: &dyn Random) -> Duration {
    let whole = PAUSE.saturating_mul(1 << pauses.min(10)).min(PAUSE_MAX);
    whole / 2 + jittered(whole / 2, random)
}

#[cfg(test)]
mod tests {
    //! Goal: it opens after failures in a row, lets one try at a time, and closes with the first answer.
    //! Method: moments by hand.

    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_secs(seconds))
    }

    fn random() -> std::sync::Arc<dyn Random> {
        host::sim::Machine::new(1).host().random
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_only_then() {
        let (mut circuit, random) = (Circuit::new(3), random());
        for _ in 0..4 {
            assert!(!circuit.failed(at(0), NONE, "x", false, &*random));
            assert!(!circuit.failed(at(0), NONE, "x", false, &*random));
            circuit.answered();
        }
        assert!(!circuit.failed(at(0), NONE, "x", false, &*random));
        assert!(!circuit.failed(at(0), NONE, "x", false, &*random));
        assert!(circuit.admits(at(0)) && circuit.why_open().is_none());
        assert!(circuit.failed(at(0), NONE, "gone", false, &*random));
        assert!(!circuit.admits(at(0)));
        assert_eq!(circuit.why_open(), Some("gone"));
        assert_eq!(circuit.open_since(), Some(at(0)));
    }

    #[test]
    fn one_tries_at_a_time_and_the_pauses_grow_to_a_limit() {
        let (mut circuit, random) = (Circuit::new(1), random());
        circuit.failed(at(0), NONE, "x", false, &*random);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let began = now;
            while !circuit.admits(at(now)) {
                now += 1;
            }
            pauses.push(now - began);
            assert!(circuit.ask(), "the first who asks is the one who tries");
            assert!(!circuit.admits(at(now + 1000)), "while one tries, nobody else does");
            assert!(!circuit.failed(at(now), NONE, "late", false, &*random));
            assert!(!circuit.admits(at(now + 1000)), "a late failure is not the try's");
            circuit.failed(at(now), NONE, "x", true, &*random);
        }
        assert!(
            pauses[0] <= 1 && pauses[11] >= 15 && pauses.iter().all(|p| *p <= 30),
            "{pauses:?}"
        );
        circuit.answered();
        assert!(circuit.admits(at(now)) && circuit.why_open().is_none());
    }

    #[test]
    fn a_store_that_asks_for_time_is_left_alone_for_it_and_is_away_from_the_start() {
        let (mut circuit, random) = (Circuit::new(1), random());
        assert!(circuit.failed(at(5), Duration::from_secs(40), "busy", false, &*random));
        assert_eq!(circuit.open_since(), Some(at(5)));
        assert!(!circuit.admits(at(45)) && circuit.admits(at(46)));
        assert!(circuit.ask());
        circuit.failed(at(46), Duration::from_secs(60), "busy", true, &*random);
        assert_eq!(circuit.open_since(), Some(at(5)));
        assert!(!circuit.admits(at(106)) && circuit.admits(at(108)));
    }

    #[test]
    fn a_try_that_came_to_no_end_is_followed_by_another() {
        let (mut circuit, random) = (Circuit::new(1), random());
        circuit.failed(at(0), NONE, "x", false, &*random);
        assert!(circuit.ask());
        circuit.abandoned();
        assert!(circuit.admits(at(60)));
    }
}
