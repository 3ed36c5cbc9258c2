//! Goal: a batch is stored as it was sent or refused with the protocol's code and not stored at all; what
//! was acknowledged is there after a restart.

use broker::batch::Compression;
use bytes::Bytes;
use host::sim::Machine;
use kafka::client::{Acks, Client, ClientError, Create};
use kafka::wire::ErrorCode;
use kafka::wire::messages::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::bed::{
    BATCH_BYTES_MAX, Bed, all_records, batch, batch_with, count, from, partitions, produce, records,
};

pub(crate) fn to(topic: &str, index: i32, records: Bytes) -> ProduceTopic {
    let partitions = vec![ProducePartition { index, records: Some(records) }];
    ProduceTopic { name: topic.to_owned(), partitions }
}

/// `batch` is refused with `code`, and nothing of it is stored.
async fn check_refused(batch: Bytes, code: ErrorCode) {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let refused = client.produce("t", 0, batch, Acks::All).await.unwrap_err();
    assert_eq!(refused.code(), Some(code), "{refused}");
    assert_eq!(bed.metrics.errors_of(code), 1);
    assert_eq!(count(&bed.metrics.produced_bytes), 0);
    assert_eq!(produce(&client, &["next"]).await, 0, "offsets go on as if nothing had come");
    assert_eq!(all_records(&client).await, [(0, "next".to_owned())]);
}

fn damaged(at: usize, value: u8) -> Bytes {
    let mut bytes = batch(&["a"]).to_vec();
    bytes[at] = value;
    bytes.into()
}

const ATTRIBUTES_LOW_AT: usize = 22;
const TRANSACTIONAL: u8 = 0x10;
const CONTROL: u8 = 0x20;

/// A batch with other attributes and the checksum that goes with them.
fn flagged(attributes: u8) -> Bytes {
    let mut bytes = damaged(ATTRIBUTES_LOW_AT, attributes).to_vec();
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test]
async fn a_batch_with_a_wrong_checksum_is_refused() {
    let bytes = batch(&["a"]);
    check_refused(damaged(bytes.len() - 1, 0x55), ErrorCode::CORRUPT_MESSAGE).await;
}

#[tokio::test]
async fn a_batch_cut_short_is_refused() {
    let bytes = batch(&["a"]);
    check_refused(bytes.slice(..bytes.len() - 1), ErrorCode::CORRUPT_MESSAGE).await;
}

#[tokio::test]
async fn an_empty_batch_is_refused() {
    check_refused(Bytes::new(), ErrorCode::CORRUPT_MESSAGE).await;
}

#[tokio::test]
async fn an_old_message_format_is_refused() {
    check_refused(damaged(16, 1), ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT).await;
}

#[tokio::test]
async fn a_batch_over_the_limit_is_refused() {
    let value = "x".repeat(BATCH_BYTES_MAX as usize);
    check_refused(batch(&[&value]), ErrorCode::MESSAGE_TOO_LARGE).await;
}

#[tokio::test]
async fn a_transactional_batch_is_refused() {
    check_refused(flagged(TRANSACTIONAL), ErrorCode::INVALID_RECORD).await;
}

#[tokio::test]
async fn a_control_batch_is_refused() {
    check_refused(flagged(CONTROL), ErrorCode::INVALID_RECORD).await;
}

#[tokio::test]
async fn two_batches_in_one_partition_are_refused() {
    let two = [batch(&["a"]), batch(&["b"])].concat();
    check_refused(two.into(), ErrorCode::INVALID_RECORD).await;
}

#[tokio::test]
async fn other_acks_than_0_1_and_all_are_refused() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let topics = vec![to("t", 0, batch(&["a"]))];
    let request = ProduceRequest { acks: 2, topics, ..Default::default() };
    let response = client.call(&request).await.unwrap();
    let code = response.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::INVALID_REQUIRED_ACKS);
    assert_eq!(all_records(&client).await, []);
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_refused() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    for (topic, partition) in [("nowhere", 0), ("t", 1), ("t", -1), ("no/name", 0)] {
        let refused = client.produce(topic, partition, batch(&["a"]), Acks::All).await;
        let code = refused.unwrap_err().code();
        assert_eq!(code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{topic}/{partition}");
    }
}

