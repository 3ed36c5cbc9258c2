//! The tail: what was appended and is not yet durable, in memory.
//!
//! Frames are copied into chunks. Appends fill the last chunk under the append lock; the writer and
//! readers share what is published of every chunk without it, and it never changes. A chunk stays
//! until all its bytes are durable: after a failed sync the tail is the only copy that is believed.
//! Durable chunks go back to a pool, so that appending allocates nothing in steady state; one
//! that somebody still reads is used again only after that.
//!
//! A *stretch* is the run of frames that shares a salt and ends up in one segment file (in two,
//! after a failed sync). Where a stretch ends is decided here, when a frame no longer fits; the
//! file is made when the stretch is written out.
//!
//! Not here: chunks and how they are shared (`crate::chunk`, `crate::ring`), files
//! (`crate::writer`) and who waits for what (`crate::commit`).

use std::mem;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::chunk::{self, CHUNK_BYTES, Chunk, Filling, Phase};
use crate::crc;
use crate::error::AppendError;
use crate::frame::{self, HEADER_BYTES, Header};
use crate::index::{self, Index, IndexWriter};
use crate::position::{Location, Offset};
use crate::ring::Ring;
use crate::segment::{self, Place};
use crate::waiters::Waiters;

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

    /// How its memory is to lie. The rest of a chunk in which it begins lies as the stretch before it.
    fn phase(&self) -> Phase {
        Phase::of(self.base.at, segment::HEADER_BYTES as u64)
    }

    /// Size of the segment file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.bytes_max + segment::HEADER_BYTES as u64
    }
}

/// Bytes of one chunk that are to be written.
#[derive(Debug)]
pub(crate) struct Piece {
    chunk: Arc<Chunk>,
    /// Within what the chunk holds.
    range: Range<usize>,
}

impl Piece {
    /// Where the first byte belongs.
    pub(crate) fn at(&self) -> Location {
        self.chunk.location(self.range.start)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.chunk.bytes(self.range.clone()).expect("a piece is cut from what was published")
    }
}

/// What the writer is to do next.
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
                    show(&prefix(record.len()).to_le_bytes());
                    show(record);
                }
            }
            Self::Parts(parts) => {
                show(&prefix(total(parts)).to_le_bytes());
                parts.iter().for_each(|part| show(part));
            }
            Self::Mark => {}
        }
    }

    /// Measures and sums up: what of an append needs no lock.
    #[inline]
    pub(crate) fn measure(self, payload_bytes: u32, timestamp_ms: i64) -> Measured<Self> {
        let payload_crc = match self {
            Self::Records(records) => records
                .iter()
                .fold(0, |crc, record| crc::append_prefixed(crc, prefix(record.len()), record)),
            Self::Parts(parts) => {
                let crc = crc::append_prefixed(0, prefix(total(parts)), &[]);
                parts.iter().fold(crc, |crc, part| crc::append(crc, part))
            }
            Self::Mark => 0,
        };
        Measured { payload: self, payload_bytes, payload_crc, timestamp_ms }
    }
}

fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// The length that stands before a record. Records are shorter than an append may be.
fn prefix(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
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
    /// The first stretch that is not wholly durable.
    oldest: Arc<Stretch>,
    index: IndexWriter,
    /// For the next stretch's index, made before that begins.
    next_index: Option<index::Room>,
    ring: Arc<Ring>,
    /// The last chunk. It is in the ring, too.
    filling: Filling,
    /// Number of the first chunk in the ring; there is one for each number from there on.
    first: u64,
    pool: Vec<Arc<Chunk>>,
    pool_max: usize,
    segment_bytes: u64,
    /// How old a stretch may grow, in milliseconds.
    age_max_ms: Option<i64>,
    /// When the stretch is too old; never for an empty one.
    expires_ms: i64,
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
    /// An empty tail. It keeps at most `pool_max` chunks that it does not use.
    pub(crate) fn new(
        next: Place,
        salt: u64,
        newest_ms: i64,
        segment_bytes: u64,
        pool_max: usize,
    ) -> Self {
        let bytes_max = segment_bytes - segment::HEADER_BYTES as u64;
        let index = IndexWriter::new(next, bytes_max, newest_ms);
        let stretch = Stretch::new(0, salt, bytes_max, &index);
        let mut pool = Vec::with_capacity(pool_max);
        let filling = begin_chunk(&mut pool, next.at, stretch.phase());
        let ring = Ring::new(pool_max + 2);
        ring.put(Arc::clone(filling.chunk()));
        Self {
            next,
            oldest: Arc::clone(&stretch),
            stretch,
            index,
            next_index: None,
            ring: Arc::new(ring),
            first: filling.chunk().number(),
            filling,
            pool,
            pool_max,
            segment_bytes,
            age_max_ms: None,
            expires_ms: i64::MAX,
            claimed: next.offset,
            durable: next.at,
            refusal: None,
            stuck: false,
            no_spare: false,
            appends: Appends::default(),
            waiters: Waiters::default(),
        }
    }

    /// Ends stretches that are older than this.
    #[must_use]
    pub(crate) fn with_age_max(mut self, age_max: Option<Duration>) -> Self {
        self.age_max_ms = age_max.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        self
    }

    /// How long it is until the stretch is too old; `None` when it will not be, or cannot be ended.
    pub(crate) fn expires_in(&self, now_ms: i64) -> Option<Duration> {
        let can_end = self.refusal.is_none() && !self.stuck && !self.no_spare;
        let ms = self.expires_ms.saturating_sub(now_ms).max(0).cast_unsigned();
        (can_end && self.expires_ms != i64::MAX).then(|| Duration::from_millis(ms))
    }

    /// Says that the stretch, if it is too old, could not be ended before then.
    pub(crate) fn expire_at(&mut self, then_ms: i64) {
        if self.expires_ms != i64::MAX {
            self.expires_ms = then_ms;
        }
    }

    /// Where readers find what is in memory.
    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
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

    /// Copies one frame in and returns where it begins and ends. `salt` gives a number that no segment had, should
    /// one begin here.
    #[inline]
    pub(crate) fn append(
        &mut self,
        measured: Measured<Payload<'_>>,
        durable: Offset,
        salt: &dyn Fn() -> u64,
    ) -> Result<Range<Place>, AppendError> {
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
        } else if measured.timestamp_ms >= self.expires_ms && !self.no_spare {
            self.begin_stretch(salt(), bytes);
        }
        if let Some(age_max) = self.age_max_ms.filter(|_| self.stretch_is_empty()) {
            self.expires_ms = measured.timestamp_ms.saturating_add(age_max);
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
        self.put(&header, place.at, &measured);
        let next = Place { offset: header.next(), at: place.at.plus(bytes) };
        self.next = next;
        self.appends.bytes += bytes;
        Ok(place..next)
    }

    /// Bytes that still fit into the stretch; all of them if nothing is in it.
    fn stretch_room(&self) -> u64 {
        self.stretch.bytes_max - (self.next.at.get() - self.stretch.base.at.get())
    }

    /// Whether the stretch holds nothing.
    pub(crate) fn stretch_is_empty(&self) -> bool {
        self.next.at == self.stretch.base.at
    }

    /// Whether the stretch can be ended: it holds something, and appends are taken.
    pub(crate) fn can_end_stretch(&self) -> bool {
        !self.stretch_is_empty() && self.refusal.is_none()
    }

    /// Whether nobody made room for the next stretch's index yet.
    pub(crate) fn wants_index(&self) -> bool {
        self.next_index.is_none()
    }

    /// Takes room for the next stretch's index.
    pub(crate) fn take_index(&mut self, room: index::Room) {
        self.next_index.get_or_insert(room);
    }

    /// Ends the stretch here and begins the next one, large enough for a frame of `bytes`.
    #[cold]
    pub(crate) fn begin_stretch(&mut self, salt: u64, bytes: u64) {
        let bytes_max = bytes.max(self.segment_bytes - segment::HEADER_BYTES as u64);
        let number = self.stretch.number + 1;
        let room = self.next_index.take().unwrap_or_else(|| index::Room::new(bytes_max));
        self.index = IndexWriter::with_room(self.next, bytes_max, self.index.newest_ms(), room);
        let next = Stretch::new(number, salt, bytes_max, &self.index);
        self.stretch.next.get_or_init(|| Arc::clone(&next));
        self.stretch = next;
        self.expires_ms = i64::MAX;
        self.claimed = self.claimed.max(self.next.offset);
    }

    /// Copies a frame in.
    #[inline]
    fn put(&mut self, header: &Header, at: Location, measured: &Measured<Payload<'_>>) {
        if self.filling.position() >= CHUNK_BYTES {
            self.next_chunk();
        }
        let salt = self.stretch.salt;
        let padding = frame::padding(measured.payload_bytes);
        let bytes = HEADER_BYTES + measured.payload_bytes as usize + padding;
        let Some(frame) = self.filling.room().get_mut(..bytes) else {
            return self.put_in_pieces(&header.encode(salt, at), measured, padding);
        };
        // The padding is in the last word, which the rest may go over.
        if let Some(last) = frame.last_chunk_mut() {
            *last = ZEROS;
        }
        let (head, mut rest) = frame.split_first_chunk_mut().expect("a frame is at least a header");
        header.encode_to(head, salt, at);
        measured.payload.each_part(|part| {
            let (now, later) = mem::take(&mut rest).split_at_mut(part.len());
            now.copy_from_slice(part);
            rest = later;
        });
        self.filling.publish(bytes);
    }

    /// Copies a frame in that goes on in the next chunk.
    #[cold]
    fn put_in_pieces(&mut self, header: &[u8], measured: &Measured<Payload<'_>>, padding: usize) {
        self.push(header);
        measured.payload.each_part(|part| self.push(part));
        self.push(&ZEROS[..padding]);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let position = self.filling.position();
            if position >= CHUNK_BYTES {
                self.next_chunk();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - position));
            self.filling.room()[..now.len()].copy_from_slice(now);
            self.filling.publish(now.len());
            bytes = later;
        }
    }

    #[cold]
    fn next_chunk(&mut self) {
        let (at, phase) = (self.filling.chunk().end(), self.stretch.phase());
        self.filling = begin_chunk(&mut self.pool, at, phase);
        self.ring.put(Arc::clone(self.filling.chunk()));
    }

    /// Collects what is to be written from `from` on, up to the end of the stretch that it is in.
    pub(crate) fn collect(&self, from: Location, pieces: &mut Vec<Piece>) -> Batch {
        pieces.clear();
        let mut stretch = &self.oldest;
        while let Some(next) = stretch.next.get().filter(|next| next.base.at <= from) {
            stretch = next;
        }
        let batch = match stretch.next.get() {
            Some(later) => Batch::up_to(Arc::clone(stretch), later),
            None => Batch {
                stretch: Arc::clone(stretch),
                end: self.next,
                more: false,
                newest_ms: self.newest_ms(),
            },
        };
        // Its first byte may hang over from the stride before.
        let first = chunk::number_of(from).saturating_sub(1).max(self.first);
        for number in first..=self.filling.chunk().number() {
            let chunk = self.ring.chunk(number);
            pieces.extend(chunk.and_then(|chunk| piece(chunk, from, batch.end.at)));
        }
        batch
    }

    /// Whether a mark can go where the log ends now.
    pub(crate) fn can_mark(&self) -> bool {
        self.refusal.is_none() && !self.stuck && self.stretch_room() >= HEADER_BYTES as u64
    }

    /// Bytes that are not durable.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.next.at.get() - self.durable.get()
    }

    /// Lets go of chunks that lie wholly below `durable`; returns how many bytes are above it.
    pub(crate) fn set_durable(&mut self, durable: Location) -> u64 {
        self.durable = durable;
        while self.first < self.filling.chunk().number() {
            let number = self.first;
            if self.ring.chunk(number).is_some_and(|chunk| chunk.end() > durable) {
                break;
            }
            self.first += 1;
            if let Some(chunk) = self.ring.take(number) {
                self.keep(chunk);
            }
        }
        while let Some(next) = self.oldest.next.get().filter(|next| next.base.at <= durable) {
            self.oldest = Arc::clone(next);
        }
        self.unsynced_bytes()
    }

    /// Puts a chunk into the pool. In a full one it replaces a chunk that somebody still reads.
    fn keep(&mut self, chunk: Arc<Chunk>) {
        if self.pool.len() < self.pool_max {
            self.pool.push(chunk);
        } else if let Some(at) = self.pool.iter_mut().position(|held| Arc::get_mut(held).is_none())
        {
            self.pool[at] = chunk;
        }
    }

    /// Gives the pool's memory back.
    pub(crate) fn drain_pool(&mut self) {
        self.pool.clear();
    }
}

/// Begins a chunk with memory from the pool that nobody reads any more, or with new memory.
fn begin_chunk(pool: &mut Vec<Arc<Chunk>>, at: Location, phase: Phase) -> Filling {
    let free = pool.iter_mut().rposition(|chunk| Arc::get_mut(chunk).is_some());
    let reused = free.and_then(|index| Filling::begin(pool.swap_remove(index), at, phase));
    reused.unwrap_or_else(|| {
        Filling::begin(Chunk::allocate(), at, phase).expect("nobody else knows of a new chunk")
    })
}

/// What a chunk holds between two locations.
fn piece(chunk: Arc<Chunk>, from: Location, to: Location) -> Option<Piece> {
    let held = chunk.held();
    let start = chunk.position(from).unwrap_or(0).max(held.start);
    let end = chunk.position(to)?.min(held.end);
    (start < end).then_some(Piece { chunk, range: start..end })
}

#[cfg(test)]
mod tests;
