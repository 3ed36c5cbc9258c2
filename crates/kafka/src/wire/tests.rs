//! Goal: every message in every version survives a round trip, and is byte for byte what the
//! `kafka-protocol` crate (generated from Kafka's own schemas) makes of it. Method: random messages
//! from a seed, encoded here, decoded and encoded again there, decoded here.
//!
//! Hostile bytes and their allocations are in `tests/it/hostile.rs`.

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::messages::{
    api_versions, configs, coordinator, epochs, fetch, list_offsets, metadata, produce, topics,
};
use super::{
    ApiKey, DecodeError, Dialect, ErrorCode, Message, Request, RequestHead, Uuid, decode_request,
    decode_response, encode_request, encode_response,
};

/// Random choices that follow from a seed (SplitMix64).
pub(crate) struct Source {
    state: u64,
    nulls: bool,
}

impl Source {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn null(&mut self) -> bool {
        self.nulls && self.below(3) == 0
    }
}

/// A random value with only those fields set that the version has.
pub(crate) trait Sample {
    fn sample(source: &mut Source, dialect: Dialect) -> Self;
}

macro_rules! sample_integers {
    ($($integer:ty),*) => {$(
        impl Sample for $integer {
            fn sample(source: &mut Source, _: Dialect) -> Self {
                let bytes = source.next().to_be_bytes();
                Self::from_be_bytes(bytes[..size_of::<$integer>()].try_into().unwrap())
            }
        }
    )*};
}
sample_integers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(source: &mut Source, _: Dialect) -> Self {
        source.below(2) == 1
    }
}
impl Sample for ErrorCode {
    fn sample(source: &mut Source, dialect: Dialect) -> Self {
        Self(i16::sample(source, dialect))
    }
}
impl Sample for Uuid {
    fn sample(source: &mut Source, _: Dialect) -> Self {
        Self((u128::from(source.next()) << 64 | u128::from(source.next())).to_be_bytes())
    }
}
impl Sample for String {
    fn sample(source: &mut Source, _: Dialect) -> Self {
        let length = source.below(200);
        (0..length).map(|_| ['a', 'Z', '.', 'é', '語'][source.below(5)]).collect()
    }
}
impl Sample for Bytes {
    fn sample(source: &mut Source, _: Dialect) -> Self {
        let length = [0, 10, 1023, 1024, 5000][source.below(5)];
        vec![0x2a; length].into()
    }
}
impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source, dialect: Dialect) -> Self {
        (0..source.below(4)).map(|_| T::sample(source, dialect)).collect()
    }
}
impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source, dialect: Dialect) -> Self {
        (!source.null()).then(|| T::sample(source, dialect))
    }
}

/// A request and its response, here and in the other crate.
macro_rules! for_every_api {
    ($visit:ident, $($argument:expr),*) => {
        $visit!(produce::ProduceRequest, theirs::ProduceRequest, theirs::ProduceResponse, $($argument),*);
        $visit!(fetch::FetchRequest, theirs::FetchRequest, theirs::FetchResponse, $($argument),*);
        $visit!(list_offsets::ListOffsetsRequest, theirs::ListOffsetsRequest, theirs::ListOffsetsResponse, $($argument),*);
        $visit!(metadata::MetadataRequest, theirs::MetadataRequest, theirs::MetadataResponse, $($argument),*);
        $visit!(coordinator::FindCoordinatorRequest, theirs::FindCoordinatorRequest, theirs::FindCoordinatorResponse, $($argument),*);
        $visit!(api_versions::ApiVersionsRequest, theirs::ApiVersionsRequest, theirs::ApiVersionsResponse, $($argument),*);
        $visit!(topics::CreateTopicsRequest, theirs::CreateTopicsRequest, theirs::CreateTopicsResponse, $($argument),*);
        $visit!(topics::DeleteTopicsRequest, theirs::DeleteTopicsRequest, theirs::DeleteTopicsResponse, $($argument),*);
        $visit!(epochs::OffsetForLeaderEpochRequest, theirs::OffsetForLeaderEpochRequest, theirs::OffsetForLeaderEpochResponse, $($argument),*);
        $visit!(configs::DescribeConfigsRequest, theirs::DescribeConfigsRequest, theirs::DescribeConfigsResponse, $($argument),*);
        $visit!(metadata::DescribeClusterRequest, theirs::DescribeClusterRequest, theirs::DescribeClusterResponse, $($argument),*);
    };
}

