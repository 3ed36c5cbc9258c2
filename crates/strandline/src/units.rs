//! Amounts as people write them: sizes (`64MiB`), ages (`10s`) and moments (`2026-01-31T12:00:00Z`).

use std::time::{Duration, UNIX_EPOCH};

use host::WallTime;

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Dates are shown with four digits for the year.
const MILLIS_OF_YEAR_10000: u64 = 253_402_300_800_000;

/// Reads a size: a whole number and a unit (`B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`).
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) =
        SIZES.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*factor)
}

/// Reads an age: one or more numbers with a unit (`10s`, `5m`, `1h 30m`, `250ms`).
pub(crate) fn parse_age(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Reads a moment in UTC: `2026-01-31T12:00:00Z`, `2026-01-31 12:00:00`, or `2026-01-31` for its beginning.
pub(crate) fn parse_moment(text: &str) -> Option<WallTime> {
    let midnight = || humantime::parse_rfc3339_weak(&format!("{text} 00:00:00"));
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| midnight()).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(WallTime::from_nanos(i64::try_from(since.as_nanos()).ok()?))
}

/// Shows a moment given in milliseconds since 1970 as `2026-01-31T12:00:00.123Z`; other moments as the number.
pub(crate) fn show_millis(millis: i64) -> String {
    match u64::try_from(millis) {
        Ok(since) if since < MILLIS_OF_YEAR_10000 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(since)).to_string()
        }
        _ => millis.to_string(),
    }
}

/// Shows an interval to the second: `3h 2m 1s`.
pub(crate) fn show_age(age: Duration) -> String {
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

/// Shows a size with three digits or so: `1.5 MiB`.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((unit, shift)) => {
            // Tenths in whole numbers; the largest u64 is 16 EiB, far from overflowing a u128.
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// Shows a count with its digits in groups of three: `1,234,567`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b","[..])).into_owned()
}

/// A count and what is counted: `1 block`, `2,000 stretches`.
pub(crate) fn several(count: u64, thing: &str) -> String {
    let ending = match (count, thing.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {thing}{ending}", show_count(count))
}

/// The word of `known` that is nearest to `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::jaro_winkler(word, candidate);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.7).then_some(best)
}

#[cfg(test)]
mod tests {
    //! Goal: what a person writes is read as meant, and what is shown reads back the same.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("5 kB"), Some(5000));
        assert_eq!(parse_size("0B"), Some(0));
        assert_eq!(parse_size("64"), None);
        assert_eq!(parse_size("MiB"), None);
        assert_eq!(parse_size("1.5MiB"), None);
        assert_eq!(parse_size("99999999999TiB"), None);
    }

    #[test]
    fn moments_are_read_and_shown_in_utc() {
        let moment = parse_moment("2026-01-31 12:00:00").unwrap();
        assert_eq!(show_millis(moment.millis()), "2026-01-31T12:00:00.000Z");
        assert_eq!(parse_moment("2026-01-31").unwrap().millis() + 12 * 3_600_000, moment.millis());
        assert_eq!(show_millis(-1), "-1");
        assert_eq!(show_millis(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(u64::MAX), "16777215.9 TiB");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(several(1, "stretch"), "1 stretch");
        assert_eq!(several(1_000, "stretch"), "1,000 stretches");
        assert_eq!(several(0, "block"), "0 blocks");
    }

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        assert_eq!(nearest("kafak", &["data", "kafka"]), Some("kafka"));
        assert_eq!(nearest("zzz", &["data", "kafka"]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,24}") {
            let _ = (parse_size(&text), parse_age(&text), parse_moment(&text));
        }

        #[test]
        fn any_number_is_shown(bytes: u64, millis: i64) {
            prop_assert!(!show_size(bytes).is_empty());
            prop_assert!(!show_millis(millis).is_empty());
            prop_assert_eq!(show_count(bytes).replace(',', ""), bytes.to_string());
        }
    }
}
