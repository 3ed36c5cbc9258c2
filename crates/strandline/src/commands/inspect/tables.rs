//! The meta store's tables by name, and their keys as people write them (docs/formats: `commit.md`, `topics.md`,
//! `volume.md`).

use strands::Table;

/// Bytes of a key that are shown.
const KEY_BYTES_SHOWN: usize = 64;

/// A part of a key.
#[derive(Clone, Copy)]
enum Part {
    /// Four bytes, a number.
    Short(&'static str),
    /// Eight bytes, a number.
    Long(&'static str),
    /// Sixteen bytes, a random number.
    Id(&'static str),
    /// The rest.
    Text,
}

use Part::{Id, Long, Short, Text};

const TABLES: &[(u8, &str, &[Part])] = &[
    (0, "node", &[Text]),
    (1, "extents", &[Long("strand"), Long("at")]),
    (2, "removed-strands", &[Long("strand")]),
    (32, "topics", &[Text]),
    (33, "topic-segments", &[Id("topic"), Short("partition"), Long("offset")]),
    (34, "topic-index", &[Id("topic"), Short("partition"), Long("offset")]),
    (35, "topic-epochs", &[Id("topic"), Short("partition"), Short("epoch")]),
    (36, "deleted-topics", &[Id("topic")]),
    (64, "volumes", &[Text]),
    (65, "files", &[Short("volume"), Long("file")]),
    (66, "entries", &[Short("volume"), Long("directory"), Text]),
    (67, "listings", &[Short("volume"), Long("directory"), Long("cookie")]),
    (68, "unnamed-files", &[Short("volume"), Long("file")]),
    (69, "volume-counters", &[Short("volume")]),
    (70, "deleted-volumes", &[Short("volume")]),
];

/// What a table is called; `None` for one that no version had.
pub(super) fn name(table: Table) -> Option<&'static str> {
    TABLES.iter().find(|(number, ..)| *number == table.0).map(|(_, name, _)| *name)
}

/// A row, by the name of its table and its key.
pub(super) fn row_text(table: Table, key: &[u8]) -> String {
    match TABLES.iter().find(|(number, ..)| *number == table.0) {
        Some((_, name, parts)) => {
            format!("{name} {}", key_text(key, parts).unwrap_or_else(|| escaped(key)))
        }
        None => format!("table {} {}", table.0, escaped(key)),
    }
}

/// A key part by part, if it has just these.
fn key_text(key: &[u8], parts: &[Part]) -> Option<String> {
    let mut rest = key;
    let mut shown = Vec::new();
    for part in parts {
        let bytes = match part {
            Short(_) => 4,
            Long(_) => 8,
            Id(_) => 16,
            Text => rest.len(),
        };
        let (own, behind) = rest.split_at_checked(bytes)?;
        let number = || own.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        shown.push(match part {
            Short(name) | Long(name) => format!("{name} {}", number()),
            Id(name) => format!("{name} {}", super::hex(own)),
            Text => escaped(own),
        });
        rest = behind;
    }
    rest.is_empty().then(|| shown.join(" "))
}

/// Text as text, bytes as escapes, long keys cut.
fn escaped(key: &[u8]) -> String {
    match key.get(..KEY_BYTES_SHOWN) {
        None => format!("\"{}\"", key.escape_ascii()),
        Some(begin) => format!("\"{}\"... ({} bytes)", begin.escape_ascii(), key.len()),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: keys are shown part by part when they have the parts of their table, and whole otherwise.

    use super::*;

    #[test]
    fn keys_are_shown_by_the_names_of_their_parts() {
        let mut key = 3_u32.to_be_bytes().to_vec();
        key.extend_from_slice(&1_u64.to_be_bytes());
        assert_eq!(row_text(Table(65), &key), "files volume 3 file 1");
        key.extend_from_slice(b"a b\n");
        assert_eq!(row_text(Table(66), &key), r#"entries volume 3 directory 1 "a b\n""#);
        assert_eq!(row_text(Table(0), b"opening"), "node \"opening\"");
        assert_eq!(row_text(Table(65), b"short"), "files \"short\"");
        assert_eq!(row_text(Table(1), &[0; 17]).split(' ').next(), Some("extents"));
        assert_eq!(row_text(Table(99), b"k"), "table 99 \"k\"");
        assert_eq!(name(Table(99)), None);
        assert!(row_text(Table(32), &[b'x'; 300]).ends_with("... (300 bytes)"));
    }
}