const SIZE_BYTES: usize = 4;

fn body(chunks: &super::Chunks) -> Bytes {
    let whole = chunks.to_bytes();
    let claimed = i32::from_be_bytes(whole[..SIZE_BYTES].try_into().unwrap());
    assert_eq!(usize::try_from(claimed).unwrap(), whole.len() - SIZE_BYTES, "size of the frame");
    assert_eq!(whole.len(), chunks.bytes());
    whole.slice(SIZE_BYTES..)
}

/// Decodes and encodes again with the other crate.
fn through_theirs<H: Decodable + Encodable, M: Decodable + Encodable>(
    ours: &Bytes,
    header_version: i16,
    version: i16,
) -> Vec<u8> {
    let mut input = ours.clone();
    let header = H::decode(&mut input, header_version).expect("their header");
    let message = M::decode(&mut input, version).expect("their message");
    assert!(input.is_empty(), "they leave {} bytes", input.len());
    let mut output = Vec::new();
    header.encode(&mut output, header_version).unwrap();
    message.encode(&mut output, version).unwrap();
    output
}

/// One random request and its response in one version.
fn check<R, Q, S>(seed: u64, version: i16, nulls: bool)
where
    R: Request + Sample + PartialEq + std::fmt::Debug,
    R::Response: Sample + PartialEq + std::fmt::Debug,
    Q: Decodable + Encodable,
    S: Decodable + Encodable,
{
    let dialect = R::dialect(version);
    let mut source = Source { state: seed, nulls };
    let client_id = Option::<String>::sample(&mut source, dialect);
    let correlation_id = i32::sample(&mut source, dialect);

    let request = R::sample(&mut source, dialect);
    let encoded = body(&encode_request(version, correlation_id, &client_id, &request).unwrap());
    let head = RequestHead::parse(encoded[..8].try_into().unwrap());
    assert_eq!(head.correlation_id, correlation_id);
    assert_eq!(ApiKey::from_number(head.api_key), Some(R::API));
    assert_eq!(decode_request::<R>(&encoded).unwrap(), (client_id, request));

    let response = R::Response::sample(&mut source, dialect);
    let answer = body(&encode_response(version, correlation_id, &response).unwrap());
    assert_eq!(decode_response(&answer, version).unwrap(), (correlation_id, response));

    if !nulls {
        let header = if dialect.flexible { 2 } else { 1 };
        assert_eq!(through_theirs::<theirs::RequestHeader, Q>(&encoded, header, version), encoded);
        let header = i16::from(dialect.flexible && R::API != ApiKey::ApiVersions);
        assert_eq!(through_theirs::<theirs::ResponseHeader, S>(&answer, header, version), answer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_message_in_every_version_is_what_kafka_says(seed: u64, nulls: bool) {
        macro_rules! visit {
            ($request:ty, $their_request:ty, $their_response:ty, $seed:expr, $nulls:expr) => {
                for version in <$request>::VERSIONS {
                    check::<$request, $their_request, $their_response>($seed, version, $nulls);
                }
            };
        }
        for_every_api!(visit, seed, nulls);
    }

    #[test]
    fn every_cut_of_a_request_is_refused(seed: u64, cut in any::<prop::sample::Index>()) {
        macro_rules! visit {
            ($request:ty, $their_request:ty, $their_response:ty, $seed:expr, $cut:expr) => {
                for version in <$request>::VERSIONS {
                    let mut source = Source { state: $seed, nulls: true };
                    let request = <$request as Sample>::sample(&mut source, <$request>::dialect(version));
                    let whole = body(&encode_request(version, 1, &None, &request).unwrap());
                    let cut = $cut.index(whole.len());
                    prop_assert!(decode_request::<$request>(&whole.slice(..cut)).is_err());
                }
            };
        }
        for_every_api!(visit, seed, cut);
    }
}

#[test]
fn api_versions_answer_has_these_golden_bytes() {
    let response = api_versions::ApiVersionsResponse {
        api_keys: vec![api_versions::ApiVersion { api_key: 0, min_version: 0, max_version: 11 }],
        ..Default::default()
    };
    let frame = encode_response(3, 7, &response).unwrap().to_bytes();
    // size 19: id 4, error 2, count 1, entry 7, throttle 4, tags 1. No tags in the header.
    assert_eq!(&frame[..], b"\0\0\0\x13\0\0\0\x07\0\0\x02\0\0\0\0\0\x0b\0\0\0\0\0\0");
}

#[test]
fn metadata_request_for_all_topics_has_these_golden_bytes() {
    let request = metadata::MetadataRequest { topics: None, ..Default::default() };
    let frame = encode_request(1, 9, &Some("me".to_owned()), &request).unwrap().to_bytes();
    assert_eq!(&frame[..], b"\0\0\0\x10\0\x03\0\x01\0\0\0\x09\0\x02me\xff\xff\xff\xff");
}

#[test]
fn nulls_go_where_the_schema_allows_them() {
    let request = metadata::MetadataRequest {
        topics: Some(vec![metadata::MetadataRequestTopic { topic_id: Uuid([7; 16]), name: None }]),
        ..Default::default()
    };
    let encoded = body(&encode_request(12, 1, &None, &request).unwrap());
    assert_eq!(
        through_theirs::<theirs::RequestHeader, theirs::MetadataRequest>(&encoded, 2, 12),
        encoded
    );
    let all = metadata::MetadataRequest { topics: None, ..Default::default() };
    let encoded = body(&encode_request(9, 1, &None, &all).unwrap());
    assert_eq!(
        through_theirs::<theirs::RequestHeader, theirs::MetadataRequest>(&encoded, 2, 9),
        encoded
    );
}

#[test]
fn tags_of_newer_clients_are_skipped() {
    let request = epochs::OffsetForLeaderEpochRequest::default();
    let plain = body(&encode_request(4, 1, &None, &request).unwrap());
    let (last, rest) = plain.split_last().unwrap();
    assert_eq!(*last, 0, "an empty tag section ends the message");
    // Two tags: number 0 with one byte, number 300 with none.
    let tagged = Bytes::from([rest, &[2, 0, 1, 0xaa, 0xac, 0x02, 0]].concat());
    let decoded = decode_request::<epochs::OffsetForLeaderEpochRequest>(&tagged).unwrap();
    assert_eq!(decoded, (None, request));
}

#[test]
fn records_are_slices_of_the_frame_in_both_directions() {
    let records = Bytes::from(vec![1; 4096]);
    let request = produce::ProduceRequest {
        topics: vec![produce::ProduceTopic {
            name: "t".to_owned(),
            partitions: vec![produce::ProducePartition {
                index: 0,
                records: Some(records.clone()),
            }],
        }],
        ..Default::default()
    };
    let chunks = encode_request(9, 1, &None, &request).unwrap();
    assert_eq!(chunks.parts()[1].as_ptr(), records.as_ptr(), "sent from where it lies");

    let frame = body(&chunks);
    let (_, decoded) = decode_request::<produce::ProduceRequest>(&frame).unwrap();
    let slice = decoded.topics[0].partitions[0].records.as_ref().unwrap();
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()), "not copied");
}

#[test]
fn a_claimed_count_beyond_the_frame_is_refused_before_it_is_allocated() {
    let head = [0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
    let frame = Bytes::from([&head[..], &[0x7f, 0xff, 0xff, 0xff, 0]].concat());
    let error = decode_request::<metadata::MetadataRequest>(&frame).unwrap_err();
    assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
}

#[test]
fn versions_that_are_not_served_are_named() {
    let frame = Bytes::from_static(b"\0\0\0\x02\0\0\0\x01\xff\xff");
    let error = decode_request::<produce::ProduceRequest>(&frame).unwrap_err();
    assert_eq!(error, DecodeError::BadVersion { version: 2, min: 3, max: 11 });
}

#[test]
fn only_produce_is_advertised_beyond_what_is_decoded() {
    for api in ApiKey::ALL {
        let (told, done) = (api.advertised(), api.decoded());
        assert_eq!(told.max, done.max, "{api:?}");
        let oldest = if api == ApiKey::Produce { 0 } else { done.min };
        assert_eq!(told.min, oldest, "{api:?}");
    }
}
