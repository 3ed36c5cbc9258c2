//! Goal: fetches give whole batches from any offset within the limits, wait for what is to come, and
//! offsets are found by time and by epoch.

use std::time::Duration;

use broker::At;
use kafka::client::{Acks, Client, FetchFrom};
use kafka::wire::ErrorCode;
use kafka::wire::messages::epochs::{EpochPartition, EpochTopic, OffsetForLeaderEpochRequest};
use kafka::wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchTopic,
};
use kafka::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use crate::bed::{Bed, batch, from, produce, records};

fn fetch_of(partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    let topics = vec![FetchTopic { topic: "t".to_owned(), partitions }];
    FetchRequest { topics, ..Default::default() }
}

async fn fetched(client: &Client, request: &FetchRequest) -> Vec<FetchPartitionResponse> {
    let response = client.call(request).await.unwrap();
    response.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

#[tokio::test]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a", "b", "c"]).await;
    produce(&client, &["d"]).await;
    let fetched = client.fetch("t", 0, from(1)).await.unwrap();
    assert_eq!(records(&fetched).first(), Some(&(0, "a".to_owned())));
    assert_eq!(records(&fetched).len(), 4);
    assert_eq!((fetched.log_start, fetched.high_watermark), (0, 4));
}

#[tokio::test]
async fn the_first_batch_is_given_whatever_its_size() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &[&"x".repeat(10_000)]).await;
    produce(&client, &["b"]).await;
    let one = FetchFrom { max_bytes: 1, ..from(0) };
    assert_eq!(records(&client.fetch("t", 0, one).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn only_the_first_batch_of_an_answer_may_exceed_the_limit() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    client.create_topic("t", Some(2), &[]).await.unwrap();
    for partition in [0, 1] {
        client.produce("t", partition, batch(&["aaaa"]), Acks::All).await.unwrap();
    }
    let request = FetchRequest { max_bytes: 10, ..fetch_of(&[(0, 0), (1, 0)]) };
    let [first, second] = &fetched(&client, &request).await[..] else { panic!("two partitions") };
    assert!(!first.records.as_ref().unwrap().is_empty());
    assert!(second.records.as_ref().unwrap().is_empty());
    assert_eq!((second.error_code, second.high_watermark), (ErrorCode::NONE, 1));
}

#[tokio::test]
async fn the_end_gives_nothing_and_beyond_it_is_out_of_range() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a"]).await;
    assert!(client.fetch("t", 0, from(1)).await.unwrap().batches.is_empty());
    let answers = fetched(&client, &fetch_of(&[(0, 2), (7, 0)])).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [ErrorCode::OFFSET_OUT_OF_RANGE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!((answers[0].log_start_offset, answers[0].high_watermark), (0, 1));
    let negative = &fetched(&client, &fetch_of(&[(0, -1)])).await[0];
    assert_eq!(negative.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[tokio::test]
async fn a_fetch_waits_for_data_in_any_of_its_partitions() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    client.create_topic("t", Some(3), &[]).await.unwrap();
    let other = bed.client().await;
    let request =
        FetchRequest { max_wait_ms: 25_000, min_bytes: 1, ..fetch_of(&[(0, 0), (1, 0), (2, 0)]) };
    let (answers, sent) =
        tokio::join!(fetched(&client, &request), other.produce("t", 1, batch(&["a"]), Acks::All));
    assert_eq!(sent.unwrap(), Some(0));
    assert!(!answers[1].records.as_ref().unwrap().is_empty());
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_wants() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let other = bed.client().await;
    let bytes = i32::try_from(batch(&["a"]).len()).unwrap();
    let wanted = FetchFrom { wait_max: Duration::from_secs(25), min_bytes: 3 * bytes, ..from(0) };
    let (fetched, ()) = tokio::join!(client.fetch("t", 0, wanted), async {
        for value in ["a", "b", "c"] {
            produce(&other, &[value]).await;
        }
    });
    let fetched = fetched.unwrap();
    assert_eq!(records(&fetched).len(), 3, "high watermark {}", fetched.high_watermark);
}

#[tokio::test]
async fn a_fetch_gives_up_waiting_in_time() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let patient = FetchFrom { wait_max: Duration::from_millis(30), ..from(0) };
    assert!(client.fetch("t", 0, patient).await.unwrap().batches.is_empty());
}

#[tokio::test]
async fn fetch_sessions_are_declined() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let begin = FetchRequest { session_epoch: 0, ..fetch_of(&[(0, 0)]) };
    assert_eq!(client.call(&begin).await.unwrap().session_id, 0);
    let go_on = FetchRequest { session_id: 5, session_epoch: 1, ..fetch_of(&[(0, 0)]) };
    let refused = client.call(&go_on).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test]
