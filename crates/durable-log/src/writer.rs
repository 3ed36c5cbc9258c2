//! Writing out: from memory to segment files, and what happens when that goes wrong.
//!
//! *No room* is not a failure: what could not be written stays in memory in order, appends are
//! refused, and a later call tries again. To make it rare the next segment is prepared, with its
//! room reserved, when the active one is half full.
//!
//! *A failed sync* means that nobody knows what the file holds after its last durable byte, and
//! that the page cache may show what the disk has not. The segment ends at that byte, a new one
//! begins there, and what follows is written to it from memory and synced. If that fails too, or
//! any other error happens that leaves a file's state unknown, the log fails.

use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use crate::commit::Suspect;
use crate::core::{Core, lock};
use crate::error::WriteError;
use crate::files::FileRef;
use crate::index;
use crate::mutation::{Step, left_out};
use crate::segment::{self, Header, Place, Segment};
use crate::spare::{self, Blank};
use crate::sync::MutexGuard;
use crate::tail::{Piece, Stretch};
use crate::waiters::Woken;

/// What is being written where. Guarded by the write lock.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The stretch that the active segment holds.
    stretch: Arc<Stretch>,
    written: Place,
    /// The next segment's file.
    spare: Option<Blank>,
    /// The segment that ended early and has its room still, by its number.
    roomy: Option<u64>,
    /// To be woken once the lock is let go.
    pub(crate) woken: Woken,
    // Kept for its memory.
    pieces: Vec<Piece>,
}

impl Writer {
    pub(crate) fn new(stretch: Arc<Stretch>, written: Place) -> Self {
        Self {
            stretch,
            written,
            spare: None,
            roomy: None,
            woken: Woken::default(),
            pieces: Vec::new(),
        }
    }

    /// Whether the next segment's file should be there and is not.
    fn wants_spare(&self) -> bool {
        let used = self.written.at.get() - self.stretch.base.at.get();
        self.spare.is_none() && used >= self.stretch.bytes_max / 2
    }

    /// Takes the next segment's file; returns whether there was no room for one.
    fn take_spare(&mut self, made: io::Result<Blank>) -> bool {
        match made {
            Ok(blank) => {
                self.spare = Some(blank);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "the next segment could not be prepared");
                spare::is_no_space(&error)
            }
        }
    }

    /// Writes what was collected, in order, straight from the chunks.
    fn put(&self, segment: &Segment) -> io::Result<()> {
        let file = segment.file()?;
        for piece in &self.pieces {
            file.write_all_at(piece.bytes(), segment.position(piece.at()))?;
        }
        Ok(())
    }
}

impl Core {
    /// Hands everything that is appended now to the operating system.
    pub(crate) fn write_out(&self) -> Result<Place, WriteError> {
        self.write_out_quietly(&mut Woken::default())
    }

    /// [`Core::write_out`], but whoever is served is woken when `woken` is dropped.
    pub(crate) fn write_out_quietly(&self, woken: &mut Woken) -> Result<Place, WriteError> {
        let wanted = self.published.appended_at();
        if self.published.written_at() >= wanted && !self.is_troubled() {
            return Ok(Place { offset: self.published.written(), at: wanted });
        }
        let mut writer = self.writer();
        let result = self.write_out_locked(&mut writer);
        woken.append(mem::take(&mut writer.woken));
        result
    }

    /// Whether there is something to try again although nothing may be left to write.
    fn is_troubled(&self) -> bool {
        let tail = self.tail();
        tail.stuck || tail.no_spare || self.has_ended()
    }

    pub(crate) fn write_out_locked(&self, writer: &mut Writer) -> Result<Place, WriteError> {
        let result = self.write_stretches(writer);
        if matches!(result, Ok(_) | Err(WriteError::NoSpace)) {
            self.tail().stuck = result.is_err();
        }
        result?;
        self.prepare(writer);
        Ok(writer.written)
    }

    fn write_stretches(&self, writer: &mut Writer) -> Result<(), WriteError> {
        loop {
            self.check_alive()?;
            let batch = self.tail().collect(writer.written.at, &mut writer.pieces);
            if batch.stretch.number != writer.stretch.number {
                self.roll_to(writer, &batch.stretch)?;
                // A rescue on the way may have used the pieces: collect again.
                continue;
            }
            if batch.end.at > writer.written.at {
                let active = self.active();
                let put = writer.put(&active);
                // Chunks must not stay shared, or they cannot be used again.
                writer.pieces.clear();
                put.map_err(|error| self.write_failed(writer, &active.path, "its frames", &error))?;
                self.advance_written(writer, batch.end);
            }
            if !batch.more {
                return Ok(());
            }
        }
    }

    fn advance_written(&self, writer: &mut Writer, end: Place) {
        writer.written = end;
        let mut progress = self.progress();
        progress.written = end;
        self.published.set_written(end);
        progress.for_written.take_reached(end.offset, &mut writer.woken);
    }

