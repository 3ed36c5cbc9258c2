//! The journal's files: segments with the commits in them, the mark of an orderly close, torn ends.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use durable_log::{InspectedFrame, InspectedSegment, OpenError, Record, inspect, inspect_marker};
use host::{File, Host};
use serde_json::{Value, json};
use strands::{InspectedOp, inspect_commit};

use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_millis, show_size};

/// Bytes of a key that are shown.
const KEY_BYTES_SHOWN: usize = 64;

/// Prints a segment, frame by frame.
pub(super) fn print_segment(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let mut printed = Ok(());
    let printer = std::cell::RefCell::new(Printer { out, json, frames: 0, commits: 0 });
    if json {
        let head = format!(
            "{{\"file\":{},\"kind\":\"segment\",\"frames\":[",
            Value::from(path.to_string_lossy())
        );
        printer.borrow_mut().out.bytes(head.as_bytes())?;
    }
    let seen = {
        let printed = std::cell::RefCell::new(&mut printed);
        let keep = |outcome: Outcome| match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                **printed.borrow_mut() = Err(failure);
                ControlFlow::Break(())
            }
        };
        inspect(host, path, &mut |frame| keep(printer.borrow_mut().frame(&frame)), &mut |record| {
            keep(printer.borrow_mut().commit(&record))
        })
    };
    printed?;
    let segment = seen.map_err(|error| log_fault(&error))?;
    printer.into_inner().end(path, &segment)
}

/// Prints frames as they come; the object or text is finished by [`Printer::end`].
struct Printer<'a> {
    out: &'a mut Out,
    json: bool,
    frames: u64,
    /// Of the last frame.
    commits: u64,
}

impl Printer<'_> {
    fn frame(&mut self, frame: &InspectedFrame) -> Outcome {
        self.frames += 1;
        self.commits = 0;
        if !self.json {
            let commits = match frame.records {
                0 => "a mark".to_owned(),
                1 => format!("commit {}", frame.first.get()),
                many => format!(
                    "commits {} to {}",
                    frame.first.get(),
                    frame.first.get() + u64::from(many) - 1
                ),
            };
            return self.out.line(format!(
                "  at {:>8}  {}  {commits}, {}, synced through {}",
                frame.position,
                show_millis(frame.timestamp_ms),
                show_size(frame.payload_bytes.into()),
                frame.synced_through.get()
            ));
        }
        let before = if self.frames == 1 { "" } else { "]}," };
        self.out.bytes(
            format!(
                "{before}{{\"position\":{},\"first\":{},\"records\":{},\"payload_bytes\":{},\"synced_through\":{},\"timestamp\":{},\"commits\":[",
                frame.position, frame.first.get(), frame.records, frame.payload_bytes, frame.synced_through.get(), frame.timestamp_ms
            )
            .as_bytes(),
        )
    }

    fn commit(&mut self, record: &Record<'_>) -> Outcome {
        self.commits += 1;
        let mut operations = Vec::new();
        let decoded = inspect_commit(record.bytes, |op| operations.push(op));
        if !self.json {
            for op in &operations {
                self.out.line(format!("    {}: {}", record.offset.get(), op_text(op)))?;
            }
            return decoded.or_else(|why| {
                self.out.line(format!("    {}: this is not a commit: {why}", record.offset.get()))
            });
        }
        let operations: Vec<Value> = operations.iter().map(op_json).collect();
        let commit = match decoded {
            Ok(()) => json!({ "commit": record.offset.get(), "operations": operations }),
            Err(why) => json!({ "commit": record.offset.get(), "error": why }),
        };
        let before = if self.commits == 1 { "" } else { "," };
        self.out.bytes(format!("{before}{commit}").as_bytes())
    }

    fn end(self, path: &Path, segment: &InspectedSegment) -> Outcome {
        if self.json {
            let last = if self.frames == 0 { "]" } else { "]}]" };
            let rest = json!({
                "number": segment.number, "created": segment.created_ms, "salt": segment.salt,
                "first": segment.first.get(), "next": segment.next.get(), "begin": segment.begin.get(),
                "epoch": segment.epoch.get(), "newest": segment.newest_ms, "stale_bytes": segment.stale_bytes, "good_bytes": segment.end,
                "file_bytes": segment.file_bytes, "end_reason": segment.end_reason,
            });
            // The rest of the object, without its opening brace.
            return self.out.line(format!("{last},{}", rest.to_string().trim_start_matches('{')));
        }
        let end = segment.end_reason.map_or_else(
            || "the end of the file".to_owned(),
            |why| format!("byte {} of {}: {why}", segment.end, segment.file_bytes),
        );
        self.out.line(format!(
            "{}: journal segment {} of epoch {}, created {}; commits {} to before {}, good up to {end}",
            path.display(), segment.number, segment.epoch, show_millis(segment.created_ms),
            segment.first.get(), segment.next.get(),
        ))
    }
}

