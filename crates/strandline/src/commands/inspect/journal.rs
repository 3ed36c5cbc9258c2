//! The journal's files: segments with the commits in them, their indexes, the marks of the beginning and of an
//! orderly close, torn ends.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use durable_log::{
    InspectedEntry, InspectedFrame, InspectedSegment, OpenError, Promise, Record, SegmentEnd,
    inspect, inspect_index, inspect_low_water, inspect_marker,
};
use host::{File, Host};
use serde_json::{Value, json};
use strands::{InspectedOp, inspect_commit};

use super::{Fault, hex, tables};
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_millis, show_size};

/// Prints a segment: its header, then frame by frame, then what stands where they end.
pub(super) fn print_segment(
    host: &Host,
    path: &Path,
    json: bool,
    out: &mut Out,
) -> Result<(), Fault> {
    let stop = ControlFlow::Break(());
    let header = inspect(host, path, &mut |_| stop, &mut |_| stop);
    let header = header.map_err(|error| log_fault(&error))?;
    let cut_from = header.followed_by.map(|next| next.position);
    let mut printer = Printer { out, json, frames: 0, commits: 0, cut_from, no_commit: None };
    printer.begin(path, &header)?;
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
    printer.into_inner().end(path, seen)
}

/// Prints frames as they come; the object or text is finished by [`Printer::end`].
struct Printer<'a> {
    out: &'a mut Out,
    json: bool,
    frames: u64,
    /// Of the last frame.
    commits: u64,
    /// From where in the file on the frames are those of the next segment.
    cut_from: Option<u64>,
    /// The first record that is no commit.
    no_commit: Option<u64>,
}

impl Printer<'_> {
    fn begin(&mut self, path: &Path, segment: &InspectedSegment) -> Outcome {
        if self.json {
            let head = json!({
                "file": path.to_string_lossy(), "kind": "segment", "version": segment.version, "number": segment.number,
                "created_ms": segment.created_ms, "salt": segment.salt, "first": segment.first.get(), "begin": segment.begin.get(),
                "epoch": segment.epoch.get(), "newest_ms": segment.newest_ms, "stale_bytes": segment.stale_bytes,
                "file_bytes": segment.file_bytes, "replaced_by": segment.replaced_by,
                "followed_by": segment.followed_by.map(|next| next.number),
                "cut_from": segment.followed_by.map(|next| next.first.get()),
            });
            // The object goes on, so its closing brace comes later.
            return self.out.bytes(
                format!("{},\"frames\":[", head.to_string().trim_end_matches('}')).as_bytes(),
            );
        }
        let is_cut = path.extension().is_some_and(|extension| extension == "cut");
        let note = match segment.replaced_by {
            Some(cut) => format!("; all of it is replaced by {cut:020}.cut"),
            None if is_cut => "; it replaces all segments from its number on".to_owned(),
            None => String::new(),
        };
        self.out.line(format!(
            "{}: journal segment {}, format version {}, epoch {}, created {}, from commit {} on{note}",
            path.display(),
            segment.number,
            segment.version,
            segment.epoch,
            show_millis(segment.created_ms),
            segment.first.get(),
        ))
    }

    fn frame(&mut self, frame: &InspectedFrame) -> Outcome {
        self.frames += 1;
        self.commits = 0;
        let is_cut = self.cut_from.is_some_and(|from| frame.position >= from);
        if !self.json {
            let commits = match frame.records {
                0 => "a mark".to_owned(),
                1 => format!("commit {}", frame.first.get()),
                many => format!("commits {}", range(frame.first.get(), many.into())),
            };
            return self.out.line(format!(
                "  at {:>8}  {}  {commits}, {}, synced through {}{}",
                frame.position,
                show_millis(frame.timestamp_ms),
                show_size(frame.payload_bytes.into()),
                frame.synced_through.get(),
                if is_cut { "; cut: the next segment replaces it" } else { "" },
            ));
        }
        let before = if self.frames == 1 { "" } else { "]}," };
        self.out.bytes(
            format!(
                "{before}{{\"position\":{},\"first\":{},\"records\":{},\"payload_bytes\":{},\"synced_through\":{},\"timestamp_ms\":{},\"cut\":{is_cut},\"commits\":[",
                frame.position, frame.first.get(), frame.records, frame.payload_bytes, frame.synced_through.get(), frame.timestamp_ms
            )
            .as_bytes(),
        )
    }

    fn commit(&mut self, record: &Record<'_>) -> Outcome {
        self.commits += 1;
        let mut operations = Vec::new();
        let decoded = inspect_commit(record.bytes, |op| operations.push(op));
        if decoded.is_err() {
            self.no_commit.get_or_insert_with(|| record.offset.get());
        }
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

    /// Finishes the object or the text, and fails when the segment is not as it should be.
    fn end(self, path: &Path, seen: Result<InspectedSegment, OpenError>) -> Result<(), Fault> {
        let fault = match &seen {
            Ok(segment) => damage(path, segment, self.no_commit),
            Err(error) => Some(error.to_string()),
        };
        if self.json {
            let last = if self.frames == 0 { "]" } else { "]}]" };
            let rest = match &seen {
                Ok(segment) => json!({
                    "next": segment.next.get(), "good_bytes": segment.end,
                    "end": end_name(segment.ends), "end_reason": end_reason(segment.ends),
                    "error": fault,
                }),
                Err(_) => json!({ "error": fault }),
            };
            // The rest of the object, without its opening brace.
            let line = format!("{last},{}", rest.to_string().trim_start_matches('{'));
            self.out.line(line).map_err(Fault::Told)?;
        } else if let Ok(segment) = &seen {
            let commits = range(segment.first.get(), segment.next - segment.first);
            self.out.line(format!(
                "  commits {commits}, the frames end at byte {} of {}: {}",
                segment.end,
                segment.file_bytes,
                end_text(segment)
            ))?;
        }
        fault.map_or(Ok(()), |fault| Err(Fault::Told(Failure::new(fault))))
    }
}