async fn read_committed_gets_a_list_of_aborted_transactions_that_is_empty() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a"]).await;
    let request = FetchRequest { isolation_level: 1, ..fetch_of(&[(0, 0)]) };
    let answer = &fetched(&client, &request).await[0];
    assert_eq!(answer.aborted_transactions.as_deref(), Some(&[][..]));
    assert_eq!(answer.last_stable_offset, 1);
}

#[tokio::test]
async fn leader_epochs_that_do_not_match_are_told_apart() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a"]).await;
    for (epoch, code) in [
        (-1, ErrorCode::NONE),
        (0, ErrorCode::NONE),
        (1, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (-2, ErrorCode::FENCED_LEADER_EPOCH),
    ] {
        let mut request = fetch_of(&[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetched(&client, &request).await[0].error_code, code, "epoch {epoch}");
    }
}

async fn epoch_end(client: &Client, epoch: i32) -> (i32, i64) {
    let partitions = vec![EpochPartition { leader_epoch: epoch, ..Default::default() }];
    let topics = vec![EpochTopic { topic: "t".to_owned(), partitions }];
    let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    let response = client.call(&request).await.unwrap();
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, ErrorCode::NONE);
    (answer.leader_epoch, answer.end_offset)
}

#[tokio::test]
async fn the_end_of_an_epoch_is_found() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a", "b"]).await;
    assert_eq!(epoch_end(&client, 0).await, (0, 2));
    assert_eq!(epoch_end(&client, 1).await, (-1, -1), "not begun");
}

#[tokio::test]
async fn offsets_are_found_by_time_and_at_the_ends() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let at = async |at| client.list_offset("t", 0, at).await.unwrap();
    assert_eq!(at(At::Latest).await, Some((0, -1)));
    assert_eq!(at(At::Timestamp(0)).await, None);
    // Timestamps 1000, 1001, 1002.
    produce(&client, &["a", "b", "c"]).await;
    assert_eq!(at(At::Earliest).await, Some((0, -1)));
    assert_eq!(at(At::Latest).await, Some((3, -1)));
    assert_eq!(at(At::Timestamp(0)).await, Some((0, 1000)));
    assert_eq!(at(At::Timestamp(1001)).await, Some((1, 1001)));
    assert_eq!(at(At::Timestamp(1003)).await, None);
    assert_eq!(at(At::MaxTimestamp).await, Some((2, 1002)));
}

#[tokio::test]
async fn places_that_are_not_known_are_refused() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let partition = |partition_index, timestamp, current_leader_epoch| ListOffsetsPartition {
        partition_index,
        current_leader_epoch,
        timestamp,
    };
    for (asked, code) in [
        (partition(0, -4, -1), ErrorCode::UNSUPPORTED_VERSION),
        (partition(3, -1, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (partition(0, -1, 9), ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let topics = vec![ListOffsetsTopic { name: "t".to_owned(), partitions: vec![asked] }];
        let request = ListOffsetsRequest { topics, ..Default::default() };
        let response = client.call(&request).await.unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, code);
    }
}

#[tokio::test]
async fn a_partition_is_answered_once_per_request() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    produce(&client, &["a"]).await;
    let codes = [ErrorCode::NONE, ErrorCode::INVALID_REQUEST];

    let answers = fetched(&client, &fetch_of(&[(0, 0), (0, 0)])).await;
    assert_eq!([answers[0].error_code, answers[1].error_code], codes);
    assert!(answers[1].records.as_ref().unwrap().is_empty());

    let partitions = vec![ListOffsetsPartition { current_leader_epoch: -1, ..Default::default() }];
    let topic = ListOffsetsTopic { name: "t".to_owned(), partitions };
    let topics = vec![topic.clone(), topic];
    let response = client.call(&ListOffsetsRequest { topics, ..Default::default() }).await.unwrap();
    let partition = |topic: usize| response.topics[topic].partitions[0].error_code;
    assert_eq!([partition(0), partition(1)], codes);

    let topic = EpochTopic { topic: "t".to_owned(), partitions: vec![EpochPartition::default()] };
    let topics = vec![topic.clone(), topic];
    let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    let response = client.call(&request).await.unwrap();
    let partition = |topic: usize| response.topics[topic].partitions[0].error_code;
    assert_eq!([partition(0), partition(1)], codes);
}
