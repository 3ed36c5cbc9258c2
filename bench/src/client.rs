//! A Kafka client that costs as little as possible, so that what is measured is the server.
//!
//! Requests are encoded once; only the correlation id (and the offset of a fetch) is put in anew. One
//! connection, one thread. What differs from a real client: it does not ask for metadata, does not batch, and
//! looks only at those fields of an answer that say whether it is the expected one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use broker::batch::{Builder, Compression, NewRecord};
use bytes::Bytes;
use kafka::wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use kafka::wire::messages::produce::{
    ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic,
};
use kafka::wire::{decode_response, encode_request};

/// The versions that librdkafka 2.0 asks for.
const PRODUCE_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 11;
/// Where a request's correlation id lies in its frame.
const CORRELATION_ID: std::ops::Range<usize> = 8..12;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// The last answer, without its length. Kept for its memory.
    answer: Vec<u8>,
}

impl Client {
    /// Connects to a server.
    pub(crate) fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
        stream.set_nodelay(true)?;
        // An answer that does not come is a failure, not a long measurement.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends `frame` `count` times with at most `in_flight` unanswered, and gives the time from each request
    /// to its answer.
    pub(crate) fn repeat(
        &mut self,
        frame: &mut [u8],
        count: usize,
        in_flight: usize,
        check: fn(&Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut sent = VecDeque::with_capacity(in_flight);
        let mut took = Vec::with_capacity(count);
        let mut number = 0_u32;
        while took.len() < count {
            while sent.len() < in_flight && sent.len() + took.len() < count {
                frame[CORRELATION_ID].copy_from_slice(&number.to_be_bytes());
                sent.push_back((number, Instant::now()));
                self.stream.write_all(frame).context("send a request")?;
                number += 1;
            }
            let (expected, start) = sent.pop_front().expect("at least one request is under way");
            self.read_answer(expected, check)?;
            took.push(start.elapsed());
        }
        Ok(took)
    }

    /// Sends one request and gives the answer with its length in front, as it came.
    pub(crate) fn ask(&mut self, frame: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.stream.write_all(frame).context("send a request")?;
        let number = u32::from_be_bytes(frame[CORRELATION_ID].try_into()?);
        self.read_answer(number, |_| Ok(()))?;
        let len = u32::try_from(self.answer.len())?;
        Ok([&len.to_be_bytes(), self.answer.as_slice()].concat())
    }

    fn read_answer(
        &mut self,
        expected: u32,
        check: impl FnOnce(&Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).context("wait for an answer")?;
        let len = usize::try_from(u32::from_be_bytes(len))?;
        self.answer.resize(len, 0);
        self.stream.read_exact(&mut self.answer).context("read an answer")?;
        anyhow::ensure!(
            self.answer.starts_with(&expected.to_be_bytes()),
            "an answer is out of turn"
        );
        // The memory is lent to `Bytes` for the check, and comes back without a copy.
        let answer = Bytes::from(std::mem::take(&mut self.answer));
        check(&answer)?;
        self.answer = answer.into();
        Ok(())
    }

    /// Reads a partition from `offset` until `records` records have come, one fetch after the other, and
    /// gives how many fetches it took.
    pub(crate) fn fetch_all(
        &mut self,
        fetch: &mut Fetch,
        offset: i64,
        records: i64,
    ) -> anyhow::Result<usize> {
        let end = offset + records;
        let (mut next, mut fetches) = (offset, 0);
        while next < end {
            self.stream.write_all(fetch.at(next)).context("send a fetch")?;
            let before = next;
            self.read_answer(0, |answer| {
                next = next_offset(answer)?;
                Ok(())
            })?;
            anyhow::ensure!(next > before, "a fetch at {before} brought nothing");
            fetches += 1;
        }
        Ok(fetches)
    }
}

/// A batch of `records` records of 1 KiB that do not compress, without keys.
pub(crate) fn batch(records: usize) -> anyhow::Result<Bytes> {
    let mut builder = Builder::new(Compression::None);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..records {
        let value: Vec<u8> =
            (0..RECORD_BYTES / 8).flat_map(|_| next_random(&mut state).to_le_bytes()).collect();
        builder.push(&NewRecord {
            timestamp: 0,
            value: Some(value.into()),
            ..NewRecord::default()
        })?;
    }
    Ok(builder.build()?)
}

/// Bytes of one record's value.
pub(crate) const RECORD_BYTES: usize = 1024;

/// xorshift64: good enough to be incompressible.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A produce request for partition 0 of `topic` as a frame, with `acks=all`.
pub(crate) fn produce(topic: &str, batch: &Bytes) -> anyhow::Result<Vec<u8>> {
    let partition = ProducePartition { index: 0, records: Some(batch.clone()) };
    let topic = ProduceTopic { name: topic.to_owned(), partitions: vec![partition] };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 60_000, topics: vec![topic], ..Default::default() };
    let frame = encode_request(PRODUCE_VERSION, 0, &Some("bench".to_owned()), &request)?;
    Ok(frame.to_bytes().into())
}

