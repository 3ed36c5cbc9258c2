//! What commands print on standard output: buffered lines, numbers a person can read, tables and JSON.
//!
//! Nothing here uses `println!`, which panics when the reader goes away.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Standard output, buffered; flushed by [`Out::flush`] and when dropped.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Out {
    /// Takes standard output for the rest of the command.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        Self {
            is_terminal: stdout.is_terminal(),
            to: BufWriter::with_capacity(64 * 1024, stdout.lock()),
        }
    }

    /// Prints one line.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>) -> Outcome {
        self.bytes(line.as_ref())?;
        self.bytes(b"\n")
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.to.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Prints a value as JSON: indented for a terminal, on one line for a program.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Outcome {
        let text = if self.is_terminal {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(text.map_err(|error| Failure::because("cannot write this as JSON", error))?)
    }

    /// Prints rows as columns, two spaces apart; the first row is the heading.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) -> Outcome {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Hands everything printed so far to the reader.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.to.flush().map_err(|error| Failure::output(&error))
    }
}
