//! The tables of a page (`docs/benchmarks.md`), renewed by `--write`.
//!
//! A table stands between a line `<!-- rows: M* D1 -->`, which names its rows as `--row` does, and a line
//! `<!-- end of rows -->`. It is renewed when the run measured every row of it, and otherwise left as it is:
//! all figures of one table come from one run on one machine.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::options::matches;
use crate::report::{Figure, Measured, Report};
use crate::rows::{self, Row};

const BEGIN: &str = "<!-- rows:";
const BEGIN_END: &str = "-->";
const END: &str = "<!-- end of rows -->";

/// A page and where it lies.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Reads a page and sees whether it has a table.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        anyhow::ensure!(text.contains(BEGIN), "{} has no line `{BEGIN} ... -->`", path.display());
        Ok(Self { path: path.to_owned(), text })
    }

    /// Writes the page with those tables renewed whose rows were all measured.
    pub(crate) fn renew(&self, report: &Report) -> anyhow::Result<()> {
        let text = renewed(&self.text, report, &rows::all().collect::<Vec<_>>())?;
        fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}

fn renewed(page: &str, report: &Report, rows: &[&Row]) -> anyhow::Result<String> {
    let mut lines = page.lines();
    let mut text = String::new();
    while let Some(line) = lines.next() {
        writeln!(text, "{line}")?;
        let Some(patterns) = line.strip_prefix(BEGIN) else { continue };
        let patterns = patterns.trim_end().trim_end_matches(BEGIN_END);
        let old: Vec<_> = lines.by_ref().take_while(|line| *line != END).collect();
        match table(patterns, report, rows)? {
            Some(table) => text.push_str(&table),
            None => {
                for line in old {
                    writeln!(text, "{line}")?;
                }
            }
        }
        writeln!(text, "{END}")?;
    }
    Ok(text)
}

/// The table of the rows that `patterns` name; none if one of them was not measured.
fn table(patterns: &str, report: &Report, rows: &[&Row]) -> anyhow::Result<Option<String>> {
    let named = |row: &&&Row| patterns.split_whitespace().any(|pattern| matches(pattern, row.id));
    let rows: Vec<_> = rows.iter().filter(named).collect();
    let mut text = format!(
        "\nMachine: {}. Date: {}.\n\n\
         | row | what is timed | value | limit | ratio | the original |\n|---|---|---|---|---|---|\n",
        report.machine, report.date
    );
    for row in &rows {
        let this = |one: &&Measured| one.id == row.id && one.variant == row.variant;
        let Some(measured) = report.rows.iter().find(this) else { return Ok(None) };
        writeln!(text, "{}", line(row, measured))?;
    }
    text.push('\n');
    Ok((!rows.is_empty()).then_some(text))
}

fn line(row: &Row, measured: &Measured) -> String {
    let Measured { value, unit, limit, ratio, values, limits, also, .. } = measured;
    let spread = |[low, high]: [f64; 2]| format!("{} to {}", grouped(low), grouped(high));
    let mut figures = format!("**{}** {unit} ({})", grouped(*value), spread(*values));
    for (name, figure) in also {
        write!(figures, "; {name} {}", grouped(*figure)).expect("a string takes any text");
    }
    format!(
        "| {} {} | {} | {figures} | {}: {} ({}) | {} | {} |",
        row.id,
        row.variant.name(),
        row.what,
        row.limit,
        grouped(*limit),
        spread(*limits),
        Figure(*ratio),
        row.original
    )
}

/// A figure with a comma after each three digits.
fn grouped(figure: f64) -> String {
    let text = Figure(figure).to_string();
    let whole = text.find('.').unwrap_or(text.len());
    let mut grouped = String::new();
    for (place, digit) in text.char_indices() {
        if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    //! Goal: a table is renewed whole or not at all, and what stands around it stays.

    use super::*;
    use crate::measure::{Outcome, Spread};
    use crate::rows::MICROS;

    const PAGE: &str = "# Page\n<!-- rows: A* -->\nold\n<!-- end of rows -->\nbetween\n\
                        <!-- rows: B -->\nold too\n<!-- end of rows -->\nlast\n";

    fn row(id: &'static str) -> Row {
        Row::honest(id, MICROS, "work", "least", |_| anyhow::bail!("never measured"))
            .original("12 us")
    }

    fn measured(row: &Row) -> Measured {
        let spread = |median| Spread { median, low: median - 1.0, high: median + 1.0 };
        let outcome =
            Outcome { value: spread(8.0), limit: spread(4.0), also: vec![("p99/us", 9.0)] };
        Measured::new(row, &outcome)
    }

    fn renew(measured: Vec<Measured>) -> String {
        let rows = [row("A1"), row("A2"), row("B"), row("C")];
        let report = Report {
            machine: "m".to_owned(),
            date: "2025-11-21T22:43:05Z".to_owned(),
            rows: measured,
        };
        renewed(PAGE, &report, &rows.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_table_is_renewed_when_all_its_rows_were_measured() {
        let page = renew(vec![measured(&row("A1")), measured(&row("A2"))]);
        assert!(page.starts_with(
            "# Page\n<!-- rows: A* -->\n\nMachine: m. Date: 2025-11-21T22:43:05Z.\n\n| row |"
        ));
        assert!(page.contains(
            "| A2 honest | work | **8.000** us (7.000 to 9.000); p99/us 9.000 \
             | least: 4.000 (3.000 to 5.000) | 2.000 | 12 us |\n"
        ));
        assert!(page.ends_with(
            "<!-- end of rows -->\nbetween\n<!-- rows: B -->\nold too\n<!-- end of rows -->\nlast\n"
        ));
    }

    #[test]
    fn long_figures_are_grouped() {
        for (figure, want) in
            [(0.5, "0.500"), (123.45, "123.5"), (1000.0, "1,000"), (2_906_131.4, "2,906,131")]
        {
            assert_eq!(grouped(figure), want);
        }
    }

    #[test]
    fn a_table_stays_when_one_of_its_rows_was_not_measured() {
        assert_eq!(renew(vec![measured(&row("A1")), measured(&row("C"))]), PAGE);
    }
}
