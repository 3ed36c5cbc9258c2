//! Results: a line each, one JSON object, and the change against an earlier object.

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::measure::Outcome;
use crate::rows::{Better, Row, Variant};

/// All results of a run.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Processor, cores, kernel, file system.
    pub(crate) machine: String,
    /// When the run began, in UTC.
    pub(crate) date: String,
    /// One per row that was measured.
    pub(crate) rows: Vec<Measured>,
}

/// What a row gave.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) id: String,
    pub(crate) variant: Variant,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) limit: f64,
    /// `value / limit`.
    pub(crate) ratio: f64,
    /// Lowest and highest value.
    #[serde(default)]
    pub(crate) values: [f64; 2],
    /// Lowest and highest limit.
    #[serde(default)]
    pub(crate) limits: [f64; 2],
    /// Figures beside the value, by name.
    #[serde(default)]
    pub(crate) also: Vec<(String, f64)>,
}

impl Measured {
    /// What a row gave.
    pub(crate) fn new(row: &Row, outcome: &Outcome) -> Self {
        let (value, limit) = (outcome.value, outcome.limit);
        Self {
            id: row.id.to_owned(),
            variant: row.variant,
            value: value.median,
            unit: row.unit.name.to_owned(),
            limit: limit.median,
            ratio: value.median / limit.median,
            values: [value.low, value.high],
            limits: [limit.low, limit.high],
            also: outcome.also.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect(),
        }
    }

    /// Whether more is better.
    fn better(&self) -> Better {
        if self.unit.ends_with("/s") { Better::More } else { Better::Less }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, unit, .. } = self;
        let (value, limit) = (Figure(self.value), Figure(self.limit));
        write!(f, "{id} {} {value} {unit} {limit} {:.3}", self.variant.name(), self.ratio)?;
        let [low, high] = self.values.map(Figure);
        let [limit_low, limit_high] = self.limits.map(Figure);
        write!(f, " # {low} to {high}, limit {limit_low} to {limit_high}")?;
        self.also.iter().try_for_each(|(name, figure)| write!(f, ", {name} {}", Figure(*figure)))
    }
}

impl Report {
    /// Reads an object that [`Report::write`] wrote.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }

    /// Writes the object; `-` is standard output.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        if path == Path::new("-") {
            print!("{text}");
            return Ok(());
        }
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// One line for each row that both hold.
    pub(crate) fn changes(&self, before: &Self) -> String {
        let mut lines = format!("against {} on {}\n", before.date, before.machine);
        if before.machine != self.machine {
            lines.push_str("note: another machine; only the ratios can be compared\n");
        }
        for row in &self.rows {
            let same = |old: &&Measured| {
                (&old.id, old.variant, &old.unit) == (&row.id, row.variant, &row.unit)
            };
            let Some(old) = before.rows.iter().find(same) else { continue };
            let percent = (row.value / old.value - 1.0) * 100.0;
            let verdict = match row.better() {
                _ if percent.abs() < 1.0 => "as before",
                Better::More if percent > 0.0 => "better",
                Better::Less if percent < 0.0 => "better",
                Better::More | Better::Less => "worse",
            };
            let (id, variant, unit) = (&row.id, row.variant.name(), &row.unit);
            let (was, now) = (Figure(old.value), Figure(row.value));
            writeln!(
                lines,
                "{id} {variant} {was} -> {now} {unit} {percent:+.1} % {verdict}, ratio {:.3} -> {:.3}",
                old.ratio, row.ratio
            )
            .expect("a string takes any text");
        }
        lines
    }
}

/// A number with as many digits as mean something.
pub(crate) struct Figure(pub(crate) f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.abs() {
            large if large >= 1000.0 => 0,
            medium if medium >= 100.0 => 1,
            small if small >= 10.0 => 2,
            _ => 3,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the forms that others read (the line, the object) stay as they are, and a comparison says
    //! which way is better.

    use super::*;

    fn row(id: &str, value: f64, unit: &str, limit: f64) -> Measured {
        let id = id.to_owned();
        Measured {
            id,
            variant: Variant::Honest,
            value,
            unit: unit.to_owned(),
            limit,
            ratio: value / limit,
            values: [value, value],
            limits: [limit, limit],
            also: vec![("p99/us".to_owned(), 5.0)],
        }
    }

    fn report(rows: Vec<Measured>) -> Report {
        Report { machine: "m".to_owned(), date: "2025-11-21T22:43:05Z".to_owned(), rows }
    }

    #[test]
    fn a_line_has_six_fields_and_a_remark() {
        assert_eq!(
            row("M2", 61.25, "ns/append", 24.5).to_string(),
            "M2 honest 61.25 ns/append 24.50 2.500 # 61.25 to 61.25, limit 24.50 to 24.50, p99/us 5.000"
        );
        let line = row("K1", 1012.4, "MB/s", 2.0).to_string();
        assert!(line.starts_with("K1 honest 1012 MB/s 2.000 506.200 # "));
    }

    #[test]
    fn the_object_has_the_agreed_keys() {
        let json = serde_json::to_value(report(vec![row("M2", 3.0, "ns/append", 2.0)])).unwrap();
        let want = serde_json::json!({
            "machine": "m",
            "date": "2025-11-21T22:43:05Z",
            "rows": [
                {
                    "id": "M2", "variant": "honest", "value": 3.0, "unit": "ns/append", "limit": 2.0, "ratio": 1.5,
                    "values": [3.0, 3.0], "limits": [2.0, 2.0], "also": [["p99/us", 5.0]]
                }
            ]
        });
        assert_eq!(json, want);
    }

    #[test]
    fn a_saved_report_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let saved = report(vec![row("M2", 3.0, "ns/append", 2.0)]);
        saved.write(&path).unwrap();
        assert_eq!(Report::load(&path).unwrap().rows, saved.rows);
    }

    #[track_caller]
    fn check(unit: &str, before: f64, after: f64, want: &str) {
        let (before, after) =
            (report(vec![row("X", before, unit, 1.0)]), report(vec![row("X", after, unit, 1.0)]));
        let changes = after.changes(&before);
        assert!(changes.contains(want), "{changes} does not say {want}");
    }

    #[test]
    fn more_bytes_and_less_time_are_better() {
        check("MB/s", 100.0, 110.0, "100.0 -> 110.0 MB/s +10.0 % better");
        check("MB/s", 100.0, 90.0, "-10.0 % worse");
        check("ns/append", 100.0, 110.0, "+10.0 % worse");
        check("ns/append", 100.0, 90.0, "-10.0 % better");
        check("us", 100.0, 100.5, "+0.5 % as before");
    }

    #[test]
    fn a_row_that_the_baseline_lacks_is_left_out() {
        let changes = report(vec![row("NEW", 1.0, "us", 1.0)]).changes(&report(Vec::new()));
        assert!(!changes.contains("NEW"));
    }
}
