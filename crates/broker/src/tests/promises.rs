//! Goal: each promise about topics, batches, marks and waits holds where it could break.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use strands::{Commit, Order, StrandId};

use super::*;
use crate::rows;
use crate::{
    At, CreateTopicError, DeleteTopicError, EpochError, FetchError, OffsetError, ProduceError,
};

pub(super) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn row_count(strands: &Strands) -> usize {
    let count = |table| rows::all(strands, table, &[], &[0xff; 40]).unwrap().len();
    [rows::SEGMENTS, rows::INDEX, rows::EPOCHS, rows::DELETED].into_iter().map(count).sum()
}

/// The strand of the only segment of the only partition that has one.
fn only_strand(strands: &Strands) -> StrandId {
    let rows = strands
        .rows(
            rows::SEGMENTS,
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
            Order::Ascending,
            2,
        )
        .unwrap();
    assert_eq!(rows.len(), 1);
    StrandId::from_raw(u64::from_be_bytes(rows[0].1[1..9].try_into().unwrap()))
}

#[test]
fn a_topic_id_prints_as_kafka_prints_it() {
    let id = crate::TopicId::from_bytes([
        0x9d, 0x1c, 0x33, 0xaf, 0x40, 0x21, 0x4b, 0x5c, 0x8e, 0xff, 0x00, 0x01, 0x7a, 0xb3, 0xfe,
        0xdc,
    ]);
    assert_eq!(id.to_string(), "nRwzr0AhS1yO_wABerP-3A");
}

