//! Goal: whatever bytes a stranger sends, decoding neither panics nor takes more memory than its bound,
//! which is a small multiple of the bytes sent. Method: random and damaged frames, and an allocator that
//! counts per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use kafka::wire::messages::{
    api_versions, configs, coordinator, epochs, fetch, list_offsets, metadata, produce, topics,
};
use kafka::wire::{
    ApiKey, DECODED_BYTES_FLOOR, DECODED_BYTES_MAX, DECODED_BYTES_PER_FRAME_BYTE, Message, Request,
    decode_request, decode_response, encode_request,
};
use proptest::prelude::*;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]
// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised
// thread local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Decodes `frame` as a request and as a response of an API in all its versions.
fn attack<R: Request>(frame: &Bytes) {
    let budget = frame.len().saturating_mul(DECODED_BYTES_PER_FRAME_BYTE);
    let budget = budget.clamp(DECODED_BYTES_FLOOR, DECODED_BYTES_MAX);
    // Strings are copies of parts of the frame, outside of the budget for vectors.
    let bound = budget + frame.len();
    for version in R::VERSIONS {
        let mut body = frame.to_vec();
        if body.len() >= 4 {
            body[..2].copy_from_slice(&R::API.number().to_be_bytes());
            body[2..4].copy_from_slice(&version.to_be_bytes());
        }
        let body = Bytes::from(body);
        check(bound, || drop(decode_request::<R>(&body)));
        check(bound, || drop(decode_response::<R::Response>(frame, version)));
    }
}

#[track_caller]
fn check(bound: usize, decode: impl FnOnce()) {
    let before = ALLOCATED_BYTES.with(Cell::get);
    decode();
    let took = ALLOCATED_BYTES.with(Cell::get) - before;
    assert!(took <= bound, "decoding took {took} bytes of memory; the bound is {bound}");
}

fn attack_every_api(frame: &Bytes) {
    attack::<produce::ProduceRequest>(frame);
    attack::<fetch::FetchRequest>(frame);
    attack::<list_offsets::ListOffsetsRequest>(frame);
    attack::<metadata::MetadataRequest>(frame);
    attack::<coordinator::FindCoordinatorRequest>(frame);
    attack::<api_versions::ApiVersionsRequest>(frame);
    attack::<topics::CreateTopicsRequest>(frame);
    attack::<topics::DeleteTopicsRequest>(frame);
    attack::<epochs::OffsetForLeaderEpochRequest>(frame);
    attack::<configs::DescribeConfigsRequest>(frame);
    attack::<metadata::DescribeClusterRequest>(frame);
}

/// Bytes as an attacker would choose them: many lengths and counts, small, huge and negative.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(vec![0]),
        Just(vec![0, 0, 0, 1]),
        Just(vec![1]),
        Just(vec![2, b'a']),
        Just(vec![0, 1, b'a']),
        Just(vec![0x7f, 0xff, 0xff, 0xff]),
        Just(vec![0xff, 0xff, 0xff, 0xff]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        Just(vec![0, 0, 4, 0]),
        Just(vec![0; 64]),
        Just(vec![1; 300]),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nasty_bytes_neither_panic_nor_take_memory(frame in nasty()) {
        attack_every_api(&frame.into());
    }

    #[test]
    fn nasty_bytes_behind_a_good_header_neither_panic_nor_take_memory(tail in nasty()) {
        let mut frame = vec![0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0];
        frame.extend(tail);
        attack_every_api(&frame.into());
    }
}

#[test]
fn a_long_run_of_the_smallest_elements_stops_at_the_bound() {
    // A CreateTopics request of a million topics, each as small as can be: 15 zero bytes.
    const COUNT: i32 = 1_000_000;
    let mut frame = vec![0, 19, 0, 4, 0, 0, 0, 1, 0xff, 0xff];
    frame.extend(COUNT.to_be_bytes());
    frame.resize(frame.len() + 16 * 1_000_000, 0);
    let frame = Bytes::from(frame);
    check(DECODED_BYTES_MAX + frame.len(), || {
        let decoded = decode_request::<topics::CreateTopicsRequest>(&frame);
        assert!(decoded.is_err(), "over the bound");
    });
}

#[test]
fn an_honest_request_for_many_topics_is_within_the_bound() {
    let topics: Vec<_> = (0..10_000)
        .map(|number| metadata::MetadataRequestTopic {
            name: Some(number.to_string()),
            ..Default::default()
        })
        .collect();
    let request = metadata::MetadataRequest { topics: Some(topics), ..Default::default() };
    for version in metadata::MetadataRequest::VERSIONS {
        let frame = encode_request(version, 1, &None, &request).unwrap().to_bytes().slice(4..);
        assert!(decode_request::<metadata::MetadataRequest>(&frame).is_ok(), "version {version}");
    }
}

#[test]
fn every_api_is_attacked() {
    assert_eq!(ApiKey::ALL.len(), 11, "add new APIs to `attack_every_api`");
}
