//! Fetch: reads until there is enough, or waits for more until the client's patience ends.
//!
//! Sessions are declined (session id 0 in every answer), which the protocol allows: each request names all
//! of its partitions. There are no transactions, so the last stable offset is the high watermark.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use broker::batch::Header;
use broker::{At, FetchError, RecordOffset, Topic, TopicName};
use bytes::Bytes;

use crate::metrics::add;
use crate::server::{Door, codes};
use crate::wire::ErrorCode;
use crate::wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse,
};

const READ_COMMITTED: i8 = 1;

/// A partition that can be read: what to wait for when there is too little.
struct Watched<'a> {
    topic: &'a Topic,
    partition: u32,
    high_watermark: RecordOffset,
}

/// One pass over all partitions.
struct Pass<'a> {
    responses: Vec<FetchTopicResponse>,
    bytes: usize,
    failed: bool,
    watched: Vec<Watched<'a>>,
}

/// Answers a fetch request. May be dropped at any time.
pub(super) async fn fetch(door: &Door, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        door.metrics.count_error(error_code);
        return FetchResponse { error_code, ..Default::default() };
    }
    let handles: Vec<Option<Topic>> = request.topics.iter().map(|t| find(door, &t.topic)).collect();
    let enough = usize::try_from(request.min_bytes.min(request.max_bytes)).unwrap_or(0);
    let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0))
        .min(door.config.limits.fetch_wait_max);
    let mut expired = std::pin::pin!(tokio::time::sleep(patience));
    let mut pass = read_all(door, &request, &handles).await;
    while !patience.is_zero() && !pass.failed && pass.bytes < enough && !pass.watched.is_empty() {
        tokio::select! {
            biased;
            grown = any_growth(door, &pass.watched) => {
                pass = read_all(door, &request, &handles).await;
                if grown.is_err() {
                    break;
                }
            }
            () = &mut expired => break,
        }
    }
    count(door, &pass);
    FetchResponse { responses: pass.responses, ..Default::default() }
}

fn find(door: &Door, name: &str) -> Option<Topic> {
    TopicName::new(name).ok().and_then(|name| door.broker.topic(&name))
}

fn count(door: &Door, pass: &Pass<'_>) {
    add(&door.metrics.fetched_bytes, pass.bytes as u64);
    for partition in pass.responses.iter().flat_map(|topic| &topic.partitions) {
        door.metrics.count_error(partition.error_code);
        let records = partition.records.as_deref().map_or(0, record_count);
        add(&door.metrics.fetched_records, records);
    }
}

/// Records in whole batches, as their headers count them.
fn record_count(mut batches: &[u8]) -> u64 {
    let mut records = 0;
    while let Ok(header) = Header::parse(batches) {
        records += u64::try_from(header.record_count).unwrap_or(0);
        batches = batches.get(header.bytes..).unwrap_or_default();
    }
    records
}

type Wait<'a> = Pin<Box<dyn Future<Output = Result<(), FetchError>> + Send + 'a>>;

/// Resolves when the high watermark of any of the partitions has risen; an error says that waiting for
/// one of them makes no sense any more.
async fn any_growth(door: &Door, watched: &[Watched<'_>]) -> Result<(), FetchError> {
    let mut waits: Vec<Wait<'_>> = Vec::with_capacity(watched.len());
    for one in watched {
        waits.push(Box::pin(door.broker.wait_data(one.topic, one.partition, one.high_watermark)));
    }
    poll_fn(|context| {
        for wait in &mut waits {
            if let Poll::Ready(grown) = wait.as_mut().poll(context) {
                return Poll::Ready(grown);
            }
        }
        Poll::Pending
    })
    .await
}

async fn read_all<'a>(
    door: &Door,
    request: &FetchRequest,
    handles: &'a [Option<Topic>],
) -> Pass<'a> {
    let mut pass = Pass { responses: Vec::new(), bytes: 0, failed: false, watched: Vec::new() };
    let limit =
        u32::try_from(request.max_bytes).unwrap_or(0).min(door.config.limits.fetch_bytes_max);
    let mut named = codes::Named::default();
    for (topic, handle) in request.topics.iter().zip(handles) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let taken = u32::try_from(pass.bytes).unwrap_or(u32::MAX);
            let left = Allowance { bytes: limit.saturating_sub(taken), first: pass.bytes == 0 };
            let read = match named.once(&topic.topic, asked.partition) {
                Ok(()) => read(door, handle.as_ref(), asked, left).await,
                Err(code) => Err((code, None)),
            };
            let response = match read {
                Ok(found) => {
                    pass.bytes += found.bytes.len();
                    let high_watermark = found.watched.high_watermark;
                    pass.watched.push(found.watched);
                    success(request, asked, high_watermark, found.log_start, found.bytes)
                }
                Err((code, bounds)) => {
                    pass.failed = true;
                    failure(asked, code, bounds)
                }
            };
            partitions.push(response);
        }
        pass.responses.push(FetchTopicResponse { topic: topic.topic.clone(), partitions });
    }
    pass
}

