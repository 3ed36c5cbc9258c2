//! What can be measured.
//!
//! A row has two variants at most: `parity` does what the benchmark that it is named after did, with its
//! quirks, so that figures can be compared; `honest` does what the row's name promises. To add one, write a
//! [`Pair`] in a file of `rows/`, whose header says what it stands for, and list it in [`all`].

mod amplification;
mod append;
mod cache;
mod cold;
mod collection;
mod copies;
mod durable;
mod fetch;
mod files;
mod follow;
pub(crate) mod follow_process;
mod interval;
mod loads;
mod mixed;
pub(crate) mod peak;
mod produce;
mod raw;
mod reads;
mod recovery;
mod reopen;
mod retention;
mod sync;
mod transfer;
mod wal;
mod writers;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::{Context, Outcome, Pair, take_turns};

/// All rows, in the order in which they are measured.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    let files: [&[Row]; _] = [
        &append::ROWS,
        &cache::ROWS,
        &copies::ROWS,
        &wal::ROWS,
        &transfer::UPLOAD_ROWS,
        &transfer::ROWS,
        &transfer::PARTIAL_ROWS,
        &transfer::CONCURRENT_ROWS,
        &transfer::LARGE_16_ROWS,
        &transfer::LARGE_64_ROWS,
        &transfer::SEQUENTIAL_32_ROWS,
        &transfer::SEQUENTIAL_64_ROWS,
        &collection::ROWS,
        &loads::ROWS,
        &amplification::ROWS,
        &peak::ROWS,
        &sync::ROWS,
        &interval::ROWS,
        &writers::ROWS,
        &reads::ROWS,
        &mixed::ROWS,
        &recovery::ROWS,
        &retention::ROWS,
        &append::EXTRA_ROWS,
        &writers::EXTRA_ROWS,
        &durable::ROWS,
        &reads::EXTRA_ROWS,
        &mixed::EXTRA_ROWS,
        &cold::ROWS,
        &recovery::EXTRA_ROWS,
        &reopen::ROWS,
        &follow::ROWS,
        &follow_process::ROWS,
        &raw::ROWS,
        &produce::ROWS,
        &fetch::ROWS,
        &files::ROWS,
    ];
    files.into_iter().flatten()
}

/// Something that can be measured.
pub(crate) struct Row {
    /// Its name on the command line and in results.
    pub(crate) id: &'static str,
    pub(crate) variant: Variant,
    pub(crate) unit: Unit,
    /// What is timed, in one line.
    pub(crate) what: &'static str,
    /// What it is compared with, in one line.
    pub(crate) limit: &'static str,
    /// What the benchmark that the row is named after gave on its author's machine; empty if there is none.
    pub(crate) original: &'static str,
    /// How many pairs make a good median.
    pub(crate) pairs: usize,
    /// Prepares what is outside the measurement.
    pub(crate) prepare: fn(&Context) -> anyhow::Result<Box<dyn Pair>>,
}

/// Prepares a row.
type Prepare = fn(&Context) -> anyhow::Result<Box<dyn Pair>>;

impl Row {
    /// A row that does what its name promises; five pairs.
    pub(crate) const fn honest(
        id: &'static str,
        unit: Unit,
        what: &'static str,
        limit: &'static str,
        prepare: Prepare,
    ) -> Self {
        let (variant, original) = (Variant::Honest, "");
        Self { id, variant, unit, what, limit, original, pairs: 5, prepare }
    }

    /// A row that does what an original did; five pairs.
    pub(crate) const fn parity(
        id: &'static str,
        unit: Unit,
        what: &'static str,
        limit: &'static str,
        prepare: Prepare,
    ) -> Self {
        Self { variant: Variant::Parity, ..Self::honest(id, unit, what, limit, prepare) }
    }

    /// The same with the original's figure.
    pub(crate) const fn original(self, original: &'static str) -> Self {
        Self { original, ..self }
    }

    /// The same with another number of pairs.
    pub(crate) const fn pairs(self, pairs: usize) -> Self {
        Self { pairs, ..self }
    }

    /// Medians and spread of value and limit.
    pub(crate) fn measure(&self, context: &Context) -> anyhow::Result<Outcome> {
        let mut pair = (self.prepare)(context)?;
        take_turns(&mut *pair, context.pairs(self.pairs))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, what, limit, original, .. } = self;
        write!(f, "{id} {}: {what} ({}); limit: {limit}", self.variant.name(), self.unit.name)?;
        if original.is_empty() { Ok(()) } else { write!(f, "; the original: {original}") }
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
/// Nanoseconds per record that is read.
pub(crate) const NANOS_PER_READ: Unit = Unit { name: "ns/read" };
/// Records appended per second.
pub(crate) const APPENDS_PER_SECOND: Unit = Unit { name: "appends/s" };
/// Records read per second.
pub(crate) const READS_PER_SECOND: Unit = Unit { name: "reads/s" };
/// 10^6 bytes per second: of payload, unless the row says otherwise.
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
