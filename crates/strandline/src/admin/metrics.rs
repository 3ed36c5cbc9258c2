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

use crate::api::Status;

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
        kafka_door(&mut encoder, &self.doors.kafka)?;
        file_door(&mut encoder, &self.doors.files)
    }
}

fn gauges(status: &Status) -> [(&'static str, &'static str, u64); 16] {
    let (journal, blocks) = (&status.journal, &status.blocks);
    [
        ("uptime_seconds", "Time since the server started", status.uptime_ms / 1000),
        ("journal_bytes", "Size of the journal's files", journal.bytes),
        ("journal_segments", "Files of the journal", journal.segments),
        ("journal_unpacked_bytes", "Payload that lies in no block yet", journal.unpacked_bytes),
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
