//! The tail: what was appended and is not yet durable, in memory.
//!
//! Frames are copied into chunks. One chunk is being filled; the others are full (or ended by the
//! end of their stretch) and never change again, so that the writer and readers share them without
//! the append lock. A chunk stays until all its bytes are durable: after a failed sync the tail is
//! the only copy that is believed. Durable chunks go back to a pool, so that appending allocates
//! nothing in steady state.
//!
//! A *stretch* is the run of frames that shares a salt and ends up in one segment file (in two,
//! after a failed sync). Where a stretch ends is decided here, when a frame no longer fits; the
//! file is made when the stretch is written out.
//!
//! Not here: files (`crate::writer`) and who waits for what (`crate::commit`).

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::AppendError;
use crate::frame::{self, Header};
use crate::index::{Index, IndexWriter};
use crate::position::{Location, Offset};
use crate::segment::{self, Place};
use crate::waiters::Waiters;

pub(crate) const CHUNK_BYTES: usize = 256 << 10;
const ZEROS: [u8; 8] = [0; 8];

/// Frames that share a salt and a segment file.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Counts stretches since the log was opened.
    pub(crate) number: u64,
    pub(crate) base: Place,
    pub(crate) salt: u64,
    /// No frame before it has a later time.
    pub(crate) newest_ms: i64,
    /// Most bytes of frames.
    pub(crate) bytes_max: u64,
    /// Where its frames are. Appends add to it.
    #[expect(dead_code, reason = "appends feed it; reads follow")]
    pub(crate) index: Arc<Index>,
    /// The stretch after it, once that has begun.
    pub(crate) next: OnceLock<Arc<Self>>,
}

impl Stretch {
    fn new(number: u64, salt: u64, bytes_max: u64, writer: &IndexWriter) -> Arc<Self> {
        let (newest_ms, index) = (writer.newest_ms(), Arc::clone(writer.index()));
        let (base, next) = (index.base(), OnceLock::new());
        Arc::new(Self { number, base, salt, newest_ms, bytes_max, index, next })
    }

    /// Size of the segment file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.bytes_max + segment::HEADER_BYTES as u64
    }
}

/// A chunk that will not change any more.
#[derive(Debug)]
struct Full {
    at: Location,
    bytes: Arc<Vec<u8>>,
    stretch: Arc<Stretch>,
}

impl Full {
    fn end(&self) -> Location {
        self.at.plus(self.bytes.len() as u64)
    }
}

/// The chunk that appends fill. `shell` becomes its home when it is full: allocated with it, so
/// that sealing allocates nothing.
#[derive(Debug)]
struct Filling {
    at: Location,
    bytes: Vec<u8>,
    shell: Arc<Vec<u8>>,
}

/// Bytes of one chunk that are to be written.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) at: Location,
    pub(crate) bytes: Arc<Vec<u8>>,
    /// Where in the chunk to begin.
    pub(crate) skip: usize,
}

/// What the writer is to do next. The pieces come first, then the scratch buffer.
#[derive(Debug)]
pub(crate) struct Batch {
    /// All bytes belong to this stretch.
    pub(crate) stretch: Arc<Stretch>,
    /// The place after the last byte.
    pub(crate) end: Place,
    /// A later stretch has begun.
    pub(crate) more: bool,
    /// No frame up to the end of the stretch has a later time.
    pub(crate) newest_ms: i64,
}

impl Batch {
    /// The rest of `stretch`, which ended where `later` began.
    fn up_to(stretch: Arc<Stretch>, later: &Stretch) -> Self {
        Self { stretch, end: later.base, more: true, newest_ms: later.newest_ms }
    }
}

/// What an append brings along.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// One record each.
    Records(&'a [&'a [u8]]),
    /// One record in parts.
    Parts(&'a [&'a [u8]]),
    /// A mark: no records.
    Mark,
}

