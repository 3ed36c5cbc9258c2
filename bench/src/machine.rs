//! What a result must say about where and when it was measured. No names of hosts or people.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// Processor, cores, kernel and the file system of `dir`.
pub(crate) fn describe(dir: &Path) -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let system = rustix::system::uname();
    let kernel =
        format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let dir = dir.canonicalize().with_context(|| format!("find {}", dir.display()))?;
    let file_system = file_system(&mounts, &dir).unwrap_or("unknown file system");
    Ok(format!("{model}, {cores} cores, {kernel}, {file_system}"))
}

/// How busy the machine is already: the load of the last minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The type of the file system that holds `dir`: of all mount points above it the longest, and of equals
/// the last, which covers the others.
fn file_system<'a>(mountinfo: &'a str, dir: &Path) -> Option<&'a str> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        Some((left.split(' ').nth(4)?, right.split(' ').next()?))
    });
    let above = mounts.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

/// The time of day in UTC, as `2025-11-21T22:43:05Z`.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since.as_secs())
}

fn utc(seconds: u64) -> String {
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let february = days_of_year(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

fn days_of_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    //! Goal: a result carries the right day and the file system that the files were really on.

    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_763_764_985, "2025-11-21T22:43:05Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), want);
        }
    }

    #[test]
    fn the_longest_mount_point_above_counts() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/a rw\n\
                      30 22 0:26 / /tmp rw shared:3 - tmpfs tmpfs rw\n\
                      31 22 0:27 / /tm rw - xfs /dev/b rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpfile")), Some("ext4"));
    }

    #[test]
    fn a_later_mount_covers_an_earlier_one() {
        let mounts = "1 1 0:1 / / rw - rootfs none rw\n22 1 254:0 / / rw - ext4 /dev/a rw\n";
        assert_eq!(file_system(mounts, Path::new("/a")), Some("ext4"));
    }
}
