//! The command line.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::rows::{self, Row};

/// What to measure and where to write it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Ids to measure, each perhaps with a trailing `*`; empty means all.
    pub(crate) rows: Vec<String>,
    /// Only say which rows there are.
    pub(crate) list: bool,
    /// A hundredth of the work, one pair: shows that the rows run, not how fast anything is.
    pub(crate) smoke: bool,
    /// A quarter of the work, three pairs: rough figures in a fraction of the time.
    pub(crate) quick: bool,
    /// How often subject and limit are measured, instead of what the row says.
    pub(crate) pairs: Option<usize>,
    /// Where to write the results; `-` is standard output.
    pub(crate) json: Option<PathBuf>,
    /// Where to write a baseline: the same object.
    pub(crate) save: Option<PathBuf>,
    /// A baseline to compare with.
    pub(crate) against: Option<PathBuf>,
    /// A page with tables to renew.
    pub(crate) update: Option<PathBuf>,
    /// Where the measured files lie.
    pub(crate) dir: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, joined) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || {
                joined
                    .clone()
                    .or_else(|| arguments.next().cloned())
                    .with_context(|| format!("{name} needs a value"))
            };
            match name {
                "--row" => options.rows.push(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--save" => options.save = Some(value()?.into()),
                "--against" => options.against = Some(value()?.into()),
                "--write" => options.update = Some(value()?.into()),
                "--dir" => options.dir = Some(value()?.into()),
                "--pairs" => {
                    let pairs = value()?.parse().ok().filter(|pairs| *pairs > 0);
                    options.pairs = Some(pairs.context("--pairs needs a number above 0")?);
                }
                "--list" => options.list = true,
                "--smoke" => options.smoke = true,
                "--quick" => options.quick = true,
                _ => anyhow::bail!("unknown option {argument}; `cargo xtask --help` lists them"),
            }
        }
        Ok(options)
    }

    /// The page whose tables are to be renewed.
    pub(crate) fn page(&self) -> anyhow::Result<Option<&Path>> {
        let rough = self.smoke || self.quick;
        anyhow::ensure!(!rough || self.update.is_none(), "--write needs the whole work");
        Ok(self.update.as_deref())
    }

    /// The rows that were asked for, in the order in which they are measured.
    pub(crate) fn choose(&self) -> anyhow::Result<Vec<&'static Row>> {
        for pattern in &self.rows {
            let known = rows::all().any(|row| matches(pattern, row.id));
            anyhow::ensure!(known, "no row is called {pattern}; --list shows all");
        }
        let wanted = |row: &&Row| {
            self.rows.is_empty() || self.rows.iter().any(|pattern| matches(pattern, row.id))
        };
        Ok(rows::all().filter(wanted).collect())
    }
}

/// Whether `id` is `pattern`, or begins with what stands before a trailing `*`.
pub(crate) fn matches(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => id.starts_with(start),
        None => id == pattern,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a row that was asked for is measured, and nothing else is taken for it.

    use super::*;

    fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        Options::parse(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(pattern: &str, id: &str, want: bool) {
        assert_eq!(matches(pattern, id), want, "{pattern} and {id}");
    }

    #[test]
    fn only_a_trailing_star_matches_more() {
        check("M2", "M2", true);
        check("M2", "M20", false);
        check("M2*", "M20", true);
        check("*", "V1", true);
        check("*1", "V1", false);
        check("m2", "M2", false);
    }

    #[test]
    fn values_follow_or_are_joined() {
        let options = parse(&["--row", "M2", "--row=K*", "--pairs", "3", "--json=-"]).unwrap();
        assert_eq!(
            (options.rows, options.pairs),
            (vec!["M2".to_owned(), "K*".to_owned()], Some(3))
        );
        assert_eq!(options.json, Some("-".into()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in
            [&["--rows"] as &[&str], &["--row"], &["--pairs", "0"], &["--pairs", "x"], &["M2"]]
        {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert!(parse(&["--row", "M999"]).unwrap().choose().is_err());
        assert!(parse(&["--smoke", "--write", "x"]).unwrap().page().is_err());
    }

    #[test]
    fn without_a_row_all_are_measured() {
        assert_eq!(parse(&[]).unwrap().choose().unwrap().len(), rows::all().count());
    }
}