impl Payload<'_> {
    /// Bytes of the payload.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Records(records) => {
                records.iter().map(|record| frame::RECORD_PREFIX_BYTES + record.len() as u64).sum()
            }
            Self::Parts(parts) => frame::RECORD_PREFIX_BYTES + total(parts) as u64,
            Self::Mark => 0,
        }
    }

    fn records(&self) -> u32 {
        match self {
            // A payload is at most 1 GiB, and each record takes four bytes of it.
            Self::Records(records) => u32::try_from(records.len()).unwrap_or(u32::MAX),
            Self::Parts(_) => 1,
            Self::Mark => 0,
        }
    }

    /// Shows the payload's bytes in order.
    #[inline]
    fn each_part(&self, mut show: impl FnMut(&[u8])) {
        match self {
            Self::Records(records) => {
                for record in *records {
                    show(&prefix(record.len()));
                    show(record);
                }
            }
            Self::Parts(parts) => {
                show(&prefix(total(parts)));
                parts.iter().for_each(|part| show(part));
            }
            Self::Mark => {}
        }
    }

    /// Measures and sums up: what of an append needs no lock.
    pub(crate) fn measure(self, payload_bytes: u32, timestamp_ms: i64) -> Measured<Self> {
        let mut payload_crc = 0;
        self.each_part(|part| payload_crc = crc32c::crc32c_append(payload_crc, part));
        Measured { payload: self, payload_bytes, payload_crc, timestamp_ms }
    }
}

fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// The length that stands before a record. Records are shorter than an append may be.
fn prefix(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// A payload that is ready to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<P> {
    payload: P,
    payload_bytes: u32,
    payload_crc: u32,
    timestamp_ms: i64,
}

/// Counters of what was appended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Appends {
    pub(crate) appends: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The un-durable end of the log. Guarded by the append lock.
#[derive(Debug)]
pub(crate) struct Tail {
    next: Place,
    stretch: Arc<Stretch>,
    index: IndexWriter,
    filling: Filling,
    full: VecDeque<Full>,
    pool: Vec<Arc<Vec<u8>>>,
    pool_max: usize,
    segment_bytes: u64,
    /// Highest offset that a frame or segment header claims to be durable.
    claimed: Offset,
    durable: Location,
    /// Why appends are refused for good.
    pub(crate) refusal: Option<AppendError>,
    /// The last attempt to write out found no room.
    pub(crate) stuck: bool,
    /// The last attempt to prepare the next segment found no room.
    pub(crate) no_spare: bool,
    pub(crate) appends: Appends,
    /// Those who wait for appends.
    pub(crate) waiters: Waiters,
}

impl Tail {
    pub(crate) fn new(
        next: Place,
        salt: u64,
        newest_ms: i64,
        segment_bytes: u64,
        pool_max: usize,
    ) -> Self {
        let bytes_max = segment_bytes - segment::HEADER_BYTES as u64;
        let mut pool = Vec::with_capacity(pool_max);
        let index = IndexWriter::new(next, bytes_max, newest_ms);
        Self {
            next,
            stretch: Stretch::new(0, salt, bytes_max, &index),
            index,
            filling: Filling::take(&mut pool, next.at),
            full: VecDeque::with_capacity(64),
            pool,
            pool_max,
            segment_bytes,
            claimed: next.offset,
            durable: next.at,
            refusal: None,
            stuck: false,
            no_spare: false,
            appends: Appends::default(),
            waiters: Waiters::default(),
        }
    }

    pub(crate) fn next(&self) -> Place {
        self.next
    }

    pub(crate) fn stretch(&self) -> &Arc<Stretch> {
        &self.stretch
    }

