//! What can be measured.
//!
//! A row has two variants at most: `parity` does what the benchmark that it is named after did, with its
//! quirks, so that figures can be compared; `honest` does what the row's name promises. To add one, write a
//! [`Pair`] in a file of `rows/`, whose header says what it stands for, and list it in [`all`].

mod append;
mod fetch;
mod files;
mod produce;
mod sync;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::{Context, Pair, medians};

/// All rows, in the order in which they are measured.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    let files: [&[Row]; _] =
        [&append::ROWS, &sync::ROWS, &produce::ROWS, &fetch::ROWS, &files::ROWS];
    files.into_iter().flatten()
}

/// Something that can be measured.
pub(crate) struct Row {
    /// Its name on the command line and in results.
    pub(crate) id: &'static str,
    pub(crate) variant: Variant,
    pub(crate) unit: Unit,
    /// What is measured, in one line.
    pub(crate) what: &'static str,
    /// How many pairs make a good median.
    pub(crate) pairs: usize,
    /// Prepares what is outside the measurement.
    pub(crate) prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
}

impl Row {
    /// The medians of value and limit.
    pub(crate) fn measure(&self, context: &Context) -> anyhow::Result<(f64, f64)> {
        let mut pair = (self.prepare)(context)?;
        medians(&mut *pair, context.pairs(self.pairs))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.variant.name())
    }
}

/// Which reading of a row's name is measured.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    /// The work of the original benchmark, quirks included.
    Parity,
    /// What the name promises.
    Honest,
}

impl Variant {
    /// As results spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parity => "parity",
            Self::Honest => "honest",
        }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Without blanks. Ends with `/s` exactly where more is better.
    pub(crate) name: &'static str,
}

/// Nanoseconds per append.
pub(crate) const NANOS_PER_APPEND: Unit = Unit { name: "ns/append" };
/// 10^6 bytes of payload per second.
pub(crate) const MEGABYTES_PER_SECOND: Unit = Unit { name: "MB/s" };
/// Microseconds.
pub(crate) const MICROS: Unit = Unit { name: "us" };

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

#[cfg(test)]
mod tests {
    //! Goal: the list stays one that results can be told apart by.

    use super::*;

    #[test]
    fn no_two_rows_have_one_name() {
        for (place, row) in all().enumerate() {
            let twin =
                all().take(place).find(|other| (other.id, other.variant) == (row.id, row.variant));
            assert!(twin.is_none(), "{row:?} is listed twice");
        }
    }

    #[test]
    fn names_and_units_are_one_word() {
        for row in all() {
            assert!(!row.id.contains([' ', '*']) && !row.unit.name.contains(' '), "{row:?}");
        }
    }
}
