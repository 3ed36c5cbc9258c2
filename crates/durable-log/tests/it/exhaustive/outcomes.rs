//! All that a power cut may leave, or a sample where that is too much.

use host::sim::{Choice, Kept, Lost, Machine, Outcome, Outcomes, Script, Seeded};

use super::OUTCOMES_MAX;

/// Outcomes that were shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drawn {
    /// Every legal one.
    All(u64),
    /// Only so many of them.
    Sample(u64),
}

/// Units of 512 bytes alone: whatever larger ones leave, they may leave too.
struct SmallUnits<'a>(Script<'a>);

impl Outcome for SmallUnits<'_> {
    fn pick(&mut self, choice: Choice, options: usize) -> usize {
        if choice == Choice::Unit { 0 } else { self.0.pick(choice, options) }
    }
}

/// Shows what a power cut now may leave, each on a machine of its own.
pub(super) fn each_outcome(machine: &Machine, seed: u64, see: &mut dyn FnMut(&Machine)) -> Drawn {
    let mut crashed = Vec::new();
    let mut outcomes = Outcomes::new();
    while let Some(script) = outcomes.another() {
        if crashed.len() == OUTCOMES_MAX {
            return sample(machine, seed, see);
        }
        crashed.push(crash(machine, &mut SmallUnits(script)));
    }
    crashed.iter().for_each(see);
    Drawn::All(crashed.len() as u64)
}

fn sample(machine: &Machine, seed: u64, see: &mut dyn FnMut(&Machine)) -> Drawn {
    see(&crash(machine, &mut Lost));
    see(&crash(machine, &mut Kept));
    for n in 2..OUTCOMES_MAX as u64 {
        see(&crash(machine, &mut Seeded::new(seed << 32 | n)));
    }
    Drawn::Sample(OUTCOMES_MAX as u64)
}

fn crash(machine: &Machine, outcome: &mut dyn Outcome) -> Machine {
    let crashed = machine.fork();
    crashed.crash(outcome);
    crashed
}
