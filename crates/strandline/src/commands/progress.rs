//! How far a command is: a line on standard error that goes away when it is done, and nothing where nobody sees it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Failure, Outcome};

/// Between two moves of the wheel that shows that something is still going on.
const TURN: Duration = Duration::from_millis(120);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
}

/// A bar on a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar that shows nothing yet, and never anything when standard error is no terminal.
    pub(crate) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(TURN);
        Self(bar)
    }

    /// Shows what is done, and how much of it, where that is known.
    pub(crate) fn show(&self, what: &str, done: u64, total: Option<u64>, unit: Unit) -> Outcome {
        let template = match (unit, total) {
            (Unit::Count, Some(_)) => "{spinner} {msg} {bar:40} {human_pos} of {human_len} {eta}",
            (Unit::Count, None) => "{spinner} {msg} {human_pos}",
            (Unit::Bytes, Some(_)) => "{spinner} {msg} {bar:40} {bytes} of {total_bytes} {eta}",
            (Unit::Bytes, None) => "{spinner} {msg} {bytes}",
        };
        self.style(template)?;
        self.0.set_message(what.to_owned());
        match total {
            Some(total) => self.0.set_length(total.max(done)),
            None => self.0.unset_length(),
        }
        self.0.set_position(done);
        Ok(())
    }

    /// Shows what is being done, of which nobody knows how long it takes.
    pub(crate) fn say(&self, what: String) -> Outcome {
        self.style("{spinner} {msg} {elapsed}")?;
        self.0.set_message(what);
        Ok(())
    }

    /// Prints a line that stays, above the bar if there is one.
    pub(crate) fn note(&self, line: &str) {
        use std::io::Write;
        // Standard error may be closed; then there is nobody to tell.
        self.0.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }

    fn style(&self, template: &str) -> Outcome {
        let style = ProgressStyle::with_template(template);
        self.0.set_style(style.map_err(|error| Failure::because("cannot show progress", error))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every template can be shown.

    use super::*;

    #[test]
    fn all_that_can_be_shown_is_shown() {
        let bar = Progress(ProgressBar::hidden());
        for unit in [Unit::Count, Unit::Bytes] {
            bar.show("reading", 5, Some(3), unit).unwrap();
            bar.show("reading", 5, None, unit).unwrap();
        }
        bar.say("thinking".to_owned()).unwrap();
        bar.clear();
    }
}
