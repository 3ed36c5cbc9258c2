//! The ledger: what the journal held, without the bytes of strands, as frames of a strand in blocks.
//!
//! ```text
//! begin  = 1 u8: magic "sl.ledgr" | version u32 | position u64      the first commit that the section tells of
//! commit = 2 u8: position u64 | time i64 | head                     head: the commit's record up to its payload
//! packed = 3 u8: per run: strand u64 | start u64 | length u32 | block [u8; 20] | at u32 | generation u64
//! end    = 4 u8: position u64 | time i64 | complete u8
//! ```
//!
//! A round of packing writes one section: begin, all commits from where the last section ended up to the round's
//! moment P, the runs of bytes that lay in the journal at P and where in blocks they lie now, end. A step on a nearly full
//! disk writes a section that is not complete: commits only.
//!
//! So the rows at P are those of a checkpoint, changed by the commits since; extents are rows, and what was
//! still in the journal at P is told by the section that ends there.
//!
//! Invariant: the journal is trimmed only up to where the ledger is durable, as long as there is room for it.

use block_store::BlockStore;
use durable_log::Record;
use meta_store::Snapshot;

use crate::checkpoint;
use crate::commit::{self, Commit};
use crate::error::ReadError;
use crate::extents::{self, Extent};
use crate::frames::{CHECKPOINTS, Fields, Frame, Frames, LEDGER, Sink, StreamError, Tip};
use crate::pack::PackError;
use crate::recover::NODE;
use crate::root::{ROOT_KEY, Root, Stream};
use crate::shared::Shared;
use crate::types::{Position, StrandId};

const BEGIN: u8 = 1;
const COMMIT: u8 = 2;
const PACKED: u8 = 3;
const END: u8 = 4;
const MAGIC: &[u8; 8] = b"sl.ledgr";
const VERSION: u32 = 1;
/// Runs are written in frames of about as much.
const FRAME_BYTES: usize = 64 << 10;
/// A checkpoint is due when the ledger since the last one is longer than that one and than this, ...
const LEDGER_BYTES_MIN: u64 = 64 << 20;
/// ... or lies in more places than these.
const LEDGER_RANGES_MAX: usize = 256;

/// How a round's part of the ledger begins.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What it goes on from; `None`: it begins anew, with a checkpoint.
    last: Option<Root>,
    /// The root's number.
    seq: u64,
    pub(crate) with_checkpoint: bool,
}

/// A section that is being written. Given up, for want of room, it does nothing more: then the ledger begins
/// anew with the next checkpoint.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    shared: &'a Shared,
    open: Option<Open<'a>>,
}

#[derive(Debug)]
struct Open<'a> {
    plan: Plan,
    sink: Sink<'a>,
    tip: Tip,
    start: u64,
    next: Position,
    time_ms: i64,
    runs: Vec<u8>,
}

impl Shared {
    /// Where the next section goes on, and whether it takes a checkpoint.
    pub(crate) fn plan_ledger(&self, wanted: bool) -> Result<Plan, PackError> {
        let last = self.last_root()?;
        let seq = last.as_ref().map_or(1, |last| last.seq + 1);
        let start = Position::of(self.log.positions().start);
        let last = last.filter(|last| last.position >= start);
        let is_due = |last: &Root| {
            last.ledger.len() > LEDGER_BYTES_MIN.max(last.checkpoint.len())
                || last.ledger.ranges.len() > LEDGER_RANGES_MAX
        };
        let with_checkpoint = wanted || last.as_ref().is_none_or(is_due);
        Ok(Plan { last, seq, with_checkpoint })
    }

    /// The newest root, whether it is in the store or not. One that cannot be read is as good as none.
    pub(crate) fn last_root(&self) -> Result<Option<Root>, ReadError> {
        let Some(row) = self.row(NODE, ROOT_KEY)? else { return Ok(None) };
        Ok(Root::decode(&row)
            .inspect_err(
                |error| tracing::warn!(%error, "the row of the last root; a checkpoint is taken"),
            )
            .ok())
    }

