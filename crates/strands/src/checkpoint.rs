//! Checkpoints: all rows of the meta store as of one position, as frames of a strand.
//!
//! ```text
//! begin = 1 u8: magic "sl.check" | version u32 | position u64
//! rows  = 2 u8: per row: table u8 | key u16 | value u32 | key bytes | value bytes
//! end   = 3 u8: position u64 | rows u64
//! ```
//!
//! Values are stored as the meta store has them, the position that wrote them before them. Rows come in order of
//! table and key, in frames of some 64 KiB.

use std::ops::{Bound, ControlFlow};

use block_store::BlockStore;
use meta_store::{Applied, Batch, MetaStore, Snapshot};

use crate::frames::{Fields, Frames, Sink, StreamError, Tip};
use crate::pack::PackError;
use crate::restore::LoadError;
use crate::root::Root;
use crate::types::Position;

const BEGIN: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;
const MAGIC: &[u8; 8] = b"sl.check";
const VERSION: u32 = 1;

/// Rows are written in frames of about as much, and read into the meta store in batches of so many of them.
const FRAME_BYTES: usize = 64 << 10;
const BATCH_BYTES: usize = 4 << 20;

/// Writes all rows of `rows` at the tip of the strand of checkpoints.
pub(crate) fn write(
    sink: &mut Sink<'_>,
    tip: &mut Tip,
    position: Position,
    rows: &dyn Snapshot,
) -> Result<(), PackError> {
    let begin = [&MAGIC[..], &VERSION.to_le_bytes(), &position.get().to_le_bytes()];
    sink.frame(tip, BEGIN, &begin)?;
    let (mut frame, mut count, mut failed) = (Vec::new(), 0u64, None);
    for table in 0..=u8::MAX {
        let mut visit = |key: &[u8], value: &[u8]| {
            encode_row(&mut frame, table, key, value);
            count += 1;
            if frame.len() >= FRAME_BYTES
                && let Err(error) = sink.frame(tip, ROWS, &[&std::mem::take(&mut frame)])
            {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let all = (Bound::Unbounded, Bound::Unbounded);
        rows.scan(meta_store::Table(table), all, meta_store::Order::Ascending, &mut visit)
            .map_err(|error| PackError::Store(error.to_string()))?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    if !frame.is_empty() {
        sink.frame(tip, ROWS, &[&frame])?;
    }
    sink.frame(tip, END, &[&position.get().to_le_bytes(), &count.to_le_bytes()])
}

fn encode_row(out: &mut Vec<u8>, table: u8, key: &[u8], value: &[u8]) {
    // The meta store takes no longer ones.
    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    out.push(table);
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(&value_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Reads the checkpoint of `root` and shows each row to `row`.
pub(crate) fn read<E: From<StreamError>>(
    blocks: &dyn BlockStore,
    root: &Root,
    mut row: impl FnMut(u8, &[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut frames = Frames::new("checkpoint", blocks, &root.checkpoint);
    let (mut begun, mut ended, mut count) = (false, false, 0u64);
    while let Some(frame) = frames.next()? {
        let broken = |why: &str| E::from(frames.damaged(frame.at, why));
        let mut fields = Fields { rest: &frame.payload };
        match frame.kind {
            BEGIN if !begun => {
                begun = true;
                let magic = fields.array();
                let version = fields.u32();
                if magic != Some(*MAGIC) {
                    return Err(broken("it does not begin as a checkpoint"));
                }
                if let Some(found) = version.filter(|version| *version != VERSION) {
                    return Err(frames.unknown_version(frame.at, found).into());
                }
                if fields.position() != Some(root.checkpoint_at) {
                    return Err(broken("it is of another position"));
                }
            }
            ROWS if begun && !ended => {
                while !fields.rest.is_empty() {
                    let (table, key, value) = decode_row(&mut fields)
                        .ok_or_else(|| broken("a row whose lengths do not add up"))?;
                    row(table, key, value)?;
                    count += 1;
                }
            }
            END if begun && !ended => {
                ended = true;
                if fields.position() != Some(root.checkpoint_at) || fields.u64() != Some(count) {
                    return Err(broken("it does not hold the rows that its end counts"));
                }
            }
            _ => return Err(broken("a frame that does not belong there")),
        }
        if !fields.rest.is_empty() {
            return Err(broken("a frame that is too long"));
        }
    }
    if ended { Ok(()) } else { Err(frames.damaged(root.checkpoint.end(), "it has no end").into()) }
}

fn decode_row<'a>(fields: &mut Fields<'a>) -> Option<(u8, &'a [u8], &'a [u8])> {
    let table = fields.u8()?;
    let key = fields.u16()?;
    let value = fields.u32()?;
    Some((table, fields.take(key.into())?, fields.take(value as usize)?))
}

/// Puts the rows of a checkpoint into an empty meta store, whose position stays where it is.
pub(crate) fn load(
    blocks: &dyn BlockStore,
    root: &Root,
    meta: &dyn MetaStore,
) -> Result<u64, LoadError> {
    let (mut batch, mut bytes, mut count) = (Batch::new(), 0, 0);
    read(blocks, root, |table, key, value| -> Result<(), LoadError> {
        batch.put(meta_store::Table(table), key.to_vec(), value.to_vec());
        bytes += key.len() + value.len();
        count += 1;
        if bytes >= BATCH_BYTES {
            meta.commit(&std::mem::take(&mut batch), Applied(0))?;
            bytes = 0;
        }
        Ok(())
    })?;
    meta.commit(&batch, Applied(0))?;
    Ok(count)
}