/// What is wrong with a segment, and where.
fn damage(path: &Path, segment: &InspectedSegment, no_commit: Option<u64>) -> Option<String> {
    let path = path.display();
    if let SegmentEnd::Damaged { why, promised, .. } = segment.ends {
        let next = segment.next.get();
        let lost = match promised.get().saturating_sub(next) {
            0 => "bytes that were durable are damaged".to_owned(),
            lost => format!("commits {} were durable and are damaged", range(next, lost)),
        };
        return Some(format!("{path}, offset {}: {why}; {lost}", segment.end));
    }
    no_commit.map(|commit| format!("{path}: record {commit} is not a commit"))
}

fn end_name(end: SegmentEnd) -> &'static str {
    match end {
        SegmentEnd::Stopped => "stopped",
        SegmentEnd::File => "file",
        SegmentEnd::Next => "next",
        SegmentEnd::Room(_) => "room",
        SegmentEnd::Torn { .. } => "torn",
        SegmentEnd::Damaged { .. } => "damaged",
    }
}

fn end_reason(end: SegmentEnd) -> Option<&'static str> {
    match end {
        SegmentEnd::Stopped | SegmentEnd::File | SegmentEnd::Next => None,
        SegmentEnd::Room(why) | SegmentEnd::Torn { why, .. } | SegmentEnd::Damaged { why, .. } => {
            Some(why)
        }
    }
}

/// What stands where the frames end, and what that means.
fn end_text(segment: &InspectedSegment) -> String {
    match segment.ends {
        SegmentEnd::Stopped => "no more was looked at".to_owned(),
        SegmentEnd::File => "the end of the file".to_owned(),
        SegmentEnd::Next => {
            let next = segment.followed_by.map_or(0, |next| next.number);
            format!("segment {next} goes on there")
        }
        SegmentEnd::Room(what) => format!("{what}, so nothing was written behind them"),
        SegmentEnd::Torn { why, bytes } => format!(
            "{why}: {} of a write that never finished, or damage that nothing tells from one; a start cuts them",
            show_size(bytes)
        ),
        SegmentEnd::Damaged { why, promised, by } => {
            let by = match by {
                Promise::Frame => "a frame behind it says",
                Promise::NextSegment => "the next segment says",
                Promise::Close => "the mark of the close says",
            };
            format!("DAMAGED: {why}; {by} that all before commit {} was durable", promised.get())
        }
    }
}

/// Prints the mark of an orderly close.
pub(super) fn print_marker(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let mark = inspect_marker(host, path).map_err(|error| log_fault(&error))?;
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "clean", "version": mark.version, "segment": mark.segment,
            "salt": mark.salt, "next": mark.next.get(), "end": mark.end.get(), "newest_ms": mark.newest_ms,
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
                "position": entry.position, "commits_before": entry.records_before, "newest_ms": entry.newest_ms,
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
            format!("put {}, {} bytes", tables::row_text(table, key), value.len())
        }
        InspectedOp::Delete { table, key } => {
            format!("delete {}", tables::row_text(table, key))
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
        InspectedOp::Needs { block } => format!("needs block {block}"),
    }
}

fn op_json(op: &InspectedOp<'_>) -> Value {
    match *op {
        InspectedOp::Put { table, key, value } => {
            json!({ "op": "put", "table": table.0, "table_name": tables::name(table), "key": hex(key), "value": hex(value) })
        }
        InspectedOp::Delete { table, key } => {
            json!({ "op": "delete", "table": table.0, "table_name": tables::name(table), "key": hex(key) })
        }
        InspectedOp::Write { strand, offset, bytes } => {
            json!({ "op": "write", "strand": strand.get(), "offset": offset, "bytes": bytes.len() })
        }
        InspectedOp::Truncate { strand, len } => {
            json!({ "op": "truncate", "strand": strand.get(), "bytes": len })
        }
        InspectedOp::Remove { strand } => json!({ "op": "remove", "strand": strand.get() }),
        InspectedOp::Packed { strand, start, len, before } => {
            json!({ "op": "packed", "strand": strand.get(), "start": start, "bytes": len, "before": before })
        }
        InspectedOp::Placed { strand, start, len } => {
            json!({ "op": "placed", "strand": strand.get(), "start": start, "bytes": len })
        }
        InspectedOp::Needs { block } => json!({ "op": "needs", "block": block.to_string() }),
    }
}

/// `len` things from `first` on, as all ranges are written.
fn range(first: u64, len: u64) -> String {
    format!("{first}..{}", first.saturating_add(len))
}

fn log_fault(error: &OpenError) -> Failure {
    Failure::new(error.to_string())
}