    /// Begins a section that will end at `at`.
    pub(crate) fn begin_section(&self, plan: Plan, at: Position) -> Result<Section<'_>, PackError> {
        let start = extents::end(self, LEDGER)?;
        let next = plan.last.as_ref().map_or(at, |last| last.position);
        let now_ms = self.host.clock.wall_coarse().millis();
        let time_ms = plan.last.as_ref().map_or(now_ms, |last| last.time_ms);
        let (sink, tip) = (Sink::new(self, at), Tip { strand: LEDGER, at: start });
        let open = Open { plan, sink, tip, start, next, time_ms, runs: Vec::new() };
        let mut section = Section { shared: self, open: Some(open) };
        section.go_on(|open| {
            let from = open.next.get().to_le_bytes();
            open.frame(BEGIN, &[MAGIC, &VERSION.to_le_bytes(), &from])
        })?;
        Ok(section)
    }

    /// A step's section, which goes on from the last root; nothing when there is none to go on from.
    pub(crate) fn begin_step(&self, at: Position) -> Result<Section<'_>, PackError> {
        let plan = self.plan_ledger(false)?;
        if plan.last.as_ref().is_some_and(|last| last.position <= at) {
            self.begin_section(Plan { with_checkpoint: false, ..plan }, at)
        } else {
            Ok(Section { shared: self, open: None })
        }
    }
}

impl<'a> Section<'a> {
    /// Writes on, unless it was given up; gives it up when there is no room.
    fn go_on(
        &mut self,
        write: impl FnOnce(&mut Open<'a>) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        match write(open) {
            Err(PackError::NoSpace(why)) => {
                tracing::warn!(%why, "no room for the ledger; it begins anew when there is some");
                self.open = None;
                Ok(())
            }
            written => written,
        }
    }

    /// The first commit that it has not told of; `None`: it tells of none.
    pub(crate) fn next(&self) -> Option<Position> {
        self.open.as_ref().map(|open| open.next)
    }

    /// Tells of a commit, unless an earlier section did.
    pub(crate) fn commit(&mut self, record: &Record<'_>) -> Result<(), PackError> {
        let at = Position::of(record.offset);
        self.go_on(|open| {
            if at < open.next {
                return Ok(());
            }
            let head = commit::head_of(record.bytes)
                .map_err(|error| PackError::Store(format!("commit {at}: {error}")))?;
            open.next = Position::new(at.get() + 1);
            open.time_ms = record.timestamp_ms;
            let (at, time) = (at.get().to_le_bytes(), record.timestamp_ms.to_le_bytes());
            open.frame(COMMIT, &[&at, &time, head])
        })
    }

    /// Tells where bytes that lay in the journal at the moment are now.
    pub(crate) fn packed(&mut self, runs: &[(StrandId, Extent)]) -> Result<(), PackError> {
        self.go_on(|open| {
            for (strand, extent) in runs {
                encode_run(&mut open.runs, *strand, extent);
                if open.runs.len() >= FRAME_BYTES {
                    open.flush_runs()?;
                }
            }
            Ok(())
        })
    }

    /// Ends the section and commits where it lies, with the root that names all of it. `rows`: of the moment, for a
    /// checkpoint.
    pub(crate) fn end(
        mut self,
        rows: Option<&dyn Snapshot>,
        complete: bool,
    ) -> Result<(), PackError> {
        let shared = self.shared;
        let mut checkpoint = None;
        self.go_on(|open| {
            open.flush_runs()?;
            let (next, time) = (open.next.get().to_le_bytes(), open.time_ms.to_le_bytes());
            open.frame(END, &[&next, &time, &[complete.into()]])?;
            if let Some(rows) = rows {
                let start = extents::end(shared, CHECKPOINTS)?;
                let mut tip = Tip { strand: CHECKPOINTS, at: start };
                checkpoint::write(&mut open.sink, &mut tip, open.next, rows)?;
                checkpoint = Some(start);
            }
            open.sink.flush()
        })?;
        let Some(open) = self.open else { return Ok(()) };
        let Some(root) = open.root(shared, checkpoint, complete) else { return Ok(()) };
        let mut commit = Commit::new();
        for (strand, extent) in &open.sink.extents {
            extents::replace(&mut commit, *strand, &[], &[*extent]);
        }
        commit.put(NODE, ROOT_KEY, root.encode());
        shared.append(commit)?;
        Ok(shared.write_out()?)
    }
}

