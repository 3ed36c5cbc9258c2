//! Takes the subject and its limit in turn, so that a change of the machine's mood hits both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::machine;
use crate::options::Options;

/// What a row needs to know about this run.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where the measured files lie: on the disk whose speed is meant.
    pub(crate) dir: PathBuf,
    /// Standard output belongs to the JSON object: the lines go to standard error.
    pub(crate) quiet: bool,
    /// The product, built for release.
    binary: Option<PathBuf>,
    smoke: bool,
    pairs: Option<usize>,
}

impl Context {
    /// Takes the folder and the product from the options and from what `cargo xtask bench` says.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let dir =
            options.dir.clone().or_else(|| env::var_os("STRANDLINE_BENCH_DATA").map(PathBuf::from));
        let dir = dir.unwrap_or_else(env::temp_dir);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        if let Some(load) = machine::load().filter(|load| *load > 0.5) {
            eprintln!("note: the machine is busy (load {load}); what is measured now says little");
        }
        let binary = env::var_os("STRANDLINE_BIN").map(PathBuf::from);
        let quiet = options.json.as_deref() == Some(Path::new("-"));
        Ok(Self { dir, quiet, binary, smoke: options.smoke, pairs: options.pairs })
    }

    /// How much work a measurement does: `full`, or a hundredth of it where only a sign of life is wanted.
    pub(crate) fn amount(&self, full: usize) -> usize {
        if self.smoke { (full / 100).max(1) } else { full }
    }

    /// How many pairs to take for a row that asks for `usual`.
    pub(crate) fn pairs(&self, usual: usize) -> usize {
        self.pairs.unwrap_or(if self.smoke { 1 } else { usual })
    }

    /// A new folder on the measured disk, gone when dropped.
    pub(crate) fn temp_dir(&self) -> anyhow::Result<TempDir> {
        TempDir::with_prefix_in("row-", &self.dir)
            .with_context(|| format!("create a folder in {}", self.dir.display()))
    }

    /// The product's binary.
    pub(crate) fn binary(&self) -> anyhow::Result<&Path> {
        self.binary
            .as_deref()
            .context("STRANDLINE_BIN does not name the product: use `cargo xtask bench`")
    }
}

/// A subject and its limit. Both give figures of one unit, and each call does the same work again.
pub(crate) trait Pair {
    /// Measures the product once.
    fn subject(&mut self) -> anyhow::Result<f64>;
    /// Measures what the machine could do at best once.
    fn limit(&mut self) -> anyhow::Result<f64>;
}

/// One pair to warm up, then `pairs` that count, the first of each pair by turns; gives both medians.
pub(crate) fn medians(pair: &mut dyn Pair, pairs: usize) -> anyhow::Result<(f64, f64)> {
    let (mut subjects, mut limits) = (Vec::new(), Vec::new());
    for turn in 0..=pairs {
        if turn % 2 == 0 {
            subjects.push(settled(|| pair.subject())?);
            limits.push(settled(|| pair.limit())?);
        } else {
            limits.push(settled(|| pair.limit())?);
            subjects.push(settled(|| pair.subject())?);
        }
    }
    Ok((median(subjects.split_off(1)), median(limits.split_off(1))))
}

/// Measures with nothing left to write back from what came before.
fn settled(measure: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    rustix::fs::sync();
    measure()
}

/// The middle of the values; of an even number, the mean of the two middle ones.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How long `work` takes.
pub(crate) fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// Nanoseconds per operation.
#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
pub(crate) fn nanos_each(time: Duration, operations: usize) -> f64 {
    time.as_secs_f64() * 1e9 / operations as f64
}

/// Millions of bytes per second.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes are far below 2^52")]
pub(crate) fn megabytes_per_second(time: Duration, bytes: usize) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    //! Goal: the medians are those of the turns that count, whichever came first in a turn.

    use super::*;

    /// Gives 1, 2, 3, ... as subjects and 10, 20, 30, ... as limits.
    #[derive(Default)]
    struct Counting {
        subjects: f64,
        limits: f64,
    }

    impl Pair for Counting {
        fn subject(&mut self) -> anyhow::Result<f64> {
            self.subjects += 1.0;
            Ok(self.subjects)
        }

        fn limit(&mut self) -> anyhow::Result<f64> {
            self.limits += 10.0;
            Ok(self.limits)
        }
    }

    #[test]
    fn the_warm_up_does_not_count() {
        assert_eq!(medians(&mut Counting::default(), 3).unwrap(), (3.0, 30.0));
        assert_eq!(medians(&mut Counting::default(), 2).unwrap(), (2.5, 25.0));
    }

    #[test]
    fn a_median_is_the_middle_of_the_sorted() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(megabytes_per_second(Duration::from_millis(500), 1_000_000), 2.0);
        assert_eq!(nanos_each(Duration::from_micros(3), 10), 300.0);
    }
}