    /// The latest time of any frame; `i64::MIN` when there is none.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.index.newest_ms()
    }

    /// Highest offset that is written somewhere as durable, once everything here is.
    pub(crate) fn claimed(&self) -> Offset {
        self.claimed
    }

    /// Copies one frame in and returns its place. `salt` gives a number that no segment had, should
    /// one begin here.
    pub(crate) fn append(
        &mut self,
        measured: Measured<Payload<'_>>,
        durable: Offset,
        salt: &dyn Fn() -> u64,
    ) -> Result<Place, AppendError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if self.stuck {
            return Err(AppendError::NoSpace);
        }
        let bytes = frame::frame_bytes(measured.payload_bytes);
        if bytes > self.stretch_room() {
            if self.no_spare {
                return Err(AppendError::NoSpace);
            }
            self.begin_stretch(salt(), bytes);
        }
        let place = self.next;
        let header = Header {
            payload_bytes: measured.payload_bytes,
            payload_crc: measured.payload_crc,
            records: measured.payload.records(),
            unsynced_before: u32::try_from(place.offset - durable).unwrap_or(u32::MAX),
            first: place.offset,
            timestamp_ms: measured.timestamp_ms,
        };
        self.claimed = self.claimed.max(header.synced_through());
        self.index.frame(place, header.timestamp_ms);
        self.push(&header.encode(self.stretch.salt, place.at));
        measured.payload.each_part(|part| self.push(part));
        self.push(&ZEROS[..frame::padding(measured.payload_bytes)]);
        self.next = Place { offset: header.next(), at: place.at.plus(bytes) };
        self.appends.bytes += bytes;
        Ok(place)
    }

    /// Bytes that still fit into the stretch; all of them if nothing is in it.
    fn stretch_room(&self) -> u64 {
        self.stretch.bytes_max - (self.next.at.get() - self.stretch.base.at.get())
    }

    /// Whether the stretch holds nothing.
    pub(crate) fn stretch_is_empty(&self) -> bool {
        self.next.at == self.stretch.base.at
    }

    /// Ends the stretch here and begins the next one, large enough for a frame of `bytes`.
    pub(crate) fn begin_stretch(&mut self, salt: u64, bytes: u64) {
        self.seal_filling();
        let bytes_max = bytes.max(self.segment_bytes - segment::HEADER_BYTES as u64);
        let number = self.stretch.number + 1;
        self.index = IndexWriter::new(self.next, bytes_max, self.index.newest_ms());
        let next = Stretch::new(number, salt, bytes_max, &self.index);
        self.stretch.next.get_or_init(|| Arc::clone(&next));
        self.stretch = next;
        self.claimed = self.claimed.max(self.next.offset);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filling.bytes.len() == CHUNK_BYTES {
                self.seal_filling();
            }
            let room = CHUNK_BYTES - self.filling.bytes.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.filling.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    fn seal_filling(&mut self) {
        if self.filling.bytes.is_empty() {
            return;
        }
        let end = self.filling.end();
        let filling = mem::replace(&mut self.filling, Filling::take(&mut self.pool, end));
        let at = filling.at;
        self.full.push_back(Full {
            at,
            bytes: filling.into_shell(),
            stretch: Arc::clone(&self.stretch),
        });
    }

    /// Collects what is to be written from `from` on, up to the end of the stretch that it is in.
    /// What the filling chunk holds is copied into `scratch`, the rest is shared.
    pub(crate) fn collect(
        &self,
        from: Location,
        pieces: &mut Vec<Piece>,
        scratch: &mut Vec<u8>,
    ) -> Batch {
        pieces.clear();
        scratch.clear();
        let first = self.full.partition_point(|chunk| chunk.end() <= from);
        let mut rest = self.full.range(first..).peekable();
        let stretch = Arc::clone(rest.peek().map_or(&self.stretch, |chunk| &chunk.stretch));
        for chunk in rest {
            if chunk.stretch.number != stretch.number {
                return Batch::up_to(stretch, &chunk.stretch);
            }
            pieces.push(piece(chunk, from));
        }
        if self.stretch.number != stretch.number {
            return Batch::up_to(stretch, &self.stretch);
        }
        let skip = from.get().saturating_sub(self.filling.at.get());
        scratch.extend_from_slice(&self.filling.bytes[in_chunk(skip)..]);
        Batch { stretch, end: self.next, more: false, newest_ms: self.newest_ms() }
    }

    /// Copies bytes from `at` on, as many as are here; `None` if that byte is not here any more.
    pub(crate) fn copy(&self, to: &mut [u8], at: Location) -> Option<usize> {
        let mut copied = 0;
        while copied < to.len() {
            let Some(bytes) = self.bytes_from(at.plus(copied as u64)) else { break };
            let n = bytes.len().min(to.len() - copied);
            to[copied..copied + n].copy_from_slice(&bytes[..n]);
            copied += n;
        }
        (copied > 0).then_some(copied)
    }

    fn bytes_from(&self, at: Location) -> Option<&[u8]> {
        let index = self.full.partition_point(|chunk| chunk.end() <= at);
        let (start, bytes) = match self.full.get(index) {
            Some(chunk) => (chunk.at, &*chunk.bytes),
            None => (self.filling.at, &self.filling.bytes),
        };
        bytes.get(in_chunk(at.get().checked_sub(start.get())?)..).filter(|bytes| !bytes.is_empty())
    }

    /// The range as shared pieces of full chunks and a copy of what is in the filling one; `None`
    /// if its beginning is not here any more.
    pub(crate) fn share(&self, at: Location, len: u32) -> Option<Vec<Bytes>> {
        let end = at.plus(u64::from(len));
        let mut parts = Vec::with_capacity(1);
        let mut from = at;
        let first = self.full.partition_point(|chunk| chunk.end() <= at);
        for chunk in self.full.range(first..).take_while(|chunk| chunk.at < end) {
            let start = in_chunk(from.get().checked_sub(chunk.at.get())?);
            let stop = in_chunk(end.min(chunk.end()).get() - chunk.at.get());
            parts.push(Bytes::from_owner(Shared(Arc::clone(&chunk.bytes))).slice(start..stop));
            from = chunk.end();
        }
        if from < end {
            let start = in_chunk(from.get().checked_sub(self.filling.at.get())?);
            let stop = in_chunk(end.get() - self.filling.at.get());
            parts.push(Bytes::copy_from_slice(self.filling.bytes.get(start..stop)?));
        }
        Some(parts)
    }

    /// Whether a mark can go where the log ends now.
    pub(crate) fn can_mark(&self) -> bool {
        self.refusal.is_none() && !self.stuck && self.stretch_room() >= frame::HEADER_BYTES as u64
    }

    /// Bytes that are not durable.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.next.at.get() - self.durable.get()
    }

    /// Lets go of chunks that lie wholly below `durable`; returns how many bytes are above it.
    pub(crate) fn set_durable(&mut self, durable: Location) -> u64 {
        self.durable = durable;
        while self.full.front().is_some_and(|chunk| chunk.end() <= durable) {
            let Some(mut chunk) = self.full.pop_front() else { break };
            if self.pool.len() < self.pool_max
                && let Some(bytes) = Arc::get_mut(&mut chunk.bytes)
            {
                bytes.clear();
                self.pool.push(chunk.bytes);
            }
        }
        if self.full.is_empty() && durable == self.next.at {
            self.filling.bytes.clear();
            self.filling.at = durable;
        }
        self.unsynced_bytes()
    }

    /// Gives the pool's memory back.
    pub(crate) fn drain_pool(&mut self) {
        self.pool.clear();
    }
}

impl Filling {
    fn take(pool: &mut Vec<Arc<Vec<u8>>>, at: Location) -> Self {
        let mut shell = pool.pop().unwrap_or_else(|| Arc::new(Vec::with_capacity(CHUNK_BYTES)));
        let bytes = Arc::get_mut(&mut shell).map(mem::take).unwrap_or_default();
        Self { at, bytes, shell }
    }

    fn end(&self) -> Location {
        self.at.plus(self.bytes.len() as u64)
    }

    fn into_shell(mut self) -> Arc<Vec<u8>> {
        match Arc::get_mut(&mut self.shell) {
            Some(home) => {
                *home = self.bytes;
                self.shell
            }
            None => Arc::new(self.bytes),
        }
    }
}

/// A full chunk that a reader holds.
#[derive(Debug)]
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn piece(chunk: &Full, from: Location) -> Piece {
    let skip = in_chunk(from.get().saturating_sub(chunk.at.get()));
    Piece { at: chunk.at.plus(skip as u64), bytes: Arc::clone(&chunk.bytes), skip }
}

/// A distance that is known to lie within one chunk, or beyond everything.
fn in_chunk(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
