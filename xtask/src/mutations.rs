//! `cargo xtask mutations`: leaves out each step of the log that keeps a promise, one at a time, and sees that
//! a test notices.
//!
//! `durable-log` is built once with its feature `mutation`; the step to leave out is then named by an environment
//! variable (`crates/durable-log/src/mutation.rs` lists the steps and says how). For each step the test that is
//! known to notice it runs first (`hints`); only if that passes the stages follow, the quick and likely ones
//! first. A step is done with the first test that fails, or that takes too long. As many steps are looked at
//! side by side as there are processors.
//!
//! Not here: running the tests (`run`).

mod hints;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::hints::HINTS;
use self::run::{Ending, Selection, Tests};

/// A step whose absence makes a test wait for ever is noticed too. That is assumed after so many times what the
/// tests take with nothing left out, and some more.
const SLOWER_MAX: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the sequences of the crash tests are when the test that is known to notice runs.
const HINT_CRASHES: &str = "2";
const UNNOTICED: &str = "UNNOTICED";

/// Tests that are run together.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    tests: Selection<'static>,
    /// What the tests take with nothing left out.
    takes: OnceLock<Duration>,
}

impl Stage {
    const fn new(
        name: &'static str,
        tests: &'static [&'static str],
        crashes: &'static str,
    ) -> Self {
        let tests = Selection { tests, exact: false, crashes };
        Self { name, tests, takes: OnceLock::new() }
    }
}

static STAGES: [Stage; 4] = [
    Stage::new(
        "damage",
        &[
            "damage::",
            "failures::",
            "basics::",
            "forged::",
            "trimming::",
            "recycling::",
            "truncation::",
            "open_files::",
            "crashes::an_orderly_close",
            "crashes::what_opening_removed",
        ],
        "2",
    ),
    Stage::new("short workloads", &["exhaustive::"], "2"),
    Stage::new("power cuts", &["crashes::"], "2"),
    Stage::new("workloads", &["exhaustive::", "model::"], "3"),
];

/// A step that can be left out.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: String,
    what: String,
}

/// What came of leaving a step out.
#[derive(Debug)]
struct Row {
    step: String,
    /// Which stage noticed.
    stage: &'static str,
    /// Which test; what the step is, if none did.
    test: String,
    took: Duration,
}

/// Leaves out each step whose name contains `only`, and prints what noticed; says whether each was noticed.
pub(crate) fn run(root: &Path, only: &str) -> anyhow::Result<bool> {
    let tests = Tests::build(root)?;
    let steps: Vec<Step> =
        tests.steps()?.into_iter().filter(|step| step.name.contains(only)).collect();
    anyhow::ensure!(!steps.is_empty(), "no step is called {only}");
    let began = Instant::now();
    let hinted = hinted(&tests)?;
    println!("nothing left out: the tests that are known to notice pass ({})", seconds(hinted));
    let rows = look_at_all(&tests, &steps, hinted)?;
    let unnoticed = rows.iter().filter(|row| row.stage == UNNOTICED).count();
    println!(
        "{} steps left out one at a time, {} noticed, {unnoticed} unnoticed ({})",
        rows.len(),
        rows.len() - unnoticed,
        seconds(began.elapsed()),
    );
    Ok(unnoticed == 0)
}

/// Runs the tests that are known to notice, with nothing left out; says what they took.
fn hinted(tests: &Tests) -> anyhow::Result<Duration> {
    let names: Vec<&str> = HINTS.iter().map(|hint| hint.test).collect();
    passes(tests, &Selection { tests: &names, exact: true, crashes: HINT_CRASHES })
}

/// Runs tests with nothing left out; says what they took.
fn passes(tests: &Tests, selection: &Selection<'_>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    match tests.run(selection, None, Duration::MAX)? {
        Ending::Passed => Ok(began.elapsed()),
        Ending::Failed(failure) => {
            anyhow::bail!("with nothing left out, {failure} fails: first make the tests pass")
        }
    }
}

/// Looks at some steps at once, and prints a line for each, in order.
fn look_at_all(tests: &Tests, steps: &[Step], hinted: Duration) -> anyhow::Result<Vec<Row>> {
    let wide = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Rows { done: BTreeMap::new(), printed: 0, wide });
    let work = || -> anyhow::Result<()> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(step) = steps.get(n) else { return Ok(()) };
            // What goes wrong here goes wrong for all.
            let row = look_at(tests, step, hinted)
                .inspect_err(|_| next.store(steps.len(), Ordering::Relaxed))?;
            rows.lock().unwrap_or_else(PoisonError::into_inner).add(n, row);
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(2, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(rows.into_inner().unwrap_or_else(PoisonError::into_inner).done.into_values().collect())
}

/// Leaves out one step.
fn look_at(tests: &Tests, step: &Step, hinted: Duration) -> anyhow::Result<Row> {
    let began = Instant::now();
    let noticed = notice(tests, step, hinted)?;
    let (stage, test) = noticed.unwrap_or_else(|| (UNNOTICED, step.what.clone()));
    Ok(Row { step: step.name.clone(), stage, test, took: began.elapsed() })
}

/// The first test that fails without the step, if any does, and its stage.
fn notice(
    tests: &Tests,
    step: &Step,
    hinted: Duration,
) -> anyhow::Result<Option<(&'static str, String)>> {
    for hint in HINTS.iter().filter(|hint| hint.steps.contains(&&*step.name)) {
        let selection = Selection { tests: &[hint.test], exact: true, crashes: HINT_CRASHES };
        match tests.run(&selection, Some(step), limit(hinted))? {
            Ending::Failed(test) => return Ok(Some(("as known", test))),
            Ending::Passed => println!("{} does not notice {} any more", hint.test, step.name),
        }
    }
    for stage in &STAGES {
        let takes = match stage.takes.get() {
            Some(takes) => *takes,
            None => {
                let took = passes(tests, &stage.tests)?;
                *stage.takes.get_or_init(|| took)
            }
        };
        if let Ending::Failed(test) = tests.run(&stage.tests, Some(step), limit(takes))? {
            return Ok(Some((stage.name, test)));
        }
    }
    Ok(None)
}

fn limit(takes: Duration) -> Duration {
    takes * SLOWER_MAX + PATIENCE
}

/// The table, which is printed as far as there is no gap.
#[derive(Debug)]
struct Rows {
    done: BTreeMap<usize, Row>,
    printed: usize,
    wide: usize,
}

impl Rows {
    fn add(&mut self, n: usize, row: Row) {
        self.done.insert(n, row);
        let wide = self.wide;
        while let Some(Row { step, stage, test, took }) = self.done.get(&self.printed) {
            println!("{step:wide$}  {:>8}  {stage:15}  {test}", seconds(*took));
            self.printed += 1;
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
