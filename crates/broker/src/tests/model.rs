//! Goal: a partition is a list of records, whatever happens around it.
//!
//! Method: random batches, reads and lookups, with packing and reopening in between, on a real directory;
//! beside them a list per partition.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::batch::Compression;
use crate::tests::{Bed, at, batch_of, name, produce, read_on, record};
use crate::{At, Broker, Durability, FetchError, Topic, TopicConfig};

/// Two partitions of a synced topic, and one of a written one.
const PARTITIONS: [(&str, u32); 3] = [("synced", 0), ("synced", 1), ("written", 0)];

#[derive(Clone, Debug)]
enum Step {
    Produce { pick: usize, times: Vec<i64>, size: usize, compression: Compression },
    Read { pick: usize, from: prop::sample::Index, max: u32 },
    Lookup { pick: usize, time: i64 },
    Pack,
    Reopen { clean: bool },
}

/// What a partition should be: time and value of each record, and the epochs' first offsets.
#[derive(Clone, Debug, Default)]
struct Model {
    records: Vec<(i64, Bytes)>,
    epochs: Vec<(i32, i64)>,
}

impl Model {
    fn end(&self) -> i64 {
        i64::try_from(self.records.len()).unwrap()
    }

    fn first_since(&self, time: i64) -> Option<(i64, i64)> {
        let offset = self.records.iter().position(|(at, _)| *at >= time)?;
        Some((i64::try_from(offset).unwrap(), self.records[offset].0))
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let pick = || 0..PARTITIONS.len();
    let compression = prop::sample::select(Compression::ALL.to_vec());
    prop_oneof![
        6 => (pick(), vec(0..1000_i64, 1..5), 0..700_usize, compression).prop_map(
            |(pick, times, size, compression)| Step::Produce { pick, times, size, compression }
        ),
        3 => (pick(), any::<prop::sample::Index>(), 1..5000_u32)
            .prop_map(|(pick, from, max)| Step::Read { pick, from, max }),
        2 => (pick(), 0..1100_i64).prop_map(|(pick, time)| Step::Lookup { pick, time }),
        1 => Just(Step::Pack),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

async fn setup(broker: &Broker) {
    for (text, partitions, durability) in
        [("synced", 2, Durability::Synced), ("written", 1, Durability::Written)]
    {
        broker.create_topic(name(text), partitions, TopicConfig { durability }).await.unwrap();
    }
}

fn topic(broker: &Broker, pick: usize) -> (Topic, u32) {
    let (text, partition) = PARTITIONS[pick];
    (broker.topic(&name(text)).unwrap(), partition)
}

async fn run(steps: Vec<Step>) {
    let bed = Bed::new();
    let (mut strands, mut broker) = bed.open();
    setup(&broker).await;
    let mut models = vec![Model::default(); PARTITIONS.len()];
    for step in steps {
        match step {
            Step::Produce { pick, times, size, compression } => {
                produce_both(&broker, pick, &mut models[pick], &times, size, compression).await;
            }
            Step::Read { pick, from, max } => {
                let from = from.index(models[pick].records.len() + 1);
                check_read(&broker, pick, &models[pick], from, max).await;
            }
            Step::Lookup { pick, time } => check_lookup(&broker, pick, &models[pick], time).await,
            Step::Pack => strands.pack_now().unwrap(),
            Step::Reopen { clean } => {
                if clean {
                    strands.close().unwrap();
                }
                drop((strands, broker));
                (strands, broker) = bed.open();
            }
        }
    }
    for (pick, model) in models.iter().enumerate() {
        check_whole(&broker, pick, model).await;
    }
}

async fn produce_both(
    broker: &Broker,
    pick: usize,
    model: &mut Model,
    times: &[i64],
    size: usize,
    compression: Compression,
) {
    let (topic, partition) = topic(broker, pick);
    let fill = u8::try_from(model.end() % 251).unwrap();
    let records: Vec<_> = times.iter().map(|time| record(*time, vec![fill; size])).collect();
    let base = produce(broker, &topic, partition, batch_of(compression, &records)).await;
    assert_eq!(base, model.end());
    if model.epochs.last().is_none_or(|(epoch, _)| *epoch != broker.leader_epoch()) {
        model.epochs.push((broker.leader_epoch(), base));
    }
    model
        .records
        .extend(records.into_iter().map(|record| (record.timestamp, record.value.unwrap())));
}

async fn check_read(broker: &Broker, pick: usize, model: &Model, from: usize, max: u32) {
    let (topic, partition) = topic(broker, pick);
    let got = read_on(broker, &topic, partition, i64::try_from(from).unwrap(), max).await;
    let got: Vec<_> =
        got.into_iter().map(|record| (record.timestamp, record.value.unwrap())).collect();
    assert_eq!(got, model.records[from..]);
}

async fn check_lookup(broker: &Broker, pick: usize, model: &Model, time: i64) {
    let (topic, partition) = topic(broker, pick);
    let got = broker.offset_at(&topic, partition, At::Timestamp(time)).await.unwrap();
    assert_eq!(
        got.map(|(offset, time)| (offset.get(), time)),
        model.first_since(time),
        "since {time}"
    );
}

async fn check_whole(broker: &Broker, pick: usize, model: &Model) {
    let (topic, partition) = topic(broker, pick);
    check_read(broker, pick, model, 0, 1 << 20).await;
    let find = async |at| {
        let found = broker.offset_at(&topic, partition, at).await.unwrap();
        found.map(|(offset, time)| (offset.get(), time))
    };
    assert_eq!(find(At::Earliest).await, Some((0, -1)));
    assert_eq!(find(At::Latest).await, Some((model.end(), -1)));
    let latest = model.records.iter().map(|(time, _)| *time).max();
    assert_eq!(find(At::MaxTimestamp).await, latest.and_then(|time| model.first_since(time)));
    let beyond = broker.fetch(&topic, partition, at(model.end() + 1), 100).await;
    assert!(matches!(beyond, Err(FetchError::OutOfRange { .. })), "{beyond:?}");
    for (i, (epoch, _)) in model.epochs.iter().enumerate() {
        let end = model.epochs.get(i + 1).map_or_else(|| model.end(), |(_, start)| *start);
        let got = broker.epoch_end(&topic, partition, *epoch).await.unwrap();
        assert_eq!(got.map(|(epoch, end)| (epoch, end.get())), Some((*epoch, end)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_run_reads_back_as_a_list(steps in vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(run(steps));
    }
}
