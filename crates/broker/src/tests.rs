//! Goal: whatever is produced, packed, closed, dropped and opened again, a partition reads back as a plain
//! list of records says; and each promise about topics, marks and waits holds where it could break.
//!
//! `model.rs` compares random runs with a list; `promises.rs` holds the single cases; `disk.rs` the ones
//! that need a disk that fails.

use std::path::Path;
use std::sync::Arc;

use block_store::{BlockStore, Directory};
use bytes::Bytes;
use host::Host;
use meta_store::MetaStore;
use strands::Strands;

use crate::batch::{self, Builder, Compression, NewRecord, Record};
use crate::{Broker, Fetched, Options, RecordOffset, Topic, TopicConfig, TopicName};

mod disk;
mod model;
mod promises;

/// A data directory that is opened again and again, with small segments and a dense index.
struct Bed {
    host: Host,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { host: Host::real(), dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> (Strands, Broker) {
        let dir = self.dir.path();
        let strands = open_strands(&self.host, dir);
        let broker = Broker::open(strands.clone(), small()).unwrap();
        (strands, broker)
    }
}

fn open_strands(host: &Host, dir: &Path) -> Strands {
    let meta: Arc<dyn MetaStore> = Arc::new(meta_store::Fjall::open(dir.join("meta")).unwrap());
    let blocks: Arc<dyn BlockStore> = Arc::new(Directory::open(host, &dir.join("blocks")).unwrap());
    let log = durable_log::Options { segment_bytes: 256 << 10, ..durable_log::Options::default() };
    let options = strands::Options { log, reserve_bytes: Some(0), ..strands::Options::default() };
    Strands::open(host.clone(), &dir.join("journal"), meta, blocks, options).unwrap()
}

/// So that a few batches fill a segment and several index rows.
fn small() -> Options {
    Options { segment_bytes: 8 << 10, index_bytes: 1 << 10, ..Options::default() }
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn at(offset: i64) -> RecordOffset {
    RecordOffset::new(offset).unwrap()
}

fn record(timestamp: i64, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { timestamp, value: Some(value.into()), ..NewRecord::default() }
}

fn batch_of(compression: Compression, records: &[NewRecord]) -> Bytes {
    let mut builder = Builder::new(compression);
    for record in records {
        builder.push(record).unwrap();
    }
    builder.build().unwrap()
}

/// One batch of `count` small records of one time.
fn few(timestamp: i64, count: usize) -> Bytes {
    let records: Vec<_> =
        (0..count).map(|i| record(timestamp, format!("{timestamp}/{i}"))).collect();
    batch_of(Compression::None, &records)
}

async fn create(broker: &Broker, text: &str, partitions: u32) -> Topic {
    broker.create_topic(name(text), partitions, TopicConfig::default()).await.unwrap()
}

/// Stores a batch, waits for its acknowledgement and tells its offset.
async fn produce(broker: &Broker, topic: &Topic, partition: u32, batch: Bytes) -> i64 {
    broker.admit(batch.len()).await.unwrap();
    let pending = broker.append(topic, partition, batch).unwrap();
    let base = pending.base_offset.get();
    pending.acked().await.unwrap();
    base
}

/// All records of whole, undamaged batches.
#[track_caller]
fn records(bytes: &Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    for batch in batch::batches(bytes.clone()) {
        let batch = batch.unwrap();
        assert_eq!(batch.check_crc(), Ok(()));
        records.extend(batch.records(1 << 20).unwrap().map(Result::unwrap));
    }
    records
}

/// Fetches from an offset to the high watermark, with as many calls as it takes.
async fn read_on(
    broker: &Broker,
    topic: &Topic,
    partition: u32,
    offset: i64,
    max: u32,
) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    let mut next = offset;
    loop {
        let Fetched { high_watermark, bytes, .. } =
            broker.fetch(topic, partition, at(next), max).await.unwrap();
        if next == high_watermark.get() {
            assert!(bytes.is_empty());
            return all;
        }
        let got = records(&bytes);
        assert!(got[0].offset <= next, "the first batch holds the offset");
        let batches = batch::batches(bytes.clone()).count();
        assert!(
            bytes.len() <= max as usize || batches == 1,
            "only a single batch may be over the limit"
        );
        all.extend(got.into_iter().filter(|record| record.offset >= next));
        next = all.last().unwrap().offset + 1;
    }
}
