//! What the system knows about this process.

use host::{Host, OpenMode};

/// `/proc/self/status` is about 1.5 KiB.
const STATUS_BYTES_MAX: usize = 16 * 1024;

/// Resident memory of this process that no file backs, in bytes; 0 where the system does not tell.
pub(crate) fn anonymous_bytes(host: &Host) -> u64 {
    let mut text = vec![0; STATUS_BYTES_MAX];
    let read = host
        .disk
        .open("/proc/self/status".as_ref(), OpenMode::Read)
        .and_then(|file| file.read_at(&mut text, 0));
    let text = String::from_utf8_lossy(&text[..read.unwrap_or(0)]);
    parse_rss_anon(&text).unwrap_or(0)
}

fn parse_rss_anon(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    //! Goal: the line that counts is found among the others.

    use super::*;

    #[test]
    fn the_anonymous_part_is_read() {
        assert_eq!(
            parse_rss_anon("VmRSS:\t 9000 kB\nRssAnon:\t    1404 kB\nRssFile:\t 1 kB\n"),
            Some(1404 * 1024)
        );
        assert_eq!(parse_rss_anon("Name: x\n"), None);
        assert!(anonymous_bytes(&Host::real()) > 0);
    }
}
