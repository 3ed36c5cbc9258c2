//! `strandline status`: what the server holds and how it is, a line for each thing, in words.

use std::time::Duration;

use crate::api::{Away, Journal, Recovery, Status, Store, Transfers};
use crate::cli::Target;
use crate::client::Client;
use crate::commands::block_on;
use crate::failure::Outcome;
use crate::output::Out;
use crate::units::{several, show_age, show_count, show_millis, show_size};

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

type Line = (&'static str, String);

fn lines(status: &Status) -> Vec<Line> {
    let up = show_age(Duration::from_millis(status.uptime_ms));
    let mut lines = vec![
        ("version", format!("{}, up {up} (pid {})", status.version, status.pid)),
        ("data", status.data.clone()),
    ];
    lines.extend(doors(status));
    lines.extend(holdings(status));
    lines.extend(journal(&status.journal, status.meta.applied));
    let (blocks, bytes) = (status.blocks.count, show_size(status.blocks.bytes));
    lines.push(("blocks", format!("{} with {bytes}", several(blocks, "block"))));
    if let Some(error) = &status.blocks.pack_error {
        lines.push(("", format!("PROBLEM: the last packing failed: {error}")));
    }
    lines.extend(store(&status.store));
    lines.extend(status.store.transfers.as_ref().map(transfers).unwrap_or_default());
    lines.push(("gc", collection(status)));
    lines.push(("cache", cache(status)));
    let memory = show_size(status.memory.anonymous_bytes);
    lines.push(("memory", format!("{memory}, without what the system keeps of files")));
    lines.push(("start", start(&status.recovery)));
    lines
}

fn doors(status: &Status) -> [Line; 2] {
    let off = || "off".to_owned();
    let kafka = status.doors.kafka.as_ref().map_or_else(off, |door| {
        if door.advertised == door.address {
            door.address.clone()
        } else {
            format!("{}, which clients are told to reach at {}", door.address, door.advertised)
        }
    });
    [("kafka", kafka), ("http", status.doors.http.clone().unwrap_or_else(off))]
}

fn holdings(status: &Status) -> [Line; 2] {
    let topics = &status.topics;
    let text = format!(
        "{}, {}, {}",
        several(topics.count, "topic"),
        several(topics.partitions, "partition"),
        several(topics.records, "record")
    );
    [("topics", text), ("volumes", several(status.volumes.count, "volume"))]
}

fn journal(journal: &Journal, applied: u64) -> Vec<Line> {
    let mut lines = vec![
        (
            "journal",
            format!(
                "{} not in blocks yet; writers wait when it is {}",
                show_size(journal.unpacked_bytes),
                show_size(journal.unpacked_bytes_max)
            ),
        ),
        (
            "",
            format!(
                "{} on disk in {}",
                show_size(journal.bytes),
                several(journal.segments, "segment file")
            ),
        ),
        (
            "commits",
            format!(
                "{} so far: {} survive a kill, {} a power cut",
                show_count(journal.appended),
                show_count(journal.written),
                show_count(journal.durable)
            ),
        ),
        (
            "",
            format!(
                "{} are in the meta store; a start takes the others from the journal",
                show_count(applied)
            ),
        ),
    ];
    if journal.failed_syncs > 0 {
        let failed = several(journal.failed_syncs, "sync");
        lines.push(("", format!("PROBLEM: {failed} of the journal failed; look at the disk")));
    }
    lines
}

fn store(store: &Store) -> Vec<Line> {
    let text = match (store.url.as_str(), &store.place) {
        ("own", _) => "the data directory; nothing outlives its disk".to_owned(),
        ("memory", _) => "memory: nothing is kept when the server ends".to_owned(),
        (_, Some(place)) => place.clone(),
        (url, None) => url.to_owned(),
    };
    let mut lines = vec![("store", text)];
    if !["own", "memory"].contains(&store.url.as_str()) {
        let restorable = match &store.restorable {
            Some(point) => format!(
                "could be restored from it: the first {}, up to {}",
                several(point.commit, "commit"),
                show_millis(point.time_ms)
            ),
            None => "nothing could be restored from it yet".to_owned(),
        };
        lines.push(("", restorable));
    }
    if let Some(error) = &store.restorable_error {
        lines
            .push(("", format!("PROBLEM: the newest point to restore from is not there: {error}")));
    }
    lines
}

fn transfers(transfers: &Transfers) -> Vec<Line> {
    let waiting = match transfers.waiting_blocks {
        0 => "none waits".to_owned(),
        blocks => format!(
            "{} with {} wait, the oldest for {}; writers wait at {}",
            several(blocks, "block"),
            show_size(transfers.waiting_bytes),
            show_age(Duration::from_millis(transfers.waiting_age_ms.unwrap_or(0))),
            show_size(transfers.waiting_bytes_max)
        ),
    };
    let done = several(transfers.uploaded_blocks, "block");
    let mut lines = vec![(
        "uploads",
        format!("{waiting}; {done} with {} done", show_size(transfers.uploaded_bytes)),
    )];
    if transfers.stuck_blocks > 0 {
        let stuck = several(transfers.stuck_blocks, "block");
        lines.push(("", format!("PROBLEM: {stuck} can never be uploaded; the log says why")));
    }
    let away = |away: &Away| {
        let age = show_age(Duration::from_millis(away.for_ms));
        format!("PROBLEM: the store has not answered for {age}: {}", away.why)
    };
    lines.extend(transfers.uploads_away.iter().map(|why| ("", away(why))));
    let downloads = match transfers.downloads {
        0 => "none since the start".to_owned(),
        some => format!("{} with {}", show_count(some), show_size(transfers.downloaded_bytes)),
    };
    lines.push(("downloads", downloads));
    lines.extend(transfers.downloads_away.iter().map(|why| ("", away(why))));
    let cache = &transfers.disk_cache;
    lines.push((
        "",
        format!(
            "{} with {} of at most {} kept on this disk, which answered {} of {}",
            several(cache.blocks, "block"),
            show_size(cache.bytes),
            show_size(cache.bytes_max),
            show_count(cache.hits),
            several(cache.hits + cache.misses, "read")
        ),
    ));
    lines
}

fn collection(status: &Status) -> String {
    let all = &status.collection;
    let Some(last) = &all.last else { return "no round since the start".to_owned() };
    let found = match &last.error {
        Some(error) => format!("PROBLEM: {error}"),
        None if last.dry_run => format!("a dry run, {} dead", several(last.dead_blocks, "block")),
        None => format!(
            "{} dead, {} with {} deleted, {} rewritten",
            several(last.dead_blocks, "block"),
            show_count(last.deleted_blocks),
            show_size(last.deleted_bytes),
            show_size(last.rewritten_bytes)
        ),
    };
    format!(
        "{} since the start, the last at {}: {found}",
        several(all.rounds, "round"),
        show_millis(last.ended_ms)
    )
}

fn cache(status: &Status) -> String {
    let Some(cache) = &status.cache else { return "off".to_owned() };
    format!(
        "{} of at most {}; reads found {} of blocks there, and not {}",
        show_size(cache.bytes),
        show_size(cache.bytes_max),
        show_size(cache.hit_bytes),
        show_size(cache.miss_bytes)
    )
}

fn start(recovery: &Recovery) -> String {
    let before = match (recovery.opening, recovery.clean) {
        (1, _) => "the first in this data directory".to_owned(),
        (_, true) => "after an orderly stop".to_owned(),
        (_, false) => format!(
            "after a kill or a crash; {} ({}) of the journal were read, {} of them new to the meta store",
            several(recovery.commits, "commit"),
            show_size(recovery.bytes),
            show_count(recovery.replayed)
        ),
    };
    let torn = recovery.torn.as_ref().map_or_else(String::new, |torn| {
        format!(
            "; {} that nobody was promised were cut from {} at byte {}",
            show_size(torn.bytes),
            torn.file,
            torn.at
        )
    });
    format!("{before}{torn}; ready in {} ms", recovery.ready_ms)
}