#[test]
fn names_are_what_kafka_allows() {
    for good in ["a", "A.b_c-9", &"x".repeat(249)] {
        assert!(TopicName::new(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        assert!(TopicName::new(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn concurrent_first_uses_create_one_topic() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let wanted = name("t");
    let (a, b, c) = tokio::join!(
        broker.ensure_topic(&wanted),
        broker.ensure_topic(&wanted),
        broker.create_topic(name("t"), 3, TopicConfig::default())
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id(), b.id());
    assert_eq!(broker.topics().len(), 1);
    assert!(c.is_ok_and(|c| c.id() == a.id()) || a.partitions() == 1);
    assert_eq!(broker.topic_by_id(a.id()).unwrap().name(), &wanted);
}

#[tokio::test]
async fn topics_are_there_after_a_restart_and_gone_after_a_deletion() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    let topic = create(&broker, "t", 2).await;
    produce(&broker, &topic, 1, few(1, 3)).await;
    drop((strands, broker));

    let (strands, broker) = bed.open();
    let again = broker.topic(&name("t")).unwrap();
    assert_eq!((again.id(), again.partitions(), again.config()), (topic.id(), 2, topic.config()));
    broker.delete_topic(&name("t")).await.unwrap();
    assert_eq!(row_count(&strands), 0);
    assert_eq!(broker.append(&again, 1, few(1, 1)).unwrap_err(), ProduceError::UnknownTopic);
    assert_eq!(broker.fetch(&again, 1, at(0), 1).await, Err(FetchError::UnknownTopic));
    assert_eq!(broker.offset_at(&again, 1, At::Latest).await, Err(OffsetError::UnknownTopic));
    assert_eq!(broker.epoch_end(&again, 1, 0).await, Err(EpochError::UnknownTopic));
    let missing = DeleteTopicError::UnknownTopic(name("t"));
    assert_eq!(broker.delete_topic(&name("t")).await, Err(missing));
    drop((strands, broker));

    let (_strands, broker) = bed.open();
    assert!(broker.topics().is_empty());
    let recreated = create(&broker, "t", 1).await;
    assert_ne!(recreated.id(), topic.id());
    assert!(read_on(&broker, &recreated, 0, 0, 100).await.is_empty());
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_finished_by_the_next_open() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    let other = create(&broker, "other", 1).await;
    for time in 0..100 {
        produce(&broker, &topic, 0, few(time, 20)).await;
    }
    produce(&broker, &other, 0, few(1, 1)).await;
    // What the first commit of a deletion does, and nothing after it.
    let mut commit = Commit::new();
    commit.delete(rows::TOPICS, Bytes::from_static(b"t"));
    rows::put_deleted(&mut commit, topic.id());
    drop(strands.commit(commit).unwrap());
    drop((strands, broker));

    let (strands, broker) = bed.open();
    assert!(broker.topic(&name("t")).is_none());
    assert_eq!(row_count(&strands), 3, "one segment, index row and epoch of the other topic");
    assert_eq!(read_on(&broker, &broker.topic(&name("other")).unwrap(), 0, 0, 100).await.len(), 1);
}

#[tokio::test]
async fn limits_of_topics_are_errors_of_their_own() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    for asked in [0, Broker::PARTITIONS_MAX + 1] {
        let got = broker.create_topic(name("t"), asked, TopicConfig::default()).await.unwrap_err();
        assert_eq!(got, CreateTopicError::Partitions { asked, limit: Broker::PARTITIONS_MAX });
    }
    create(&broker, "t", 1).await;
    let again = broker.create_topic(name("t"), 1, TopicConfig::default()).await.unwrap_err();
    assert_eq!(again, CreateTopicError::Exists(name("t")));
    let strict = Broker::open(strands, Options { auto_create: false, ..small() }).unwrap();
    assert!(strict.ensure_topic(&name("t")).await.is_ok());
    let missing = strict.ensure_topic(&name("u")).await.unwrap_err();
    assert_eq!(missing, CreateTopicError::AutoCreateOff(name("u")));
    let topic = strict.topic(&name("t")).unwrap();
    assert_eq!(strict.append(&topic, 1, few(1, 1)).unwrap_err(), ProduceError::UnknownPartition(1));
}

#[tokio::test]
async fn a_refused_batch_leaves_no_trace() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    let mut damaged = few(1, 2).to_vec();
    damaged[70] ^= 1;
    let got = broker.append(&topic, 0, damaged.into()).unwrap_err();
    assert!(matches!(got, ProduceError::Refused(_)), "{got:?}");
    assert_eq!(produce(&broker, &topic, 0, few(2, 2)).await, 0);
    assert_eq!(read_on(&broker, &topic, 0, 0, 1000).await.len(), 2);
}

#[tokio::test]
async fn an_offset_within_a_batch_gives_the_whole_batch_also_over_the_limit() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    produce(&broker, &topic, 0, few(1, 3)).await;
    produce(&broker, &topic, 0, few(2, 50)).await;
    for bytes_max in [0, 1, 62, 100] {
        let got = records(&broker.fetch(&topic, 0, at(40), bytes_max).await.unwrap().bytes);
        assert_eq!(
            got.iter().map(|record| record.offset).collect::<Vec<_>>(),
            (3..53).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn batches_of_many_sizes_are_found_from_every_offset() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    let mut end = 0;
    for round in 0..40 {
        let count = [1, 60, 7][round % 3];
        produce(&broker, &topic, 0, few(1, count)).await;
        end += count;
    }
    assert!(rows::segments(&strands, topic.partition(0).unwrap().key()).unwrap().len() > 1);
    for offset in 0..end {
        let got = broker.fetch(&topic, 0, at(offset as i64), 10_000).await.unwrap();
        let got = records(&got.bytes);
        assert!(got.iter().any(|record| record.offset == offset as i64), "offset {offset}");
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_decompressed_answers_with_its_first_offset() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    produce(&broker, &topic, 0, few(5, 2)).await;
    let mut opaque = few(9, 4).to_vec();
    opaque[22] = Compression::Zstd.code();
    let crc = batch::crc_of(&opaque);
    opaque[17..21].copy_from_slice(&crc.to_be_bytes());
    produce(&broker, &topic, 0, opaque.into()).await;
    let got = broker.offset_at(&topic, 0, At::Timestamp(7)).await.unwrap();
    assert_eq!(got, Some((at(2), 9)));
}

#[tokio::test]
async fn waiters_wake_for_data_and_for_a_deletion_and_may_be_dropped() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    for _ in 0..1000 {
        let mut dropped = pin!(broker.wait_data(&topic, 0, at(0)));
        assert!(poll_once(dropped.as_mut()).is_pending());
    }
    let mut first = pin!(broker.wait_data(&topic, 0, at(0)));
    let mut later = pin!(broker.wait_data(&topic, 0, at(2)));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(later.as_mut()).is_pending());
    produce(&broker, &topic, 0, few(1, 2)).await;
    assert_eq!(first.await, Ok(()));
    assert!(poll_once(later.as_mut()).is_pending());
    broker.delete_topic(&name("t")).await.unwrap();
    assert_eq!(later.await, Err(FetchError::UnknownTopic));
}

#[tokio::test]
async fn damage_in_one_partition_is_an_error_of_that_partition_alone() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    let topic = create(&broker, "t", 2).await;
    produce(&broker, &topic, 0, few(1, 2)).await;
    let strand = only_strand(&strands);
    let mut commit = Commit::new();
    commit.write(strand, strands.end(strand).unwrap(), Bytes::from_static(b"not a batch"));
    drop(strands.commit(commit).unwrap());
    drop((strands, broker));

    let (_strands, broker) = bed.open();
    let topic = broker.topic(&name("t")).unwrap();
    let refused = broker.append(&topic, 0, few(1, 1)).unwrap_err();
    assert!(
        matches!(&refused, ProduceError::Damaged(why) if why.contains("strand")),
        "{refused:?}"
    );
    let refused = broker.fetch(&topic, 0, at(0), 100).await.unwrap_err();
    assert!(matches!(refused, FetchError::Damaged(_)), "{refused:?}");
    assert_eq!(produce(&broker, &topic, 1, few(1, 1)).await, 0);
    let status = broker.status().await;
    assert!(status.topics[0].partitions[0].is_err());
    assert_eq!(status.topics[0].partitions[1].as_ref().unwrap().end, at(1));
}

#[tokio::test]
async fn an_epoch_that_saw_no_batch_ends_where_the_next_begins() {
    let bed = Bed::new();
    let (strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    produce(&broker, &topic, 0, few(1, 2)).await;
    let first = broker.leader_epoch();
    drop((strands, broker));
    let (strands, broker) = bed.open();
    drop((strands, broker));
    let (_strands, broker) = bed.open();
    assert_eq!(broker.leader_epoch(), first + 2, "each unclean start is an epoch");
    let topic = broker.topic(&name("t")).unwrap();
    let end = async |epoch| broker.epoch_end(&topic, 0, epoch).await.unwrap();
    assert_eq!(end(first + 1).await, Some((first, at(2))));
    produce(&broker, &topic, 0, few(1, 3)).await;
    assert_eq!(end(first).await, Some((first, at(2))));
    assert_eq!(end(first + 1).await, Some((first, at(2))));
    assert_eq!(end(first + 2).await, Some((first + 2, at(5))));
    assert_eq!(end(first + 3).await, None);
    assert_eq!(end(-1).await, None);
}

#[tokio::test]
async fn status_counts_what_is_there() {
    let bed = Bed::new();
    let (_strands, broker) = bed.open();
    let topic = create(&broker, "t", 1).await;
    let batch = few(1, 2);
    let bytes = batch.len() as u64;
    produce(&broker, &topic, 0, batch).await;
    let status = broker.status().await.topics.remove(0);
    assert_eq!((status.name, status.id), (name("t"), topic.id()));
    let status = status.partitions[0].clone().unwrap();
    assert_eq!((status.log_start, status.high_watermark, status.end), (at(0), at(2), at(2)));
    assert_eq!(status.bytes, bytes);
}
