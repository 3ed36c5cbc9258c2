//! Takes the subject and its limit in turn, so that a change of the machine's mood hits both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Barrier, mpsc};
use std::thread;
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
    /// Every amount of work is divided by this.
    share: usize,
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
        let (share, pairs) = match (options.smoke, options.quick) {
            (true, _) => (100, Some(1)),
            (false, true) => (4, Some(3)),
            (false, false) => (1, None),
        };
        Ok(Self { dir, quiet, binary, share, pairs: options.pairs.or(pairs) })
    }

    /// How much work a measurement does: `full`, or a part of it where less is wanted than a good figure.
    pub(crate) fn amount(&self, full: usize) -> usize {
        (full / self.share).max(1)
    }

    /// How many pairs to take for a row that asks for `usual`.
    pub(crate) fn pairs(&self, usual: usize) -> usize {
        self.pairs.unwrap_or(usual)
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
    /// What else the last call of [`Pair::subject`] saw, each figure under its name and unit.
    fn also(&mut self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// A subject and a limit that are closures.
pub(crate) struct Both<S, L>(pub(crate) S, pub(crate) L);

impl<S, L> Pair for Both<S, L>
where
    S: FnMut() -> anyhow::Result<f64>,
    L: FnMut() -> anyhow::Result<f64>,
{
    fn subject(&mut self) -> anyhow::Result<f64> {
        self.0()
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        self.1()
    }
}

/// What the turns of one pair gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Of the subject.
    pub(crate) value: Spread,
    /// Of the limit.
    pub(crate) limit: Spread,
    /// The median of each figure that came beside the value.
    pub(crate) also: Vec<(&'static str, f64)>,
}

/// The middle of several values, and the outermost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { median: median(values), low, high }
    }
}

/// One pair to warm up, then `pairs` that count, the first of each pair by turns.
pub(crate) fn take_turns(pair: &mut dyn Pair, pairs: usize) -> anyhow::Result<Outcome> {
    let (mut values, mut limits) = (Vec::new(), Vec::new());
    let mut also: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for turn in 0..=pairs {
        let limit_first = turn % 2 == 1;
        if limit_first {
            limits.push(settled(|| pair.limit())?);
        }
        values.push(settled(|| pair.subject())?);
        for (place, (name, figure)) in pair.also().into_iter().enumerate() {
            if turn == 0 {
                also.push((name, Vec::new()));
            } else {
                also[place].1.push(figure);
            }
        }
        if !limit_first {
            limits.push(settled(|| pair.limit())?);
        }
    }
    Ok(Outcome {
        value: Spread::of(values.split_off(1)),
        limit: Spread::of(limits.split_off(1)),
        also: also.into_iter().map(|(name, figures)| (name, median(figures))).collect(),
    })
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

/// How long `work` takes with so many operations, after as many of them as `warm_up` says were done to no account.
pub(crate) fn timed_warm(
    warm_up: usize,
    operations: usize,
    mut work: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    work(warm_up)?;
    timed(|| work(operations))
}

/// Runs `work` on so many threads at once, each with its number, and gives the time from the first one's
/// start to the last one's end.
pub(crate) fn timed_threads(
    threads: usize,
    work: impl Fn(usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Duration> {
    timed_warm_threads(threads, |_| Ok(()), work)
}

/// [`timed_threads`], each of which does `warm_up` before the time begins.
pub(crate) fn timed_warm_threads(
    threads: usize,
    warm_up: impl Fn(usize) -> anyhow::Result<()> + Sync,
    work: impl Fn(usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Duration> {
    let (begin, warm_up, work) = (Barrier::new(threads), &warm_up, &work);
    let run = |number| {
        let warm = warm_up(number);
        begin.wait();
        warm?;
        let start = Instant::now();
        work(number)?;
        anyhow::Ok((start, Instant::now()))
    };
    let spans: anyhow::Result<Vec<_>> = thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        running
            .into_iter()
            .map(|thread| {
                thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?
            })
            .collect()
    });
    let spans = spans?;
    let start = spans.iter().map(|(start, _)| *start).min().context("no thread ran")?;
    let end = spans.iter().map(|(_, end)| *end).max().context("no thread ran")?;
    Ok(end - start)
}

/// Does `work` while another thread calls `tick` at each interval.
pub(crate) fn with_ticks<T>(
    interval: Duration,
    tick: impl Fn() -> anyhow::Result<()> + Send,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (stop, stopped) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let ticker = scope.spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                tick()?;
            }
            anyhow::Ok(())
        });
        let done = work();
        drop(stop);
        ticker.join().map_err(|_| anyhow::anyhow!("a ticking thread panicked"))??;
        done
    })
}

/// Does `work` while another thread calls `other` without a pause.
pub(crate) fn beside<T>(
    other: impl Fn() -> anyhow::Result<()> + Sync,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let beside = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                other()?;
            }
            anyhow::Ok(())
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        beside.join().map_err(|_| anyhow::anyhow!("a thread beside panicked"))??;
        result
    })
}

/// How many threads run at once on this machine.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Nanoseconds per operation.
#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
pub(crate) fn nanos_each(time: Duration, operations: usize) -> f64 {
    time.as_secs_f64() * 1e9 / operations as f64
}

/// Microseconds.
#[expect(clippy::cast_precision_loss, reason = "times measured are far below 2^52 ns")]
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// Operations per second.
#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
pub(crate) fn per_second(time: Duration, operations: usize) -> f64 {
    operations as f64 / time.as_secs_f64()
}

/// The time below which so many per mille of `times` lie, in microseconds.
pub(crate) fn percentile(times: &mut [Duration], per_mille: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
    times.get(place).copied().map_or(f64::NAN, micros)
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

        fn also(&mut self) -> Vec<(&'static str, f64)> {
            vec![("twice", 2.0 * self.subjects)]
        }
    }

    #[track_caller]
    fn check(pairs: usize, value: [f64; 3], limit: [f64; 3], also: f64) {
        let outcome = take_turns(&mut Counting::default(), pairs).unwrap();
        let spread = |[low, median, high]: [f64; 3]| Spread { median, low, high };
        let want =
            Outcome { value: spread(value), limit: spread(limit), also: vec![("twice", also)] };
        assert_eq!(outcome, want);
    }

    #[test]
    fn the_warm_up_does_not_count() {
        check(3, [2.0, 3.0, 4.0], [20.0, 30.0, 40.0], 6.0);
        check(2, [2.0, 2.5, 3.0], [20.0, 25.0, 30.0], 5.0);
    }

    #[test]
    fn threads_are_timed_from_the_first_start_to_the_last_end() {
        let ran = std::sync::Mutex::new(Vec::new());
        let time = timed_threads(3, |number| {
            let start = Instant::now();
            ran.lock().unwrap().push((number, start));
            Ok(())
        });
        let mut ran = ran.into_inner().unwrap();
        ran.sort_unstable();
        assert_eq!(ran.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        let starts = || ran.iter().map(|(_, start)| *start);
        assert!(time.unwrap() >= starts().max().unwrap() - starts().min().unwrap());
        assert!(timed_threads(2, |_| anyhow::bail!("no")).is_err());
        let fails = |thread| {
            anyhow::ensure!(thread == 1);
            Ok(())
        };
        assert!(timed_warm_threads(2, fails, |_| Ok(())).is_err());
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=1000).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&mut times, 500), 501.0);
        assert_eq!(percentile(&mut times, 999), 1000.0);
        assert_eq!(percentile(&mut times[..1], 990), 1.0);
        assert!(percentile(&mut [], 500).is_nan());
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
