//! Who decides what a power cut leaves: a seed, the extremes, or all outcomes one after the other.

use crate::sim::clock::Numbers;

/// Picks among the legal outcomes of a power cut. See [`crate::sim`] for what is legal.
pub trait Outcome {
    /// Picks one of `options` states, numbered from 0. They are in order: 0 is the oldest, nothing of
    /// what is pending; the last is the newest, all of it. There are at least two. What is out of range
    /// counts as the last.
    fn pick(&mut self, choice: Choice, options: usize) -> usize;
}

/// What an [`Outcome`] is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whether writes tear between units of 512 bytes (0) or of 4 KiB (1). Asked once, if anything is
    /// pending.
    Unit,
    /// Whether a create, rename or unlink is lost (0) or there (1).
    Name,
    /// After how many of the operations that changed it a file's size is taken.
    Size {
        /// The same number for all questions about one file.
        file: u64,
    },
    /// After how many of the operations on it a unit of a file is taken.
    Bytes {
        /// The same number for all questions about one file.
        file: u64,
    },
}

/// Nothing that was not synced survives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost;

impl Outcome for Lost {
    fn pick(&mut self, _choice: Choice, _options: usize) -> usize {
        0
    }
}

/// Everything survives, as if all had been synced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept;

impl Outcome for Kept {
    fn pick(&mut self, _choice: Choice, options: usize) -> usize {
        options - 1
    }
}

/// An outcome that follows from a seed. It tends to extremes: for each file, and for the names, it may
/// lose all, keep all, keep runs of units, or mix everything.
#[derive(Clone, Debug)]
pub struct Seeded {
    numbers: Numbers,
    about: Option<Choice>,
    mood: Mood,
    newest: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Same,
    Runs,
    Mixed,
}

impl Seeded {
    /// The outcome of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { numbers: Numbers::new(seed), about: None, mood: Mood::Mixed, newest: false }
    }
}

impl Outcome for Seeded {
    fn pick(&mut self, choice: Choice, options: usize) -> usize {
        if self.about != Some(choice) {
            self.about = Some(choice);
            self.mood = [Mood::Same, Mood::Same, Mood::Runs, Mood::Mixed][self.numbers.below(4)];
            self.newest = self.numbers.below(2) == 1;
        }
        match self.mood {
            Mood::Same => {}
            Mood::Runs if self.numbers.below(8) == 0 => self.newest = !self.newest,
            Mood::Runs => {}
            Mood::Mixed => return self.numbers.below(options),
        }
        if self.newest { options - 1 } else { 0 }
    }
}

/// All outcomes of one crash, one after the other:
///
/// ```
/// use host::sim::{Machine, Outcomes};
///
/// let machine = Machine::new(1);
/// let mut outcomes = Outcomes::new();
/// while let Some(mut outcome) = outcomes.another() {
///     let crashed = machine.fork();
///     crashed.crash(&mut outcome);
///     // Look at what is left on `crashed`.
/// }
/// ```
///
/// Their number is the product of all choices: keep what is pending small.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// What the next outcome picks, and among how many; what is not listed is picked as 0.
    picks: Vec<(usize, usize)>,
    begun: bool,
}

impl Outcomes {
    /// Before the first outcome.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next outcome, to be used for one crash of a machine in the same state; `None` when all were
    /// given.
    pub fn another(&mut self) -> Option<Script<'_>> {
        if self.begun {
            while let Some((picked, options)) = self.picks.pop() {
                if picked + 1 < options {
                    self.picks.push((picked + 1, options));
                    break;
                }
            }
            if self.picks.is_empty() {
                return None;
            }
        }
        self.begun = true;
        Some(Script { picks: &mut self.picks, at: 0 })
    }
}

/// One outcome of [`Outcomes`].
#[derive(Debug)]
pub struct Script<'a> {
    picks: &'a mut Vec<(usize, usize)>,
    at: usize,
}

impl Outcome for Script<'_> {
    fn pick(&mut self, _choice: Choice, options: usize) -> usize {
        if self.at == self.picks.len() {
            self.picks.push((0, options));
        }
        let (picked, _) = self.picks[self.at];
        self.at += 1;
        picked
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the enumeration gives every sequence of picks once, also when later choices depend on
    //! earlier ones.

    use super::*;

    #[test]
    fn every_sequence_of_picks_is_given_once() {
        let mut outcomes = Outcomes::new();
        let mut seen = Vec::new();
        while let Some(mut outcome) = outcomes.another() {
            let first = outcome.pick(Choice::Unit, 2);
            let mut picks = vec![first, outcome.pick(Choice::Name, 3)];
            if first == 1 {
                picks.push(outcome.pick(Choice::Name, 2));
            }
            seen.push(picks);
        }
        let want: [&[usize]; 9] = [
            &[0, 0],
            &[0, 1],
            &[0, 2],
            &[1, 0, 0],
            &[1, 0, 1],
            &[1, 1, 0],
            &[1, 1, 1],
            &[1, 2, 0],
            &[1, 2, 1],
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn a_crash_without_choices_has_one_outcome() {
        let mut outcomes = Outcomes::new();
        assert!(outcomes.another().is_some());
        assert!(outcomes.another().is_none());
    }
}
