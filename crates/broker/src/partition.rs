//! One partition behind its lock: load at first use, append, and what readers must know before they read.
//!
//! The lock is held across one commit and never across a wait. Readers hold it only to plan.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strands::{Commit, CommitError, Position, Strands, Ticket};
use tokio::sync::Notify;

use crate::batch::{Header, Stamped, stamp};
use crate::error::{AppendFault, Fault, FetchError, ProduceError};
use crate::rows::{self, Epoch, PartitionKey, Place, Segment};
use crate::state::{InFlight, State};
use crate::types::{Durability, Options, PartitionStatus, RecordOffset};

/// What all partitions share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) strands: Strands,
    pub(crate) options: Options,
    /// The leader epoch of this opening.
    pub(crate) epoch: i32,
}

#[derive(Debug)]
pub(crate) struct Partition {
    key: PartitionKey,
    durability: Durability,
    life: Mutex<Life>,
    /// Told after each append and when the topic is deleted.
    changed: Notify,
}

#[derive(Debug)]
enum Life {
    Unloaded,
    Loaded(Box<State>),
    /// The fate of a commit is unknown: read again before the next append. What is visible stands.
    Doubtful(Box<State>),
    Deleted,
}

/// What a reader may read, and where to begin looking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) log_start: RecordOffset,
    pub(crate) high_watermark: RecordOffset,
    /// `None`: there is nothing to read at the high watermark.
    pub(crate) start: Option<Start>,
}

/// The segment that holds an offset, and a batch at or before it if one is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) segment: Segment,
    pub(crate) place: Option<Place>,
}

/// How far away data beyond an offset is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    Visible,
    /// Stored, and visible when the journal has come here.
    At(Position),
    NotYet,
}

/// A batch that was stored, and the ticket of its commit.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) base: RecordOffset,
    pub(crate) log_start: RecordOffset,
    pub(crate) ticket: Ticket,
}

/// Where the next batch goes.
#[derive(Clone, Copy, Debug)]
struct Target {
    segment: Segment,
    is_new_segment: bool,
    is_indexed: bool,
    epoch: Option<Epoch>,
}

impl Partition {
    pub(crate) fn new(key: PartitionKey, durability: Durability) -> Self {
        Self { key, durability, life: Mutex::new(Life::Unloaded), changed: Notify::new() }
    }

    pub(crate) const fn key(&self) -> PartitionKey {
        self.key
    }