/// What a partition may still add to the response.
#[derive(Clone, Copy)]
struct Allowance {
    bytes: u32,
    /// Nothing was added yet: the first batch is sent whatever its size, or a client would never get past it.
    first: bool,
}

struct Found<'a> {
    watched: Watched<'a>,
    log_start: RecordOffset,
    bytes: Bytes,
}

type Bounds = Option<(RecordOffset, RecordOffset)>;

async fn read<'a>(
    door: &Door,
    topic: Option<&'a Topic>,
    asked: &FetchPartition,
    allowance: Allowance,
) -> Result<Found<'a>, (ErrorCode, Bounds)> {
    let (topic, partition) =
        codes::partition(topic, asked.partition).map_err(|code| (code, None))?;
    codes::check_leader_epoch(asked.current_leader_epoch, door.broker.leader_epoch())
        .map_err(|code| (code, None))?;
    let offset =
        RecordOffset::new(asked.fetch_offset).ok_or((ErrorCode::OFFSET_OUT_OF_RANGE, None))?;
    if allowance.bytes == 0 && !allowance.first {
        return bounds(door, topic, partition).await.map_err(|code| (code, None));
    }
    let wanted = u32::try_from(asked.partition_max_bytes).unwrap_or(0).min(allowance.bytes);
    let fetched = door
        .broker
        .fetch(topic, partition, offset, wanted)
        .await
        .map_err(|error| codes::fetch(&error))?;
    let fits = allowance.first || fetched.bytes.len() <= wanted as usize;
    let bytes = if fits { fetched.bytes } else { Bytes::new() };
    let watched = Watched { topic, partition, high_watermark: fetched.high_watermark };
    Ok(Found { watched, log_start: fetched.log_start, bytes })
}

/// Only the bounds of a partition, for when the response is full already.
async fn bounds<'a>(door: &Door, topic: &'a Topic, partition: u32) -> Result<Found<'a>, ErrorCode> {
    let place = async |at| {
        let found = door.broker.offset_at(topic, partition, at).await;
        let found = found.map_err(|error| codes::offset(&error))?;
        Ok(found.map_or(RecordOffset::ZERO, |(offset, _)| offset))
    };
    let high_watermark = place(At::Latest).await?;
    let log_start = place(At::Earliest).await?;
    let watched = Watched { topic, partition, high_watermark };
    Ok(Found { watched, log_start, bytes: Bytes::new() })
}

fn success(
    request: &FetchRequest,
    asked: &FetchPartition,
    high_watermark: RecordOffset,
    log_start: RecordOffset,
    bytes: Bytes,
) -> FetchPartitionResponse {
    FetchPartitionResponse {
        partition_index: asked.partition,
        high_watermark: high_watermark.get(),
        last_stable_offset: high_watermark.get(),
        log_start_offset: log_start.get(),
        aborted_transactions: (request.isolation_level == READ_COMMITTED).then(Vec::new),
        records: Some(bytes),
        ..Default::default()
    }
}

fn failure(asked: &FetchPartition, code: ErrorCode, bounds: Bounds) -> FetchPartitionResponse {
    let (log_start, high_watermark) =
        bounds.map_or((-1, -1), |(start, end)| (start.get(), end.get()));
    FetchPartitionResponse {
        partition_index: asked.partition,
        error_code: code,
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: log_start,
        records: Some(Bytes::new()),
        ..Default::default()
    }
}
