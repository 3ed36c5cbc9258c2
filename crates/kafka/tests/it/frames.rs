//! Goal: frames that are no requests cost their sender the connection and nobody else anything; slow and
//! too many peers are let go; the version rules of the protocol hold.

use std::time::Duration;

use kafka::client::{Acks, Create, FetchFrom};
use kafka::server::Limits;
use kafka::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use kafka::wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use kafka::wire::messages::metadata::{MetadataRequest, MetadataResponse};
use kafka::wire::messages::produce::ProduceRequest;
use kafka::wire::{ApiKey, ErrorCode, decode_response};

use crate::bed::{Bed, all_records, batch, count, eventually, from, produce, records};

/// The server hangs up on `bytes`, counts them, and goes on serving others.
async fn check_refused(bytes: &[u8]) {
    let bed = Bed::start().await;
    let mut raw = bed.raw().await;
    raw.send(bytes).await;
    raw.closed().await;
    eventually(|| count(&bed.metrics.frames_refused) == 1).await;
    bed.client().await.metadata(None, Create::Never).await.unwrap();
}

#[tokio::test]
async fn a_frame_longer_than_the_limit_closes_the_connection() {
    // A produce request of 1 GiB: the first twelve bytes are enough to know.
    check_refused(b"\x40\0\0\0\0\0\0\x09\0\0\0\x01").await;
}

#[tokio::test]
async fn a_frame_longer_than_its_api_needs_closes_the_connection() {
    // A Metadata request of 16 MiB.
    check_refused(b"\x01\0\0\0\0\x03\0\x01\0\0\0\x01").await;
}

#[tokio::test]
async fn a_frame_shorter_than_a_header_closes_the_connection() {
    check_refused(b"\0\0\0\x09\0\x03\0\x01\0\0\0\x01\xff").await;
}

#[tokio::test]
async fn a_negative_size_closes_the_connection() {
    check_refused(b"\xff\xff\xff\xff\0\x03\0\x01\0\0\0\x01").await;
}

