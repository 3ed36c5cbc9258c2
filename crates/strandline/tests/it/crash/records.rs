//! Producers, and the model of what must be in their partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::At;
use broker::batch::{Builder, Compression, NewRecord, batches};
use bytes::Bytes;
use kafka::client::{Acks, Client, ClientError, FetchFrom, Options};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Dice, Stage};
use crate::harness::PATIENCE;

/// Topic and partition: each has one producer, so that order can be checked.
const PARTITIONS: [(&str, i32); 3] = [("synced", 0), ("synced", 1), ("written", 0)];
const RECORD_BYTES_MAX: u64 = 1000;
const BATCH_RECORDS_MAX: u64 = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// All producers.
pub(super) struct Producers {
    models: Vec<Arc<Mutex<Model>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one producer knows.
#[derive(Debug, Default)]
struct Model {
    /// Sent so far; record n holds the bytes of `payload(n)`.
    sent: u64,
    /// Offset to the number of the record that was acknowledged there.
    acknowledged: BTreeMap<i64, u64>,
    /// Records below this offset were compared before.
    compared: i64,
}

impl Producers {
    pub(super) fn start(runtime: &Runtime, stage: &Arc<Stage>, seed: u64) -> Self {
        let models: Vec<Arc<Mutex<Model>>> = PARTITIONS.iter().map(|_| Arc::default()).collect();
        let tasks =
            PARTITIONS.iter().zip(&models).zip(1..).map(|((&(topic, partition), model), n)| {
                let producer = Producer {
                    stage: Arc::clone(stage),
                    topic,
                    partition,
                    model: Arc::clone(model),
                };
                runtime.spawn(producer.run(Dice::new(seed ^ (n << 32))))
            });
        let tasks = tasks.collect();
        Self { models, tasks }
    }

    /// Compares what was acknowledged since the last time; `everything` means from the beginning.
    pub(super) async fn check(&self, stage: &Stage, everything: bool) {
        for (&(topic, partition), model) in PARTITIONS.iter().zip(&self.models) {
            let (acknowledged, sent, from) = {
                let model = model.lock().unwrap();
                let from = if everything { 0 } else { model.compared };
                (
                    model.acknowledged.range(from..).map(|(&offset, &n)| (offset, n)).collect(),
                    model.sent,
                    from,
                )
            };
            let stored = read(&stage.kafka(), topic, partition, from).await;
            compare(&format!("{topic}/{partition}"), &acknowledged, sent, from, &stored);
            model.lock().unwrap().compared = stored.last().map_or(from, |(offset, _)| offset + 1);
        }
    }

    /// Waits for the producers' ends, then compares once more.
    pub(super) async fn finish(mut self, stage: &Stage) {
        for task in self.tasks.drain(..) {
            tokio::time::timeout(PATIENCE, task).await.expect("a producer ends").unwrap();
        }
        self.check(stage, true).await;
        for (model, partition) in self.models.iter().zip(PARTITIONS) {
            let acknowledged = model.lock().unwrap().acknowledged.len();
            assert!(
                acknowledged > 100,
                "{partition:?} had too few records to mean anything: {acknowledged}"
            );
        }
    }
}

struct Producer {
    stage: Arc<Stage>,
    topic: &'static str,
    partition: i32,
    model: Arc<Mutex<Model>>,
}

impl Producer {
    async fn run(self, mut dice: Dice) {
        while !self.stage.is_over() {
            if let Ok(client) = Client::connect(&self.stage.kafka(), Options::default()).await {
                self.produce_until_it_breaks(&client, &mut dice).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn produce_until_it_breaks(&self, client: &Client, dice: &mut Dice) {
        while !self.stage.is_over() {
            let count = 1 + dice.roll(BATCH_RECORDS_MAX);
            let first = {
                let mut model = self.model.lock().unwrap();
                model.sent += count;
                model.sent - count
            };
            let sent =
                client.produce(self.topic, self.partition, batch(first, count), Acks::All).await;
            match sent {
                Ok(offset) => {
                    let offset = offset.expect("acknowledged means that there is an offset");
                    let mut model = self.model.lock().unwrap();
                    for n in 0..count {
                        model.acknowledged.insert(offset + n.cast_signed(), first + n);
                    }
                }
                // Whether it is stored is not known. It is never sent again: a later record follows.
                Err(ClientError::Disconnected(_)) => return,
                Err(error) => panic!("{}/{}: {error}", self.topic, self.partition),
            }
        }
    }
}

/// The bytes of record `n`: its number, and a length and a filling that follow from it.
fn payload(n: u64) -> Bytes {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let len = usize::try_from((mixed >> 32) % RECORD_BYTES_MAX).unwrap();
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(8 + len, mixed.to_be_bytes()[0]);
    bytes.into()
}

fn batch(first: u64, count: u64) -> Bytes {
    let mut builder = Builder::new(Compression::None);
    for n in first..first + count {
        builder
            .push(&NewRecord { timestamp: 1, value: Some(payload(n)), ..NewRecord::default() })
            .unwrap();
    }
    builder.build().unwrap()
}

/// Everything from an offset to the partition's end at this moment: offsets and values.
async fn read(address: &str, topic: &str, partition: i32, from: i64) -> Vec<(i64, Bytes)> {
    let client = Client::connect(address, Options::default()).await.expect("the server is up");
    let (end, _) = client.list_offset(topic, partition, At::Latest).await.unwrap().unwrap();
    let mut records = Vec::new();
    let mut next = from;
    while next < end {
        let wanted = FetchFrom {
            offset: next,
            wait_max: Duration::from_secs(5),
            min_bytes: 1,
            max_bytes: 4 << 20,
        };
        let fetched = client.fetch(topic, partition, wanted).await.unwrap();
        for batch in batches(fetched.batches) {
            let Ok(batch) = batch else { break };
            batch.check_crc().unwrap();
            for record in batch.records(64 << 20).unwrap() {
                let record = record.unwrap();
                if record.offset >= from {
                    records.push((record.offset, record.value.unwrap()));
                }
            }
            next = batch.header().next_offset();
        }
    }
    records
}

/// Acknowledged records are where they were acknowledged; all others are ones that were sent, once and in order.
fn compare(
    what: &str,
    acknowledged: &BTreeMap<i64, u64>,
    sent: u64,
    from: i64,
    stored: &[(i64, Bytes)],
) {
    let mut last = None;
    for ((offset, value), expected) in stored.iter().zip(from..) {
        assert_eq!(*offset, expected, "{what}: offsets are dense");
        let n = u64::from_le_bytes(value[..8].try_into().unwrap());
        // The producers go on while this compares: later records are no surprise, wrong ones are.
        assert!(*value == payload(n), "{what}: the bytes of offset {offset}");
        assert!(last < Some(n), "{what}: offset {offset} has record {n} after {last:?}");
        assert!(n < sent + 1_000_000, "{what}: offset {offset} has record {n}, which nobody sent");
        if let Some(&promised) = acknowledged.get(offset) {
            assert_eq!(n, promised, "{what}: offset {offset} was acknowledged");
        }
        last = Some(n);
    }
    if let Some((&newest, _)) = acknowledged.last_key_value() {
        let end = stored.last().map(|(offset, _)| *offset);
        assert!(
            end >= Some(newest),
            "{what}: offset {newest} was acknowledged and the partition ends at {end:?}"
        );
    }
}
