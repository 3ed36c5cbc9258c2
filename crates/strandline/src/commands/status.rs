//! `strandline status`: what the server holds and how it is.

use std::time::Duration;

use crate::api::{Recovery, Status};
use crate::cli::Target;
use crate::client::Client;
use crate::commands::block_on;
use crate::failure::Outcome;
use crate::output::Out;
use crate::units::{show_age, show_count, show_size};

/// Prints the status.
pub(crate) fn run(target: &Target, json: bool) -> Outcome {
    let client = Client::new(target);
    let mut out = Out::stdout();
    if json {
        // As the server sent it: a newer server may say more than this program knows.
        out.json(&block_on(client.get::<serde_json::Value>("/api/status"))?)?;
    } else {
        for (label, text) in lines(&block_on(client.get("/api/status"))?) {
            out.line(format!("{label:<9} {text}"))?;
        }
    }
    out.flush()
}

fn lines(status: &Status) -> Vec<(&'static str, String)> {
    let off = || "off".to_owned();
    let kafka = status.doors.kafka.as_ref().map_or_else(off, |door| {
        if door.advertised == door.address {
            door.address.clone()
        } else {
            format!("{}, advertised as {}", door.address, door.advertised)
        }
    });
    let journal = &status.journal;
    vec![
        (
            "version",
            format!(
                "{}, up {} (pid {})",
                status.version,
                show_age(Duration::from_millis(status.uptime_ms)),
                status.pid
            ),
        ),
        ("data", status.data.clone()),
        ("kafka", kafka),
        ("http", status.doors.http.clone().unwrap_or_else(off)),
        (
            "topics",
            format!(
                "{} with {}, {}",
                show_count(status.topics.count),
                several(status.topics.partitions, "partition"),
                several(status.topics.records, "record")
            ),
        ),
        ("volumes", show_count(status.volumes.count)),
        (
            "journal",
            format!(
                "{} in {}, {} not packed",
                show_size(journal.bytes),
                several(journal.segments, "segment"),
                show_size(journal.unpacked_bytes)
            ),
        ),
        (
            "",
            format!(
                "commits {} to {}: {} durable, {} written",
                journal.start, journal.appended, journal.durable, journal.written
            ),
        ),
        (
            "blocks",
            format!("{}, {}", show_count(status.blocks.count), show_size(status.blocks.bytes)),
        ),
        ("meta", format!("applied to {}", status.meta.applied)),
        ("memory", format!("{} anonymous", show_size(status.memory.anonymous_bytes))),
        ("recovery", recovery_text(&status.recovery)),
    ]
}

fn recovery_text(recovery: &Recovery) -> String {
    let before = if recovery.clean { "clean" } else { "not clean" };
    let torn = recovery.torn.as_ref().map_or_else(String::new, |torn| {
        format!(
            ", cut {} of unacknowledged tail at {} in {}",
            show_size(torn.bytes),
            torn.at,
            torn.file
        )
    });
    format!(
        "the stop before was {before}; read {} ({}), replayed {}{torn}; ready in {} ms",
        several(recovery.commits, "commit"),
        show_size(recovery.bytes),
        show_count(recovery.replayed),
        recovery.ready_ms,
    )
}

fn several(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", show_count(count), if count == 1 { "" } else { "s" })
}