/// Prints the mark of an orderly close.
pub(super) fn print_marker(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mark = inspect_marker(host, dir).map_err(|error| log_fault(&error))?;
    let (segment, next, at) = mark.ok_or_else(|| {
        Failure::new(format!(
            "{}, offset 12: this mark of an orderly close is not whole, so it counts for nothing",
            path.display()
        ))
    })?;
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "clean", "segment": segment, "next": next.get(), "end": at.get(),
        }));
    }
    out.line(format!(
        "{}: the journal was closed in order after segment {segment}; the next commit is {}",
        path.display(),
        next.get()
    ))
}

/// Prints what is known of a torn end.
pub(super) fn print_torn(path: &Path, file: &Arc<dyn File>, json: bool, out: &mut Out) -> Outcome {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    let bytes = file.size().map_err(cannot)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let place = stem
        .split_once('-')
        .and_then(|(segment, at)| Some((segment.parse::<u64>().ok()?, at.parse::<u64>().ok()?)));
    let (segment, at) = place.ok_or_else(|| {
        Failure::new(format!(
            "{}: the torn end of a segment is named SEGMENT-POSITION.torn",
            path.display()
        ))
    })?;
    if json {
        return out.json(&json!({ "file": path.to_string_lossy(), "kind": "torn", "segment": segment, "at": at, "bytes": bytes }));
    }
    out.line(format!(
        "{}: {} that nobody was promised, cut from segment {segment} at byte {at}",
        path.display(),
        show_size(bytes)
    ))
}

fn op_text(op: &InspectedOp<'_>) -> String {
    match *op {
        InspectedOp::Put { table, key, value } => {
            format!("put table {} key {}, {} bytes", table.0, key_text(key), value.len())
        }
        InspectedOp::Delete { table, key } => {
            format!("delete table {} key {}", table.0, key_text(key))
        }
        InspectedOp::Write { strand, offset, bytes } => {
            format!("write {strand} bytes {offset}..{}", offset.saturating_add(bytes.len() as u64))
        }
        InspectedOp::Truncate { strand, len } => format!("truncate {strand} to {len} bytes"),
        InspectedOp::Remove { strand } => format!("remove {strand}"),
        InspectedOp::Packed { strand, start, len, before } => {
            format!(
                "packed {strand} bytes {start}..{} of commits before {before}",
                start.saturating_add(len.into())
            )
        }
        InspectedOp::Placed { strand, start, len } => {
            format!("placed {strand} bytes {start}..{}", start.saturating_add(len.into()))
        }
    }
}

fn op_json(op: &InspectedOp<'_>) -> Value {
    match *op {
        InspectedOp::Put { table, key, value } => {
            json!({ "op": "put", "table": table.0, "key": hex(key), "value": hex(value) })
        }
        InspectedOp::Delete { table, key } => {
            json!({ "op": "delete", "table": table.0, "key": hex(key) })
        }
        InspectedOp::Write { strand, offset, bytes } => {
            json!({ "op": "write", "strand": strand.get(), "offset": offset, "len": bytes.len() })
        }
        InspectedOp::Truncate { strand, len } => {
            json!({ "op": "truncate", "strand": strand.get(), "len": len })
        }
        InspectedOp::Remove { strand } => json!({ "op": "remove", "strand": strand.get() }),
        InspectedOp::Packed { strand, start, len, before } => {
            json!({ "op": "packed", "strand": strand.get(), "start": start, "len": len, "before": before })
        }
        InspectedOp::Placed { strand, start, len } => {
            json!({ "op": "placed", "strand": strand.get(), "start": start, "len": len })
        }
    }
}

/// Text as text, bytes as escapes, long keys cut.
fn key_text(key: &[u8]) -> String {
    match key.get(..KEY_BYTES_SHOWN) {
        None => format!("\"{}\"", key.escape_ascii()),
        Some(begin) => format!("\"{}\"... ({} bytes)", begin.escape_ascii(), key.len()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn log_fault(error: &OpenError) -> Failure {
    Failure::new(error.to_string())
}