/// Fails unless the records were taken.
pub(crate) fn check_produced(answer: &Bytes) -> anyhow::Result<()> {
    let (_, response) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
    let partition = response.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.context("the answer names no partition")?;
    anyhow::ensure!(
        partition.error_code.is_none(),
        "produce was refused: {:?}",
        partition.error_code
    );
    Ok(())
}

/// A fetch request whose offset can be changed.
#[derive(Debug)]
pub(crate) struct Fetch {
    frame: Vec<u8>,
    offset_at: usize,
}

impl Fetch {
    /// A fetch from partition 0 of `topic` of at most `bytes_max`, as a frame.
    pub(crate) fn new(topic: &str, bytes_max: i32) -> anyhow::Result<Self> {
        // An offset that occurs nowhere else shows where it lies.
        const MARK: i64 = 0x5A5A_5A5A_5A5A_5A5A;
        let partition = FetchPartition {
            fetch_offset: MARK,
            partition_max_bytes: bytes_max,
            ..Default::default()
        };
        let topic = FetchTopic { topic: topic.to_owned(), partitions: vec![partition] };
        let request = FetchRequest {
            max_wait_ms: 10_000,
            min_bytes: 1,
            max_bytes: 50 << 20,
            topics: vec![topic],
            ..Default::default()
        };
        let frame: Vec<u8> = encode_request(FETCH_VERSION, 0, &Some("bench".to_owned()), &request)?
            .to_bytes()
            .into();
        let offset_at = frame.windows(8).position(|window| window == MARK.to_be_bytes());
        Ok(Self { offset_at: offset_at.context("the offset is part of the frame")?, frame })
    }

    /// The request at `offset`, with correlation id 0.
    pub(crate) fn at(&mut self, offset: i64) -> &mut [u8] {
        self.frame[CORRELATION_ID].fill(0);
        self.frame[self.offset_at..][..8].copy_from_slice(&offset.to_be_bytes());
        &mut self.frame
    }
}

/// One past the last record of a fetch's answer.
fn next_offset(answer: &Bytes) -> anyhow::Result<i64> {
    let (_, response) = decode_response::<FetchResponse>(answer, FETCH_VERSION)?;
    let partition =
        response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let partition = partition.context("the answer names no partition")?;
    anyhow::ensure!(
        partition.error_code.is_none(),
        "fetch was refused: {:?}",
        partition.error_code
    );
    let records = partition.records.unwrap_or_default();
    let mut next = None;
    let mut rest = &records[..];
    while let Some((base, delta, len)) = batch_head(rest) {
        next = Some(base + i64::from(delta) + 1);
        rest = &rest[len.min(rest.len())..];
    }
    next.context("a fetch brought no batch")
}

/// Base offset, last offset delta and length of the first batch.
fn batch_head(bytes: &[u8]) -> Option<(i64, i32, usize)> {
    let base = i64::from_be_bytes(*bytes.first_chunk()?);
    let len = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let delta = i32::from_be_bytes(*bytes.get(23..)?.first_chunk()?);
    Some((base, delta, 12 + usize::try_from(len).ok()?))
}
