//! From a time to an offset.

use std::ops::ControlFlow;

use crate::batch::Batch;
use crate::error::{Fault, OffsetError};
use crate::partition::{Context, Partition, offset};
use crate::rows::{self, Place, Segment};
use crate::types::{At, RecordOffset};
use crate::walk::{self, Walk, damage};

/// Most bytes that the records of one batch may decompress to here; beyond it the batch as a whole answers.
const DECOMPRESSED_BYTES_MAX: usize = 32 << 20;

/// What a lookup may look at.
struct Scope {
    segments: Vec<Segment>,
    log_start: i64,
    high_watermark: i64,
    max_timestamp: i64,
}

/// See [`crate::Broker::offset_at`].
pub(crate) async fn offset_at(
    context: &Context,
    partition: &Partition,
    at: At,
) -> Result<Option<(RecordOffset, i64)>, OffsetError> {
    let scope = partition.with(&context.strands, |state| Scope {
        segments: state.segments.clone(),
        log_start: state.log_start(),
        high_watermark: state.visible,
        max_timestamp: state.visible_max_timestamp,
    })?;
    let timestamp = match at {
        At::Earliest => return Ok(Some((offset(scope.log_start), NO_TIMESTAMP))),
        At::Latest => return Ok(Some((offset(scope.high_watermark), NO_TIMESTAMP))),
        At::MaxTimestamp if scope.max_timestamp < 0 => return Ok(None),
        At::MaxTimestamp => scope.max_timestamp,
        At::Timestamp(timestamp) => timestamp,
    };
    if timestamp > scope.max_timestamp {
        return Ok(None);
    }
    let found = first_since(context, partition, &scope, timestamp).await;
    Ok(found.map_err(|fault| partition.explain(fault))?)
}

/// What an answer without a record says as its timestamp.
const NO_TIMESTAMP: i64 = -1;

/// The first record with at least this timestamp.
async fn first_since(
    context: &Context,
    partition: &Partition,
    scope: &Scope,
    timestamp: i64,
) -> Result<Option<(RecordOffset, i64)>, Fault> {
    let Some(mut from) = place_before(context, partition, scope, timestamp)? else {
        return Ok(None);
    };
    while from.base < scope.high_watermark {
        let segment = scope.segments.iter().find(|segment| segment.strand == from.strand);
        let segment = segment.ok_or_else(|| damage(from.strand, from.at, "not a segment"))?;
        let Some((place, size)) = batch_since(context, from, segment, scope, timestamp).await?
        else {
            match scope.segments.iter().find(|next| next.base > segment.base) {
                Some(next) => from = Place { base: next.base, strand: next.strand, at: 0 },
                None => return Ok(None),
            }
            continue;
        };
        let len = u32::try_from(size)
            .map_err(|_| damage(place.strand, place.at, "a batch over 4 GiB"))?;
        let bytes = context.strands.read_dense(place.strand, place.at, len).await?;
        let batch = Batch::parse(&bytes).map_err(|why| damage(place.strand, place.at, why))?;
        if let Some((found, time)) = record_since(&batch, timestamp) {
            return Ok(Some((offset(found), time)));
        }
        // The header promised a record that is not there: go on with the next batch.
        let at = place.at + u64::from(len);
        from = Place { base: batch.header().next_offset(), strand: place.strand, at };
    }
    Ok(None)
}

/// The first batch in a segment, from `from` on, whose header promises such a record, and its size.
async fn batch_since(
    context: &Context,
    from: Place,
    segment: &Segment,
    scope: &Scope,
    timestamp: i64,
) -> Result<Option<(Place, usize)>, Fault> {
    let mut found = None;
    walk::headers(&context.strands, Walk::new(from, segment.bytes), &mut |step| {
        let header = step.header;
        if header.base_offset >= scope.high_watermark {
            return ControlFlow::Break(());
        }
        if header.max_timestamp < timestamp {
            return ControlFlow::Continue(());
        }
        let place = Place { base: header.base_offset, strand: segment.strand, at: step.at };
        found = Some((place, header.bytes));
        ControlFlow::Break(())
    })
    .await?;
    Ok(found)
}

/// The first record of a batch with at least this timestamp. A batch that cannot be decompressed answers
/// with its first offset.
fn record_since(batch: &Batch, timestamp: i64) -> Option<(i64, i64)> {
    let header = batch.header();
    let whole = Some((header.base_offset, header.max_timestamp));
    let Ok(records) = batch.records(DECOMPRESSED_BYTES_MAX) else { return whole };
    for record in records {
        match record {
            Ok(record) if record.timestamp >= timestamp => {
                return Some((record.offset, record.timestamp));
            }
            Ok(_) => {}
            Err(_) => return whole,
        }
    }
    None
}

/// The last indexed batch before which no record has this timestamp or a later one.
///
/// Index rows carry the largest timestamp before them, which only grows: so a bisection finds the row in
/// at most 63 looks.
fn place_before(
    context: &Context,
    partition: &Partition,
    scope: &Scope,
    timestamp: i64,
) -> Result<Option<Place>, Fault> {
    let Some(first) = scope.segments.first() else { return Ok(None) };
    let mut best = Place { base: first.base, strand: first.strand, at: 0 };
    let (mut low, mut high) = (first.base, scope.high_watermark.saturating_sub(1));
    while low < high {
        let middle = high - (high - low) / 2;
        match rows::index_before(&context.strands, partition.key(), middle)? {
            Some(entry) if entry.max_timestamp_before >= timestamp => high = entry.place.base - 1,
            Some(entry) => (best, low) = (entry.place, middle),
            None => low = middle,
        }
    }
    Ok(Some(best))
}