#[tokio::test]
async fn one_refused_partition_does_not_keep_others_from_being_stored() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let topics = vec![to("nowhere", 0, batch(&["a"])), to("t", 0, batch(&["b"]))];
    let request = ProduceRequest { acks: 1, topics, ..Default::default() };
    let response = client.call(&request).await.unwrap();
    let codes: Vec<_> =
        response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NONE]);
    assert_eq!(all_records(&client).await, [(0, "b".to_owned())]);
}

#[tokio::test]
async fn pipelined_batches_keep_their_order() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let mut sent = Vec::new();
    for value in &values {
        sent.push(client.send_batch("t", 0, batch(&[value]), Acks::All).await.unwrap());
    }
    for (offset, one) in (0..).zip(sent) {
        assert_eq!(one.acknowledged().await.unwrap(), Some(offset));
    }
    let expected: Vec<_> = (0..).zip(values).collect();
    assert_eq!(all_records(&client).await, expected);
    assert_eq!(count(&bed.metrics.produced_records), 200);
}

#[tokio::test]
async fn batches_come_back_byte_for_byte_with_every_codec() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut offset = 0;
    for codec in codecs {
        let sent = batch_with(codec, &["one", "two", "three"]);
        assert_eq!(client.produce("t", 0, sent.clone(), Acks::All).await.unwrap(), Some(offset));
        let fetched = client.fetch("t", 0, from(offset)).await.unwrap();
        // Base offset and leader epoch are the broker's; the rest is the producer's.
        assert_eq!(fetched.batches[..8], offset.to_be_bytes());
        assert_eq!(fetched.batches[8..12], sent[8..12]);
        assert_eq!(fetched.batches[12..16], 0_i32.to_be_bytes());
        assert_eq!(fetched.batches[16..], sent[16..]);
        assert_eq!(records(&fetched)[1], (offset + 1, "two".to_owned()));
        offset += 3;
    }
}

#[tokio::test]
async fn acknowledged_batches_are_there_after_a_restart() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a", "b"]).await;
    let id = client.topic("t", Create::Never).await.unwrap().topic_id;
    drop(client);

    let bed = bed.restart().await;
    let client = bed.client().await;
    assert_eq!(all_records(&client).await, [(0, "a".to_owned()), (1, "b".to_owned())]);
    assert_eq!(client.topic("t", Create::Never).await.unwrap().topic_id, id);
    assert_eq!(partitions(&client, "t").await, 1);
    assert_eq!(produce(&client, &["c"]).await, 2);
}

#[tokio::test]
async fn a_full_disk_refuses_batches_until_there_is_room() {
    let machine = Machine::new(1);
    let bed = Bed::on(&machine).await;
    let client = bed.client_with_topic().await;
    assert_eq!(produce(&client, &["kept"]).await, 0);
    machine.fill_up(1);
    let big = "x".repeat(1 << 19);
    let refused = loop {
        // Space that the journal took beforehand is used up first.
        match client.produce("t", 0, batch(&[&big]), Acks::All).await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Some(ErrorCode::KAFKA_STORAGE_ERROR), "{refused}");

    machine.fill_up(u64::MAX);
    let offset = produce(&client, &["later"]).await;
    assert_eq!(all_records(&client).await[0], (0, "kept".to_owned()));
    let last = client.fetch("t", 0, from(offset)).await.unwrap();
    assert!(records(&last).contains(&(offset, "later".to_owned())));
}

#[tokio::test]
async fn a_client_hears_when_its_server_goes_away() {
    let bed = Bed::start().await;
    let client: Client = bed.client_with_topic().await;
    bed.stop().await;
    let lost = client.produce("t", 0, batch(&["a"]), Acks::All).await.unwrap_err();
    assert!(matches!(lost, ClientError::Disconnected(_)), "{lost}");
}
