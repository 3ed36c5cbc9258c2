//! `/metrics`: the numbers of `/api/status` and the counters of the doors, as Prometheus reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::api::{Away, Cache, Collection, Status, Store, Transfers};

/// Everything that the doors count while the server runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// Counters of the Kafka door.
    pub(crate) kafka: Arc<kafka::Metrics>,
    /// Counters of the file door.
    pub(crate) files: Arc<remote::Metrics>,
}

impl Metrics {
    /// The text for Prometheus.
    pub(crate) fn render(&self, status: Status) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("strandline");
        registry.register_collector(Box::new(Scrape { status, doors: self.clone() }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Everything that one scrape shows.
#[derive(Debug)]
struct Scrape {
    status: Status,
    doors: Metrics,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in gauges(&self.status) {
            gauge(&mut encoder, name, help, value)?;
        }
        memory_cache(&mut encoder, self.status.cache.as_ref())?;
        store(&mut encoder, &self.status.store)?;
        collection(&mut encoder, &self.status.collection)?;
        kafka_door(&mut encoder, &self.doors.kafka)?;
        file_door(&mut encoder, &self.doors.files)
    }
}

fn gauges(status: &Status) -> [(&'static str, &'static str, u64); 20] {
    let (journal, blocks) = (&status.journal, &status.blocks);
    [
        ("uptime_seconds", "Time since the server started", status.uptime_ms / 1000),
        ("journal_bytes", "Size of the journal's files", journal.bytes),
        ("journal_segments", "Files of the journal", journal.segments),
        ("journal_unpacked_bytes", "Payload that lies in no block yet", journal.unpacked_bytes),
        (
            "journal_unpacked_limit_bytes",
            "With so much unpacked payload writers wait",
            journal.unpacked_bytes_max,
        ),
        ("journal_unpacked_pieces", "Pieces that it lies in", journal.unpacked_pieces),
        (
            "journal_unpacked_limit_pieces",
            "With so many pieces writers wait",
            journal.unpacked_pieces_max,
        ),
        (
            "journal_unpacked_age_seconds",
            "Age of the oldest change that no round of packing has told of",
            journal.unpacked_age_ms.unwrap_or(0) / 1000,
        ),
        ("journal_start_position", "Oldest commit in the journal", journal.start),
        ("journal_durable_position", "Commits below are on stable storage", journal.durable),
        (
            "journal_written_position",
            "Commits below are with the operating system",
            journal.written,
        ),
        ("journal_appended_position", "Commits below are in memory at least", journal.appended),
        ("blocks", "Blocks of packed data", blocks.count),
        ("blocks_bytes", "Size of the blocks", blocks.bytes),
        ("meta_applied_position", "Commits below are in the meta store", status.meta.applied),
        ("topics", "Topics", status.topics.count),
        ("partitions", "Partitions of all topics", status.topics.partitions),
        ("records", "Records in all topics", status.topics.records),
        ("volumes", "Volumes", status.volumes.count),
        (
            "memory_anonymous_bytes",
            "Resident memory that no file backs",
            status.memory.anonymous_bytes,
        ),
    ]
}

fn memory_cache(encoder: &mut DescriptorEncoder<'_>, cache: Option<&Cache>) -> fmt::Result {
    let Some(cache) = cache else { return Ok(()) };
    gauge(encoder, "cache_bytes", "Memory that bytes of blocks take", cache.bytes)?;
    gauge(encoder, "cache_limit_bytes", "Memory that they may take", cache.bytes_max)?;
    count(encoder, "cache_hit_bytes", "Bytes that reads found in memory", cache.hit_bytes)?;
    count(encoder, "cache_miss_bytes", "Bytes that reads fetched from blocks", cache.miss_bytes)?;
    count(encoder, "cache_ahead_bytes", "Bytes fetched before they were read", cache.ahead_bytes)?;
    let evicted = cache.evicted_pieces;
    count(encoder, "cache_evicted_pieces", "Pieces that made room for others", evicted)
}

fn store(encoder: &mut DescriptorEncoder<'_>, store: &Store) -> fmt::Result {
    if let Some(point) = &store.restorable {
        let help = "Commits below could be restored from the store alone";
        gauge(encoder, "restorable_position", help, point.commit)?;
        let help = "When the last of these was made, since 1970";
        let seconds = u64::try_from(point.time_ms / 1000).unwrap_or(0);
        gauge(encoder, "restorable_timestamp_seconds", help, seconds)?;
    }
    let Some(transfers) = &store.transfers else { return Ok(()) };
    let away = [("uploads", &transfers.uploads_away), ("downloads", &transfers.downloads_away)];
    let help = "1 while the store does not answer";
    let mut family = encoder.encode_descriptor("store_away", help, None, MetricType::Gauge)?;
    for (way, away) in away {
        let value = ConstGauge::new(u64::from(away.is_some()));
        value.encode(family.encode_family(&[("way", way)])?)?;
    }
    let seconds = |away: &Option<Away>| away.as_ref().map_or(0, |away| away.for_ms / 1000);
    let longest = seconds(&transfers.uploads_away).max(seconds(&transfers.downloads_away));
    gauge(encoder, "store_away_seconds", "How long it has not answered", longest)?;
    uploads(encoder, transfers)?;
    downloads(encoder, transfers)
}

fn uploads(encoder: &mut DescriptorEncoder<'_>, transfers: &Transfers) -> fmt::Result {
    let age = transfers.waiting_age_ms.unwrap_or(0) / 1000;
    let gauges = [
        ("upload_waiting_blocks", "Blocks on this disk alone", transfers.waiting_blocks),
        ("upload_waiting_bytes", "Bytes of these", transfers.waiting_bytes),
        ("upload_waiting_limit_bytes", "With so many writers wait", transfers.waiting_bytes_max),
        ("upload_waiting_age_seconds", "Age of the oldest of these", age),
        ("upload_stuck_blocks", "Blocks that can never be uploaded", transfers.stuck_blocks),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, value)?;
    }
    count(encoder, "uploaded_blocks", "Blocks uploaded", transfers.uploaded_blocks)?;
    count(encoder, "uploaded_bytes", "Bytes of these", transfers.uploaded_bytes)?;
    count(encoder, "transfer_retries", "Requests that were sent again", transfers.retries)
}

fn downloads(encoder: &mut DescriptorEncoder<'_>, transfers: &Transfers) -> fmt::Result {
    let cache = &transfers.disk_cache;
    count(encoder, "downloads", "Downloads of blocks and parts of them", transfers.downloads)?;
    count(encoder, "downloaded_bytes", "Bytes of these", transfers.downloaded_bytes)?;
    let reads = transfers.waiting_reads;
    gauge(encoder, "download_waiting_reads", "Reads that wait for a download", reads)?;
    gauge(encoder, "disk_cache_blocks", "Blocks of the bucket that are here", cache.blocks)?;
    gauge(encoder, "disk_cache_bytes", "Bytes of these", cache.bytes)?;
    gauge(encoder, "disk_cache_limit_bytes", "How many there may be", cache.bytes_max)?;
    count(encoder, "disk_cache_hits", "Reads that the disk cache answered", cache.hits)?;
    count(encoder, "disk_cache_misses", "Reads that it did not", cache.misses)?;
    let damaged = cache.damaged_blocks;
    count(encoder, "disk_cache_damaged_blocks", "Blocks that were damaged in it", damaged)
}

fn collection(encoder: &mut DescriptorEncoder<'_>, all: &Collection) -> fmt::Result {
    count(encoder, "collection_rounds", "Rounds of collection that ended", all.rounds)?;
    count(encoder, "collection_deleted_blocks", "Blocks that they deleted", all.deleted_blocks)?;
    count(encoder, "collection_deleted_bytes", "Bytes of these", all.deleted_bytes)?;
    let help = "Bytes that they moved into new blocks";
    count(encoder, "collection_rewritten_bytes", help, all.rewritten_bytes)?;
    let Some(last) = &all.last else { return Ok(()) };
    let seconds = u64::try_from(last.ended_ms / 1000).unwrap_or(0);
    let help = "When the last round ended, since 1970";
    gauge(encoder, "collection_last_timestamp_seconds", help, seconds)?;
    let help = "1 if the last round left something undone";
    gauge(encoder, "collection_last_failed", help, u64::from(last.error.is_some()))?;
    let help = "Blocks that the last round found to be needed by nobody";
    gauge(encoder, "collection_last_dead_blocks", help, last.dead_blocks)
}

fn kafka_door(encoder: &mut DescriptorEncoder<'_>, metrics: &kafka::Metrics) -> fmt::Result {
    gauge(encoder, "kafka_connections", "Connections open now", read(&metrics.connections))?;
    let counters = [
        ("kafka_connections_accepted", "Connections accepted", &metrics.connections_accepted),
        ("kafka_connections_refused", "Connections over the limit", &metrics.connections_refused),
        ("kafka_frames_refused", "Frames that were no requests", &metrics.frames_refused),
        ("kafka_timeouts", "Connections whose peer was too slow", &metrics.timeouts),
        ("kafka_produced_bytes", "Bytes of record batches stored", &metrics.produced_bytes),
        ("kafka_produced_records", "Records stored", &metrics.produced_records),
        ("kafka_fetched_bytes", "Bytes of record batches sent", &metrics.fetched_bytes),
    ];
    for (name, help, counter) in counters {
        count(encoder, name, help, read(counter))?;
    }
    let requests = metrics.requests().map(|(api, requests)| (format!("{api:?}"), requests));
    family(encoder, "kafka_requests", "Requests by API", "api", requests)?;
    let errors = metrics.errors().map(|(code, errors)| (code.0.to_string(), errors));
    family(encoder, "kafka_errors", "Error codes sent", "code", errors)
}

fn file_door(encoder: &mut DescriptorEncoder<'_>, metrics: &remote::Metrics) -> fmt::Result {
    gauge(encoder, "files_connections", "Connections open now", read(&metrics.connections_open))?;
    let counters = [
        ("files_connections_accepted", "Connections accepted", &metrics.connections),
        ("files_frames_refused", "Frames that were no requests", &metrics.frames_refused),
        ("files_requests", "Requests taken up", &metrics.requests),
        ("files_requests_failed", "Requests answered with an error", &metrics.requests_failed),
    ];
    for (name, help, counter) in counters {
        count(encoder, name, help, read(counter))?;
    }
    Ok(())
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn count(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

/// Counters of one name that differ in one label.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    counters: impl Iterator<Item = (String, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in counters {
        let labels = [(label, value)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