impl Open<'_> {
    fn frame(&mut self, kind: u8, payload: &[&[u8]]) -> Result<(), PackError> {
        self.sink.frame(&mut self.tip, kind, payload)
    }

    fn flush_runs(&mut self) -> Result<(), PackError> {
        let runs = std::mem::take(&mut self.runs);
        if runs.is_empty() { Ok(()) } else { self.frame(PACKED, &[&runs]) }
    }

    /// What a node is restored from when this section is durable. `checkpoint`: where one begins.
    fn root(&self, shared: &Shared, checkpoint: Option<u64>, complete: bool) -> Option<Root> {
        let section = self.sink.ranges(LEDGER);
        let (checkpoint_at, checkpoint, ledger) = match (checkpoint, &self.plan.last) {
            (Some(start), _) => {
                let ranges = self.sink.ranges(CHECKPOINTS).collect();
                let ledger = Stream { start: self.start, ranges: section.collect() };
                (self.next, Stream { start, ranges }, ledger)
            }
            (None, Some(last)) => {
                let mut ledger = last.ledger.clone();
                ledger.ranges.extend(section);
                (last.checkpoint_at, last.checkpoint.clone(), ledger)
            }
            (None, None) => return None,
        };
        Some(Root {
            store: shared.options.store_id,
            epoch: shared.opening.epoch,
            seq: self.plan.seq,
            position: self.next,
            time_ms: self.time_ms,
            complete,
            checkpoint_at,
            checkpoint,
            ledger,
        })
    }
}

fn encode_run(out: &mut Vec<u8>, strand: StrandId, extent: &Extent) {
    out.extend_from_slice(&strand.get().to_le_bytes());
    out.extend_from_slice(&extent.start.to_le_bytes());
    out.extend_from_slice(&extent.len.to_le_bytes());
    out.extend_from_slice(&extent.block.to_bytes());
    out.extend_from_slice(&extent.at.to_le_bytes());
    out.extend_from_slice(&extent.generation.get().to_le_bytes());
}

fn decode_run(fields: &mut Fields<'_>) -> Option<(StrandId, Extent)> {
    let strand = StrandId::from_raw(fields.u64()?);
    let (start, len, block) = (fields.u64()?, fields.u32()?, fields.block()?);
    let extent = Extent { start, len, block, at: fields.u32()?, generation: fields.position()? };
    extent.is_sound().then_some((strand, extent))
}

/// What the ledger tells, in order.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// What a commit did.
    Commit { at: Position, time_ms: i64, head: &'a [u8] },
    /// Where a run of bytes that lay in the journal where the section ends is.
    Packed { strand: StrandId, extent: Extent },
    /// All commits before `at` were told of.
    End { at: Position, time_ms: i64, complete: bool },
}

/// Where a reader of the ledger is.
struct Reading<'a> {
    frames: Frames<'a>,
    /// The next commit; none before the first section.
    next: Option<Position>,
    in_section: bool,
    /// The place and kind of the last end.
    ended: Option<(Position, bool)>,
}