    pub(crate) const fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) const fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Stores a batch that was checked.
    pub(crate) fn append(
        &self,
        context: &Context,
        header: &Header,
        batch: Bytes,
    ) -> Result<Stored, ProduceError> {
        let mut life = self.lock();
        let state = self.writable(&mut life, &context.strands)?;
        let base = state.next;
        if base.checked_add(i64::from(header.record_count)).is_none() {
            return Err(AppendFault::Invalid("the partition has no offsets left").into());
        }
        let header = Header { base_offset: base, ..*header };
        let target = target(state, context, &header)?;
        let commit = self.compose(state, &target, stamp(batch, base, context.epoch));
        match context.strands.commit(commit) {
            Ok(ticket) => {
                let stored = note_stored(state, &target, &header, ticket);
                drop(life);
                self.changed.notify_waiters();
                Ok(stored)
            }
            Err(error @ (CommitError::TooLarge { .. } | CommitError::Overloaded { .. })) => {
                Err(error.into())
            }
            Err(error @ (CommitError::NoSpace | CommitError::Failed(_))) => {
                doubt(&mut life);
                Err(error.into())
            }
        }
    }

    /// The one commit of a batch: its bytes, and the rows that must come with it.
    fn compose(&self, state: &State, target: &Target, batch: Stamped) -> Commit {
        let mut commit = Commit::new();
        let Segment { base, strand, bytes: at } = target.segment;
        if target.is_new_segment {
            if let Some(last) = state.segments.last() {
                rows::put_sealed_segment(&mut commit, self.key, last);
            }
            rows::put_open_segment(&mut commit, self.key, &Segment { base, strand, bytes: 0 });
        }
        if target.is_indexed {
            let place = Place { base: state.next, strand, at };
            rows::put_index(&mut commit, self.key, &state.index_entry(place));
        }
        if let Some(epoch) = target.epoch {
            rows::put_epoch(&mut commit, self.key, epoch);
        }
        match batch {
            Stamped::Whole(bytes) => commit.write(strand, at, bytes),
            Stamped::Parts(head, rest) => {
                let rest_at = at + u64::try_from(head.len()).unwrap_or(u64::MAX);
                commit.write(strand, at, head).write(strand, rest_at, rest)
            }
        };
        commit
    }

    /// What may be read from `offset`.
    pub(crate) fn view(&self, strands: &Strands, offset: RecordOffset) -> Result<View, FetchError> {
        self.with(strands, |state| {
            let (log_start, high_watermark) = bounds(state);
            let view = |start| View { log_start, high_watermark, start };
            if offset < log_start || offset > high_watermark {
                return Err(FetchError::OutOfRange { log_start, high_watermark });
            }
            if offset == high_watermark {
                return Ok(view(None));
            }
            let segment = state.segment_of(offset.get());
            Ok(view(
                segment.map(|segment| Start {
                    segment,
                    place: state.remembered(&segment, offset.get()),
                }),
            ))
        })?
    }

    /// How far away data beyond `offset` is.
    pub(crate) fn data(&self, strands: &Strands, offset: RecordOffset) -> Result<Data, Fault> {
        self.with(strands, |state| {
            if state.visible > offset.get() {
                return Data::Visible;
            }
            state.awaited(offset.get()).map_or(Data::NotYet, Data::At)
        })
    }

    /// What there is to see.
    pub(crate) fn status(&self, strands: &Strands) -> Result<PartitionStatus, Fault> {
        self.with(strands, |state| {
            let (log_start, high_watermark) = bounds(state);
            PartitionStatus {
                log_start,
                high_watermark,
                end: offset(state.next),
                bytes: state.bytes(),
            }
        })
    }

    /// Remembers where a read ended.
    pub(crate) fn remember(&self, place: Place) {
        if let Life::Loaded(state) = &mut *self.lock() {
            state.remember(place);
        }
    }

    /// Ends the partition: every call from now on says that the topic does not exist.
    pub(crate) fn retire(&self) {
        *self.lock() = Life::Deleted;
        self.changed.notify_waiters();
    }

    /// What a failed read means: bytes of a deleted topic are missing for a good reason.
    pub(crate) fn explain(&self, fault: Fault) -> Fault {
        match *self.lock() {
            Life::Deleted => Fault::UnknownTopic,
            Life::Unloaded | Life::Loaded(_) | Life::Doubtful(_) => fault,
        }
    }

    /// Looks at the state, loaded and with the newest high watermark.
    pub(crate) fn with<T>(
        &self,
        strands: &Strands,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T, Fault> {
        let mut life = self.lock();
        if matches!(*life, Life::Unloaded) {
            *life = Life::Loaded(Box::new(State::load(strands, self.key)?));
        }
        match &mut *life {
            Life::Deleted | Life::Unloaded => Err(Fault::UnknownTopic),
            Life::Loaded(state) | Life::Doubtful(state) => {
                self.advance(state, strands);
                Ok(look(state))
            }
        }
    }

    /// The state, loaded and sure of its end.
    fn writable<'a>(&self, life: &'a mut Life, strands: &Strands) -> Result<&'a mut State, Fault> {
        match life {
            Life::Unloaded => *life = Life::Loaded(Box::new(State::load(strands, self.key)?)),
            Life::Doubtful(state) => {
                *life = Life::Loaded(Box::new(state.reload(strands, self.key)?))
            }
            Life::Loaded(_) | Life::Deleted => {}
        }
        match life {
            Life::Loaded(state) => {
                if state.in_flight.len() >= IN_FLIGHT_LOOK {
                    self.advance(state, strands);
                }
                Ok(state)
            }
            Life::Unloaded | Life::Doubtful(_) | Life::Deleted => Err(Fault::UnknownTopic),
        }
    }

    fn advance(&self, state: &mut State, strands: &Strands) {
        if state.in_flight.is_empty() {
            return;
        }
        let positions = strands.positions();
        state.advance(match self.durability {
            Durability::Synced => positions.durable,
            Durability::Written => positions.written,
        });
    }

    /// The state is whole at any time, so that a panic elsewhere does not spread.
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches in flight beyond which an append looks for those that arrived.
const IN_FLIGHT_LOOK: usize = 32;

/// Chooses the segment for a batch, and what must be noted with it.
fn target(state: &State, context: &Context, header: &Header) -> Result<Target, CommitError> {
    let size = u64::try_from(header.bytes).unwrap_or(u64::MAX);
    let fits = |last: &&Segment| last.bytes.saturating_add(size) <= context.options.segment_bytes;
    let (segment, is_new_segment) = match state.segments.last().filter(fits) {
        Some(last) => (*last, false),
        None => {
            let strand = context.strands.mint()?;
            (Segment { base: header.base_offset, strand, bytes: 0 }, true)
        }
    };
    let is_new_epoch = state.epochs.last().is_none_or(|last| last.epoch != context.epoch);
    Ok(Target {
        segment,
        is_new_segment,
        is_indexed: is_new_segment || state.unindexed_bytes >= context.options.index_bytes,
        epoch: is_new_epoch.then_some(Epoch { epoch: context.epoch, start: header.base_offset }),
    })
}

/// Takes note of a batch whose commit happened.
fn note_stored(state: &mut State, target: &Target, header: &Header, ticket: Ticket) -> Stored {
    if target.is_new_segment {
        state.segments.push(target.segment);
    }
    if target.is_indexed {
        state.unindexed_bytes = 0;
    }
    state.epochs.extend(target.epoch);
    let Segment { strand, bytes: at, .. } = target.segment;
    state.note(Place { base: header.base_offset, strand, at }, header);
    if let Some(last) = state.segments.last_mut() {
        last.bytes += u64::try_from(header.bytes).unwrap_or(u64::MAX);
    }
    state.in_flight.push_back(InFlight {
        position: ticket.position(),
        next: state.next,
        max_timestamp: state.max_timestamp,
    });
    Stored { base: offset(header.base_offset), log_start: offset(state.log_start()), ticket }
}

/// Notes that it is unknown whether the last commit happened.
fn doubt(life: &mut Life) {
    if let Life::Loaded(state) = std::mem::replace(life, Life::Unloaded) {
        *life = Life::Doubtful(state);
    }
}

fn bounds(state: &State) -> (RecordOffset, RecordOffset) {
    (offset(state.log_start()), offset(state.visible))
}

/// Offsets of stored records are never negative.
pub(crate) fn offset(number: i64) -> RecordOffset {
    RecordOffset::new(number).unwrap_or(RecordOffset::ZERO)
}
