//! Measures the product beside what the machine could do at best. `cargo xtask bench` builds and runs it.
//!
//! - `rows.rs` lists what can be measured; each row stands in a file of `rows/` that says what it means.
//! - `limits/` holds what rows are compared with.
//! - `measure.rs` takes subject and limit in turn; `report.rs` prints, writes and compares results, and
//!   `page.rs` renews the tables of a page.
//!
//! Figures of two machines, or of two days, say little; the ratio to a limit that was measured in the same
//! minute says more.

mod bucket;
mod client;
mod files;
mod limits;
mod logs;
mod machine;
mod measure;
mod node;
mod null_fuse;
mod options;
mod page;
mod product;
mod random;
mod report;
mod rows;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use crate::measure::Context;
use crate::options::Options;
use crate::page::Page;
use crate::report::{Measured, Report};
use crate::rows::{Row, follow_process, peak};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    if let [command, dir] = arguments
        && command == null_fuse::COMMAND
    {
        null_fuse::serve(Path::new(dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [command, kind, path, records] = arguments
        && command == follow_process::COMMAND
    {
        follow_process::follow(kind, Path::new(path), records.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [command, kind, dir] = arguments
        && command == peak::COMMAND
    {
        peak::run(kind, Path::new(dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(arguments)?;
    let chosen = options.choose()?;
    if options.list {
        for row in &chosen {
            println!("{row}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Read before anything is measured: a wrong file name should not cost an hour.
    let baseline = options.against.as_deref().map(Report::load).transpose()?;
    let page = options.page()?.map(Page::load).transpose()?;
    let context = Context::new(&options)?;
    let report = Report {
        machine: machine::describe(&context.dir)?,
        date: machine::now(),
        rows: Vec::new(),
    };
    let (report, failed) = measure_all(&chosen, &context, report);
    for path in [&options.json, &options.save].into_iter().flatten() {
        report.write(path)?;
    }
    if let Some(page) = page {
        page.renew(&report)?;
    }
    if let Some(baseline) = baseline {
        print!("{}", report.changes(&baseline));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures row after row; one that fails is said and does not stop the others.
fn measure_all(rows: &[&Row], context: &Context, mut report: Report) -> (Report, bool) {
    let mut failed = false;
    for row in rows {
        match row.measure(context) {
            Ok(outcome) => {
                let result = Measured::new(row, &outcome);
                if context.quiet {
                    eprintln!("{result}");
                } else {
                    println!("{result}");
                }
                report.rows.push(result);
            }
            Err(error) => {
                eprintln!("{} {}: failed: {error:#}", row.id, row.variant.name());
                failed = true;
            }
        }
    }
    (report, failed)
}