/// Reads the ledger of `root` and shows what it tells to `visit`, which may say why an entry cannot be.
pub(crate) fn read<E: From<StreamError>>(
    blocks: &dyn BlockStore,
    root: &Root,
    mut visit: impl FnMut(Entry<'_>) -> Result<Result<(), String>, E>,
) -> Result<(), E> {
    let frames = Frames::new("ledger", blocks, &root.ledger);
    let mut reading = Reading { frames, next: None, in_section: false, ended: None };
    while let Some(frame) = reading.frames.next()? {
        let is_first = reading.ended.is_none();
        reading.frame(&frame, &mut visit)?;
        let ends_elsewhere = |(at, _)| at != root.checkpoint_at;
        if is_first && reading.ended.is_some_and(ends_elsewhere) {
            let why = "its first section does not end where the checkpoint is";
            return Err(reading.damaged(&frame, why).into());
        }
    }
    if !reading.in_section && reading.ended == Some((root.position, root.complete)) {
        Ok(())
    } else {
        let why = "it does not end where its root says";
        Err(reading.frames.damaged(root.ledger.end(), why))?
    }
}

impl Reading<'_> {
    fn damaged(&self, frame: &Frame, why: impl Into<String>) -> StreamError {
        self.frames.damaged(frame.at, why)
    }

    fn frame<E: From<StreamError>>(
        &mut self,
        frame: &Frame,
        visit: &mut impl FnMut(Entry<'_>) -> Result<Result<(), String>, E>,
    ) -> Result<(), E> {
        let cut = || self.damaged(frame, "an entry whose lengths do not add up");
        let mut fields = Fields { rest: &frame.payload };
        match frame.kind {
            BEGIN if !self.in_section => {
                self.begin(frame)?;
                return Ok(());
            }
            COMMIT if self.in_section => {
                let at = fields.position().ok_or_else(cut)?;
                let time_ms = fields.i64().ok_or_else(cut)?;
                if Some(at) != self.next {
                    return Err(self.damaged(frame, format!("commit {at} is out of its place")))?;
                }
                self.next = at.get().checked_add(1).map(Position::new);
                let commit = Entry::Commit { at, time_ms, head: fields.rest };
                self.show(frame, visit, commit)?;
                fields.rest = &[];
            }
            PACKED if self.in_section => {
                while !fields.rest.is_empty() {
                    let (strand, extent) = decode_run(&mut fields).ok_or_else(cut)?;
                    self.show(frame, visit, Entry::Packed { strand, extent })?;
                }
            }
            END if self.in_section => {
                let at = fields.position().ok_or_else(cut)?;
                let time_ms = fields.i64().ok_or_else(cut)?;
                let complete = fields.u8().filter(|flag| *flag < 2).ok_or_else(cut)? == 1;
                if Some(at) != self.next {
                    return Err(self.damaged(frame, format!("it ends at commit {at}, not before")))?;
                }
                (self.in_section, self.ended) = (false, Some((at, complete)));
                self.show(frame, visit, Entry::End { at, time_ms, complete })?;
            }
            _ => return Err(self.damaged(frame, "an entry that does not belong there"))?,
        }
        if fields.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged(frame, "an entry that is too long"))?
        }
    }

    fn begin(&mut self, frame: &Frame) -> Result<(), StreamError> {
        let mut fields = Fields { rest: &frame.payload };
        if fields.array() != Some(*MAGIC) {
            return Err(self.damaged(frame, "a section does not begin as one"));
        }
        match fields.u32() {
            Some(VERSION) => {}
            Some(found) => return Err(self.frames.unknown_version(frame.at, found)),
            None => return Err(self.damaged(frame, "a section without a version")),
        }
        let from = fields.position().filter(|_| fields.rest.is_empty());
        if from.is_none() || self.next.is_some_and(|next| Some(next) != from) {
            return Err(self.damaged(frame, "a section does not go on from the one before"));
        }
        (self.next, self.in_section) = (from, true);
        Ok(())
    }

    fn show<E: From<StreamError>>(
        &self,
        frame: &Frame,
        visit: &mut impl FnMut(Entry<'_>) -> Result<Result<(), String>, E>,
        entry: Entry<'_>,
    ) -> Result<(), E> {
        visit(entry)?.map_err(|why| self.damaged(frame, why).into())
    }
}
