//! Reading: from an offset to whole batches.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::batch::HEADER_BYTES;
use crate::error::{Fault, FetchError};
use crate::partition::{Context, Data, Partition, Start};
use crate::rows::{self, Place, Segment};
use crate::types::{Fetched, RecordOffset};
use crate::walk::{self, Walk, checked_header, damage};

/// Most bytes that one fetch reads, unless a single batch is larger.
const FETCH_BYTES_MAX: u64 = 16 << 20;

/// See [`crate::Broker::fetch`].
pub(crate) async fn fetch(
    context: &Context,
    partition: &Partition,
    offset: RecordOffset,
    bytes_max: u32,
) -> Result<Fetched, FetchError> {
    let view = partition.view(&context.strands, offset)?;
    let bytes = match &view.start {
        None => Bytes::new(),
        Some(start) => {
            let read = batches(context, partition, start, offset, view.high_watermark, bytes_max);
            read.await.map_err(|fault| partition.explain(fault))?
        }
    };
    Ok(Fetched { high_watermark: view.high_watermark, log_start: view.log_start, bytes })
}

async fn batches(
    context: &Context,
    partition: &Partition,
    start: &Start,
    offset: RecordOffset,
    high_watermark: RecordOffset,
    bytes_max: u32,
) -> Result<Bytes, Fault> {
    let place = locate(context, partition, start, offset.get()).await?;
    let end = start.segment.bytes;
    let (bytes, next) = read_whole(context, place, end, high_watermark.get(), bytes_max).await?;
    let at = place.at + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    partition.remember(Place { base: next, strand: place.strand, at });
    Ok(bytes)
}

/// Finds the batch that holds `offset`.
async fn locate(
    context: &Context,
    partition: &Partition,
    start: &Start,
    offset: i64,
) -> Result<Place, Fault> {
    let from = match start.place {
        Some(place) => place,
        None => indexed(context, partition, &start.segment, offset)?,
    };
    if from.base == offset {
        return Ok(from);
    }
    let mut found = None;
    walk::headers(&context.strands, Walk::new(from, start.segment.bytes), &mut |step| {
        if step.header.next_offset() <= offset {
            return ControlFlow::Continue(());
        }
        found = Some(Place { base: step.header.base_offset, strand: from.strand, at: step.at });
        ControlFlow::Break(())
    })
    .await?;
    found.ok_or_else(|| damage(from.strand, from.at, format!("no batch holds offset {offset}")))
}

/// The last indexed batch of a segment at or before `offset`.
fn indexed(
    context: &Context,
    partition: &Partition,
    segment: &Segment,
    offset: i64,
) -> Result<Place, Fault> {
    let entry = rows::index_before(&context.strands, partition.key(), offset)?;
    entry
        .map(|entry| entry.place)
        .filter(|place| place.strand == segment.strand && place.at < segment.bytes)
        .ok_or_else(|| damage(segment.strand, 0, "the segment has no index"))
}

/// Reads whole batches from `place` on, and tells the offset after the last.
async fn read_whole(
    context: &Context,
    place: Place,
    end: u64,
    high_watermark: i64,
    bytes_max: u32,
) -> Result<(Bytes, i64), Fault> {
    let room = end.saturating_sub(place.at);
    let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    let want = u64::from(bytes_max).clamp(header_bytes, FETCH_BYTES_MAX).min(room);
    let mut bytes = read(context, place, want).await?;
    let first = checked_header(place.strand, place.at, place.base, &bytes)?;
    if first.bytes > bytes.len() {
        let size = u64::try_from(first.bytes).unwrap_or(u64::MAX);
        if size > room {
            return Err(damage(place.strand, place.at, "a batch goes beyond the end"));
        }
        bytes = read(context, place, size).await?;
    }
    let (len, next) = whole(&bytes, place, high_watermark)?;
    Ok((bytes.slice(..len), next))
}

async fn read(context: &Context, place: Place, len: u64) -> Result<Bytes, Fault> {
    let len =
        u32::try_from(len).map_err(|_| damage(place.strand, place.at, "a batch over 4 GiB"))?;
    Ok(context.strands.read_dense(place.strand, place.at, len).await?)
}

/// How many of `bytes` are whole batches below the high watermark, and the offset after them.
fn whole(bytes: &[u8], place: Place, high_watermark: i64) -> Result<(usize, i64), Fault> {
    let mut len = 0;
    let mut next = place.base;
    while next < high_watermark && bytes.len() - len >= HEADER_BYTES {
        let at = place.at + u64::try_from(len).unwrap_or(u64::MAX);
        let header = checked_header(place.strand, at, next, &bytes[len..])?;
        if header.bytes > bytes.len() - len {
            break;
        }
        len += header.bytes;
        next = header.next_offset();
    }
    Ok((len, next))
}

/// See [`crate::Broker::wait_data`].
///
/// A waiter listens to its partition until something is stored, and then to the journal until that is
/// visible: nobody has to tell the waiters of all partitions about each sync.
pub(crate) async fn wait_data(
    context: &Context,
    partition: &Partition,
    offset: RecordOffset,
) -> Result<(), FetchError> {
    loop {
        let mut changed = std::pin::pin!(partition.changed().notified());
        // From here on no change goes unheard, also one between the look and the wait.
        changed.as_mut().enable();
        match partition.data(&context.strands, offset)? {
            Data::Visible => return Ok(()),
            Data::NotYet => changed.await,
            Data::At(position) => {
                let before = strands::Position::new(position.get().saturating_sub(1));
                if context.strands.wait_durable_beyond(before).await.is_none() {
                    return Err(FetchError::Failed("the journal is closed".to_owned()));
                }
            }
        }
    }
}