#[tokio::test]
async fn a_count_beyond_the_frame_closes_the_connection() {
    check_refused(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\x7f\xff\xff\xff").await;
}

#[tokio::test]
async fn bytes_after_the_message_close_the_connection() {
    check_refused(b"\0\0\0\x0f\0\x03\0\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff\0").await;
}

#[tokio::test]
async fn a_request_in_another_protocol_closes_the_connection() {
    check_refused(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
}

#[tokio::test]
async fn an_api_that_is_not_served_closes_the_connection() {
    check_refused(b"\0\0\0\x0a\0\x16\0\0\0\0\0\x01\xff\xff").await;
}

#[tokio::test]
async fn produce_versions_that_are_advertised_but_not_served_close_the_connection() {
    check_refused(b"\0\0\0\x14\0\0\0\x02\0\0\0\x01\xff\xff\0\x01\0\0\0\0\0\0\0\0").await;
}

#[tokio::test]
async fn a_frame_cut_by_its_sender_is_counted() {
    let bed = Bed::start().await;
    let mut raw = bed.raw().await;
    raw.send(b"\0\0\0\x40\0\x03\0\x01\0\0\0\x01").await;
    drop(raw);
    eventually(|| count(&bed.metrics.frames_refused) == 1).await;
}

#[tokio::test]
async fn produce_is_advertised_from_version_0() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    let range = |key: ApiKey| {
        let api = client.api_versions().iter().find(|api| api.api_key == key.number()).unwrap();
        (api.min_version, api.max_version)
    };
    assert_eq!(range(ApiKey::Produce), (0, 11));
    assert_eq!(range(ApiKey::Fetch), (4, 12));
    assert_eq!(range(ApiKey::ApiVersions), (0, 4));
    assert_eq!(client.api_versions().len(), ApiKey::ALL.len());
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let bed = Bed::start().await;
    let mut raw = bed.raw().await;
    // Version 9, with bytes behind the header that nobody can know.
    raw.send(b"\0\0\0\x0d\0\x12\0\x09\0\0\0\x2a\xff\xff\x01\x02\x03").await;
    let (id, response) = raw.response::<ApiVersionsResponse>(0).await;
    assert_eq!((id, response.error_code), (42, ErrorCode::UNSUPPORTED_VERSION));
    let [only] = &response.api_keys[..] else { panic!("{response:?}") };
    assert_eq!((only.api_key, only.min_version, only.max_version), (18, 0, 4));

    let request = ApiVersionsRequest {
        client_software_name: "x".to_owned(),
        client_software_version: "1".to_owned(),
    };
    for version in 0..=4 {
        raw.request(version, 7, &request_in(version, &request)).await;
        let (id, response) = raw.response::<ApiVersionsResponse>(version).await;
        assert_eq!((id, response.error_code), (7, ErrorCode::NONE), "version {version}");
    }
}

fn request_in(version: i16, request: &ApiVersionsRequest) -> ApiVersionsRequest {
    if version >= 3 { request.clone() } else { ApiVersionsRequest::default() }
}

fn long_poll(offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "t".to_owned(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn answers_keep_the_order_of_requests_around_a_long_poll() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let mut raw = bed.raw().await;
    raw.request(12, 1, &long_poll(0)).await;
    raw.request(1, 2, &MetadataRequest::default()).await;
    eventually(|| bed.metrics.requests_of(ApiKey::Fetch) == 1).await;
    produce(&client, &["a"]).await;
    let first = raw.frame().await;
    assert_eq!(first[..4], 1_i32.to_be_bytes());
    let (second, _) = decode_response::<MetadataResponse>(&raw.frame().await, 1).unwrap();
    assert_eq!(second, 2);
}

#[tokio::test]
async fn a_long_poll_ends_when_its_client_hangs_up() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    drop(client);
    let mut raw = bed.raw().await;
    raw.request(12, 1, &long_poll(0)).await;
    eventually(|| bed.metrics.requests_of(ApiKey::Fetch) == 1).await;
    drop(raw);
    eventually(|| count(&bed.metrics.connections) == 0).await;
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_the_end_of_the_server() {
    let bed = Bed::start().await;
    let _client = bed.client_with_topic().await;
    let mut raw = bed.raw().await;
    raw.request(12, 1, &long_poll(0)).await;
    eventually(|| bed.metrics.requests_of(ApiKey::Fetch) == 1).await;
    bed.stop().await;
    raw.closed().await;
}

#[tokio::test]
async fn a_peer_that_stops_inside_a_frame_is_let_go() {
    let limits = Limits { frame_wait_max: Duration::from_millis(20), ..Limits::default() };
    let bed = Bed::with_limits(limits).await;
    let mut raw = bed.raw().await;
    raw.send(b"\0\0\0\x40\0\x03").await;
    raw.closed().await;
    eventually(|| count(&bed.metrics.timeouts) == 1).await;
}

#[tokio::test]
async fn a_peer_that_asks_nothing_is_let_go() {
    let limits = Limits { idle_max: Duration::from_millis(20), ..Limits::default() };
    let bed = Bed::with_limits(limits).await;
    bed.raw().await.closed().await;
    assert_eq!(count(&bed.metrics.frames_refused), 0);
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_let_go() {
    let limits = Limits { write_wait_max: Duration::from_millis(50), ..Limits::default() };
    let bed = Bed::with_limits(limits).await;
    let client = bed.client_with_topic().await;
    let value = "x".repeat(1 << 19);
    produce(&client, &[&value]).await;
    let mut raw = bed.raw().await;
    // Half a MiB each: more than any socket buffer takes.
    for id in 0..64 {
        raw.request(12, id, &long_poll(0)).await;
    }
    eventually(|| count(&bed.metrics.timeouts) == 1).await;
    assert_eq!(all_records(&client).await.len(), 1);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_counted() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let bed = Bed::with_limits(limits).await;
    let first = bed.client().await;
    bed.raw().await.closed().await;
    assert_eq!(count(&bed.metrics.connections_refused), 1);
    first.metadata(None, Create::Never).await.unwrap();
}

#[tokio::test]
async fn acks_0_gets_no_answer_and_is_stored() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    assert_eq!(client.produce("t", 0, batch(&["a"]), Acks::None).await.unwrap(), None);
    // Nobody waits for it, and yet it becomes visible without delay: this fetch waits for it.
    let soon = FetchFrom { wait_max: Duration::from_secs(25), ..from(0) };
    assert_eq!(records(&client.fetch("t", 0, soon).await.unwrap()).len(), 1);
    // The next answer on the connection is that of the next request.
    assert_eq!(produce(&client, &["b"]).await, 1);
    assert_eq!(all_records(&client).await, [(0, "a".to_owned()), (1, "b".to_owned())]);
}

#[tokio::test]
async fn acks_0_closes_the_connection_on_an_error() {
    let bed = Bed::start().await;
    let mut raw = bed.raw().await;
    let mut request = ProduceRequest::default();
    request.topics.push(crate::writing::to("nowhere", 0, batch(&["a"])));
    raw.request(9, 1, &request).await;
    raw.closed().await;
    assert_eq!(count(&bed.metrics.frames_refused), 0, "the frame was good");
}
