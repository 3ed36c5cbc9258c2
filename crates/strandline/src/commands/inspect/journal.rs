//! The journal's files: segments with the commits in them, their indexes, the marks of the beginning and of an
//! orderly close, torn ends.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use durable_log::{
    InspectedEntry, InspectedFrame, InspectedSegment, OpenError, Record, inspect, inspect_index,
    inspect_low_water, inspect_marker,
};
use host::{File, Host};
use serde_json::{Value, json};
use strands::{InspectedOp, inspect_commit};

use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_millis, show_size};

/// Bytes of a key that are shown.
const KEY_BYTES_SHOWN: usize = 64;

/// Prints a segment: its header, then frame by frame.
pub(super) fn print_segment(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let stop = ControlFlow::Break(());
    let header = inspect(host, path, &mut |_| stop, &mut |_| stop);
    let mut printer = Printer { out, json, frames: 0, commits: 0 };
    printer.begin(path, &header.map_err(|error| log_fault(&error))?)?;
    let (printed, printer) = (Cell::new(Ok(())), RefCell::new(printer));
    let keep = |outcome: Outcome| match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => {
            printed.set(Err(failure));
            ControlFlow::Break(())
        }
    };
    let seen =
        inspect(host, path, &mut |frame| keep(printer.borrow_mut().frame(&frame)), &mut |record| {
            keep(printer.borrow_mut().commit(&record))
        });
    printed.into_inner()?;
    let segment = seen.map_err(|error| log_fault(&error))?;
    printer.into_inner().end(&segment)
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
    fn begin(&mut self, path: &Path, segment: &InspectedSegment) -> Outcome {
        if self.json {
            let head = json!({
                "file": path.to_string_lossy(), "kind": "segment", "version": segment.version, "number": segment.number,
                "created": segment.created_ms, "salt": segment.salt, "first": segment.first.get(), "begin": segment.begin.get(),
                "epoch": segment.epoch.get(), "newest": segment.newest_ms, "stale_bytes": segment.stale_bytes,
                "file_bytes": segment.file_bytes,
            });
            // The object goes on, so its closing brace comes later.
            return self.out.bytes(
                format!("{},\"frames\":[", head.to_string().trim_end_matches('}')).as_bytes(),
            );
        }
        let is_cut = path.extension().is_some_and(|extension| extension == "cut");
        self.out.line(format!(
            "{}: journal segment {}, format version {}, epoch {}, created {}, from commit {} on{}",
            path.display(),
            segment.number,
            segment.version,
            segment.epoch,
            show_millis(segment.created_ms),
            segment.first.get(),
            if is_cut { "; it replaces all segments from its number on" } else { "" },
        ))
    }

    fn frame(&mut self, frame: &InspectedFrame) -> Outcome {
        self.frames += 1;
        self.commits = 0;
        if !self.json {
            let commits = match frame.records {
                0 => "a mark".to_owned(),
                1 => format!("commit {}", frame.first.get()),
                many => format!("commits {}", range(frame.first.get(), many.into())),
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

    fn end(self, segment: &InspectedSegment) -> Outcome {
        if self.json {
            let last = if self.frames == 0 { "]" } else { "]}]" };
            let rest = json!({
                "next": segment.next.get(), "good_bytes": segment.end, "end_reason": segment.end_reason,
            });
            // The rest of the object, without its opening brace.
            return self.out.line(format!("{last},{}", rest.to_string().trim_start_matches('{')));
        }
        let end = segment.end_reason.map_or_else(
            || "at the end of the file".to_owned(),
            |why| format!("at byte {} of {}: {why}", segment.end, segment.file_bytes),
        );
        let commits = range(segment.first.get(), segment.next - segment.first);
        self.out.line(format!("  commits {commits}, the frames end {end}"))
    }
}

/// Prints the mark of an orderly close.
pub(super) fn print_marker(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let mark = inspect_marker(host, path).map_err(|error| log_fault(&error))?;
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "clean", "version": mark.version, "segment": mark.segment,
            "salt": mark.salt, "next": mark.next.get(), "end": mark.end.get(), "newest": mark.newest_ms,
        }));
    }
    out.line(format!(
        "{}: mark of an orderly close, format version {}; the last segment is {}, the next commit {}",
        path.display(),
        mark.version,
        mark.segment,
        mark.next.get()
    ))
}

/// Prints the low-water mark.
pub(super) fn print_start(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let mark = inspect_low_water(host, path).map_err(|error| log_fault(&error))?;
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "start", "version": mark.version, "segment": mark.segment,
            "first": mark.first.get(),
        }));
    }
    out.line(format!(
        "{}: where the journal begins, format version {}; all segments before {} are trimmed, its first commit is {}",
        path.display(), mark.version, mark.segment, mark.first.get()
    ))
}

/// Prints the index of a segment.
pub(super) fn print_index(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let (index, entries) = inspect_index(host, path).map_err(|error| log_fault(&error))?;
    if json {
        let entry = |entry: &InspectedEntry| {
            json!({
                "position": entry.position, "commits_before": entry.records_before, "newest": entry.newest_ms,
            })
        };
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "index", "version": index.version, "segment": index.segment,
            "salt": index.salt, "frames_bytes": index.frames_bytes,
            "entries": entries.iter().map(entry).collect::<Vec<Value>>(),
        }));
    }
    out.line(format!(
        "{}: index of journal segment {}, format version {}; {} entries for {} of frames",
        path.display(),
        index.segment,
        index.version,
        index.entries,
        show_size(index.frames_bytes)
    ))?;
    for InspectedEntry { position, records_before, newest_ms } in entries {
        let newest = newest_ms.map_or_else(|| "nothing".to_owned(), show_millis);
        out.line(format!(
            "  at {position:>8}  commit {records_before} of the segment, after {newest}"
        ))?;
    }
    Ok(())
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
            format!("write {strand} bytes {}", range(offset, bytes.len() as u64))
        }
        InspectedOp::Truncate { strand, len } => format!("truncate {strand} to {len} bytes"),
        InspectedOp::Remove { strand } => format!("remove {strand}"),
        InspectedOp::Packed { strand, start, len, before } => {
            format!("packed {strand} bytes {} of commits 0..{before}", range(start, len.into()))
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

/// `len` things from `first` on, as all ranges are written.
fn range(first: u64, len: u64) -> String {
    format!("{first}..{}", first.saturating_add(len))
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