    fn write_failed(
        &self,
        writer: &mut Writer,
        segment: &Path,
        what: &str,
        error: &io::Error,
    ) -> WriteError {
        if spare::is_no_space(error) {
            return WriteError::NoSpace;
        }
        let why = format!("{}: writing {what}: {error}", segment.display());
        self.fail(why, &mut writer.woken).into()
    }

    pub(crate) fn check_alive(&self) -> Result<(), WriteError> {
        self.progress().check_alive()
    }

    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(&self.progress().active)
    }

    /// Ends the active segment, durably, and begins the one for `stretch`.
    fn roll_to(&self, writer: &mut Writer, stretch: &Arc<Stretch>) -> Result<(), WriteError> {
        {
            let sync = lock(&self.sync);
            if !left_out(Step::SyncBeforeRoll) {
                self.settle(writer, &sync)?;
            }
        }
        let old = self.active();
        let blank = self.take_blank(writer, stretch);
        let header = self.header_after(&old, stretch, stretch.base, stretch.newest_ms);
        let bytes = stretch.file_bytes();
        let new = blank.and_then(|blank| self.establish(blank, header, bytes, &mut |_| Ok(())));
        let new = new.map_err(|error| {
            self.write_failed(writer, &old.path, "the segment after it", &error)
        })?;
        self.cut_if_useless(writer, &old);
        self.activate(&old, writer.written, new, stretch);
        self.keep_index(&old, writer.written);
        writer.stretch = Arc::clone(stretch);
        Ok(())
    }

    /// Makes everything written durable, wherever it then is.
    pub(crate) fn settle(
        &self,
        writer: &mut Writer,
        sync: &MutexGuard<'_, ()>,
    ) -> Result<(), WriteError> {
        match self.sync_written(sync) {
            Ok(woken) => {
                writer.woken.append(woken);
                Ok(())
            }
            Err(Suspect(woken)) => {
                writer.woken.append(woken);
                self.rescue(writer, sync)
            }
        }
    }

    /// The prepared file, or one made now.
    fn take_blank(&self, writer: &mut Writer, stretch: &Stretch) -> io::Result<Blank> {
        match writer.spare.take() {
            Some(spare) => Ok(spare),
            None => self.blank(stretch.file_bytes()),
        }
    }

    /// What the segment after `old` says of itself when it takes `stretch` from `base` on.
    fn header_after(
        &self,
        old: &Segment,
        stretch: &Stretch,
        base: Place,
        newest_ms: i64,
    ) -> Header {
        Header {
            number: old.header.number + 1,
            base,
            salt: stretch.salt,
            created_ms: self.now_ms(),
            epoch: self.published.epoch(),
            newest_ms,
            stale_bytes: 0,
        }
    }

    fn establish(
        &self,
        blank: Blank,
        header: Header,
        bytes: u64,
        fill: &mut dyn FnMut(&Segment) -> io::Result<()>,
    ) -> io::Result<Arc<Segment>> {
        segment::establish(&self.files, &self.dir, blank, header, bytes, fill).map(Arc::new)
    }

    /// Gives the room behind the end of a segment back that ends here, unless its file would be kept if it was
    /// trimmed now: who ends a segment early mostly trims it next. Then the end of the next one is soon enough.
    fn cut_if_useless(&self, writer: &mut Writer, segment: &Segment) {
        self.cut_roomy(writer);
        match self.keepable(segment, 0) {
            Some(_) => writer.roomy = Some(segment.header.number),
            None => self.cut(segment, writer.written),
        }
    }

    /// Gives the room back that an earlier segment was left with, unless it was trimmed.
    pub(crate) fn cut_roomy(&self, writer: &mut Writer) {
        let Some(number) = writer.roomy.take() else { return };
        let segments = self.segments();
        let roomy = segments.files.iter().find(|segment| segment.header.number == number);
        if let Some((segment, end)) = roomy.and_then(|segment| Some((segment, segment.end()?))) {
            self.cut(segment, end);
        }
    }

    /// Gives the room behind the end of a segment back, unless it is so little that the file is worth
    /// more whole, as a later segment's. It is never read, so an error costs only room.
    pub(crate) fn cut(&self, segment: &Segment, end: Place) {
        let position = segment.position(end.at);
        let little = self.options.segment_bytes / 16;
        let cut = |file: FileRef| match file.size()? > position + little {
            true => file.set_size(position),
            false => Ok(()),
        };
        let result = segment.file().and_then(cut);
        if let Err(error) = result {
            tracing::debug!(path = %segment.path.display(), %error, "unused room of a segment stays reserved");
        }
    }

    fn activate(&self, old: &Segment, old_end: Place, new: Arc<Segment>, stretch: &Arc<Stretch>) {
        old.seal(old_end);
        new.access.set_index(&stretch.index);
        self.change_segments(|list| {
            list.files.push(Arc::clone(&new));
            list.stretch = Arc::clone(stretch);
        });
        self.progress().active = new;
        old.release_file();
    }

    /// After a failed sync: ends the active segment at its last durable byte and writes the rest
    /// from memory to a new one. Does nothing when somebody else did it already.
    pub(crate) fn rescue(
        &self,
        writer: &mut Writer,
        _sync: &MutexGuard<'_, ()>,
    ) -> Result<(), WriteError> {
        let (old, durable) = {
            let progress = self.progress();
            progress.check_alive::<WriteError>()?;
            if !progress.suspect {
                return Ok(());
            }
            (Arc::clone(&progress.active), progress.durable)
        };
        tracing::warn!(
            segment = %old.path.display(), durable = %durable.offset,
            "a sync failed; writing what is not durable again, to a new segment"
        );
        match self.rewrite(writer, &old, durable) {
            Ok((new, end)) => {
                self.activate(&old, durable, new, &writer.stretch);
                self.cut(&old, durable);
                self.keep_index(&old, durable);
                self.progress().suspect = false;
                self.advance_written(writer, end);
                writer.woken.append(self.publish_durable(end));
                Ok(())
            }
            Err(error) => {
                let why = format!(
                    "a sync of {} failed, and so did the rescue: {error}",
                    old.path.display()
                );
                Err(self.fail(why, &mut writer.woken).into())
            }
        }
    }

    fn rewrite(
        &self,
        writer: &mut Writer,
        old: &Segment,
        durable: Place,
    ) -> io::Result<(Arc<Segment>, Place)> {
        let batch = self.tail().collect(durable.at, &mut writer.pieces);
        assert_eq!(
            batch.stretch.number, writer.stretch.number,
            "the tail holds all that is not durable"
        );
        // All that is rewritten becomes durable, also what was appended since the sync that failed.
        if !left_out(Step::AskBeforeRescue) {
            self.before_sync(batch.end.offset)?;
        }
        let blank = self.take_blank(writer, &batch.stretch)?;
        let mut fill = |segment: &Segment| writer.put(segment);
        let header = self.header_after(old, &batch.stretch, durable, batch.newest_ms);
        let new = self.establish(blank, header, batch.stretch.file_bytes(), &mut fill);
        writer.pieces.clear();
        Ok((new?, batch.end))
    }

    /// Sees to the next segment's file once the active one is half full. The committer makes it if
    /// there is one, so that nobody who waits for the disk waits for that too.
    fn prepare(&self, writer: &mut Writer) {
        if !writer.wants_spare() {
            // None is needed yet, whatever an earlier segment's end found.
            self.tail().no_spare = false;
        } else if !self.takes_no_more() && !self.want_spare() {
            self.prepare_index();
            let made = self.blank(self.options.segment_bytes);
            self.tail().no_spare = writer.take_spare(made);
        }
    }

    /// Makes room for the next stretch's index, so that no append waits for that.
    fn prepare_index(&self) {
        if self.tail().wants_index() {
            let bytes_max = self.options.segment_bytes - segment::HEADER_BYTES as u64;
            let room = index::Room::new(bytes_max);
            self.tail().take_index(room);
        }
    }

    /// Makes the next segment's file without keeping writers from theirs.
    pub(crate) fn prepare_ahead(&self) {
        if self.takes_no_more() || !self.writer().wants_spare() {
            return;
        }
        self.prepare_index();
        let made = self.blank(self.options.segment_bytes);
        let mut writer = self.writer();
        if writer.spare.is_some() || self.takes_no_more() {
            // Somebody could not wait for it, or nobody needs it any more.
            made.map_or_else(drop, |blank| spare::discard(&self.host, blank));
            return;
        }
        self.tail().no_spare = writer.take_spare(made);
    }

    /// Whether appends are refused, for good or until a cut is done.
    fn takes_no_more(&self) -> bool {
        self.tail().refusal.is_some()
    }

    /// Ends the stretch here, and the segment with it, unless it is empty or the log was closed.
    pub(crate) fn roll(&self) -> Result<(), WriteError> {
        let mut writer = self.writer();
        self.check_alive()?;
        if self.tail().can_end_stretch() {
            // The file first: once the stretch has ended, appends need it.
            if writer.spare.is_none() {
                match self.blank(self.options.segment_bytes) {
                    Ok(blank) => writer.spare = Some(blank),
                    Err(error) => {
                        let what = "the next segment";
                        return Err(self.write_failed(&mut writer, &self.dir, what, &error));
                    }
                }
            }
            self.prepare_index();
            let mut tail = self.tail();
            if tail.can_end_stretch() {
                let salt = self.host.random.next_u64();
                tail.begin_stretch(salt, 0);
            }
        }
        self.write_out_locked(&mut writer).map(drop)
    }

    /// Removes the files that were meant for later segments.
    pub(crate) fn discard_spare(&self, writer: &mut Writer) {
        if let Some(spare) = writer.spare.take() {
            spare::discard(&self.host, spare);
        }
        self.discard_kept();
    }
}
