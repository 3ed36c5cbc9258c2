//! Checkpoints of the journal's index, so that a start reads what came since the last one and not all of the journal.
//!
//! One is taken by a thread of its own whenever `Options::checkpoint_every_bytes` of journal came since the last
//! one, and at a clean stop:
//!
//! 1. position P is where the journal ends, and the pieces that commits before P wrote are copied, a page at a time;
//!    between two pages writers go on, so that commits before the last page's moment, R, may have taken some away;
//! 2. wait until R is durable, and bring the meta store up to R and sync it;
//! 3. write the file with P, R and the place of R in the journal (`index_file.rs`).
//!
//! A start that finds the file and R in its journal takes the pieces and applies the commits from P on. That
//! gives what reading all of the journal gives: for each byte of a strand, the last commit that wrote, cut or
//! packed it decides. Was that commit before P, the copy holds what it left; from P on, it is applied again,
//! over a copy that does or does not know of it. A packed range takes only what is older than the packing's moment, which
//! is the same whenever it is applied.
//!
//! Pieces of commits that were trimmed are left out: they were packed by then, by commits behind P.
//!
//! Invariant: a checkpoint tells only of what was durable when it was written, so that no crash can leave one that
//! is ahead of its journal.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use durable_log::{Landmark, Location, Log};
use host::Host;

use crate::index_file::{self, Encoder, FILE_BYTES_MAX, Header};
use crate::pack::PackError;
use crate::pieces::Pieces;
use crate::shared::{Shared, lock};
use crate::types::{Position, StoreId, StrandId};

/// When checkpoints are taken.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    /// A commit that lies at this byte of the journal or behind it asks for one.
    due_at: AtomicU64,
    wanted: Mutex<Wanted>,
    wake: Condvar,
    /// One is taken at a time.
    taking: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Checkpoint,
    Stop,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self {
            due_at: AtomicU64::new(u64::MAX),
            wanted: Mutex::new(Wanted::Nothing),
            wake: Condvar::new(),
            taking: Mutex::new(()),
        }
    }
}

impl Checkpointing {
    /// What came before `at` is in the last checkpoint, or will be read in a start anyway.
    pub(crate) fn begin(&self, at: Location, every_bytes: u64) {
        self.due_at.store(at.get().saturating_add(every_bytes), Ordering::Relaxed);
    }

    /// Called with the place of each commit, under the state's lock.
    pub(crate) fn note(&self, at: Location, every_bytes: u64) {
        if at.get() >= self.due_at.load(Ordering::Relaxed) {
            self.begin(at, every_bytes);
            self.ask(Wanted::Checkpoint);
        }
    }

    pub(crate) fn stop(&self) {
        self.ask(Wanted::Stop);
    }

    fn ask(&self, what: Wanted) {
        let mut wanted = lock(&self.wanted);
        if *wanted != Wanted::Stop {
            *wanted = what;
        }
        drop(wanted);
        self.wake.notify_all();
    }

    /// Waits until a checkpoint is wanted; false when there will be no more.
    fn wait(&self) -> bool {
        let nothing = |wanted: &mut Wanted| *wanted == Wanted::Nothing;
        let Ok(mut wanted) = self.wake.wait_while(lock(&self.wanted), nothing) else {
            return false;
        };
        let is_wanted = *wanted == Wanted::Checkpoint;
        if is_wanted {
            *wanted = Wanted::Nothing;
        }
        is_wanted
    }
}

/// Why there is no new checkpoint. The last one stays good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The journal or the meta store did not become durable.
    #[error(transparent)]
    Settle(#[from] PackError),
    /// The index is larger than a start would read.
    #[error("the journal's index takes {0} bytes, more than a checkpoint may have")]
    TooLong(u64),
    /// The disk failed, or has no room.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Shared {
    /// Body of the checkpointer's thread.
    pub(crate) fn run_checkpointer(&self) {
        while self.checkpointing.wait() {
            if let Err(error) = self.checkpoint_index() {
                tracing::warn!(%error, "no checkpoint of the journal's index was taken");
            }
        }
    }

    /// Takes a checkpoint. Its bytes are durable when this returns, its name with the next sync of the directory;
    /// until then the last one is there.
    pub(crate) fn checkpoint_index(&self) -> Result<(), CheckpointError> {
        let _one_at_a_time = lock(&self.checkpointing.taking);
        let (pieces, position, reached) = self.copy_index(PAGE_PIECES, || ());
        self.wait_durable(reached)?;
        let settled = self.settle_view(reached);
        settled.map_err(|error| PackError::Store(error.to_string()))?;
        let Some(landmark) = self.log.landmark(reached.offset()) else {
            // All of it was trimmed meanwhile, or there never was a commit.
            return Ok(());
        };
        let store = self.options.store_id;
        let bytes = pieces.finish(&Header { store, position, landmark });
        let size = bytes.len() as u64;
        if size > FILE_BYTES_MAX {
            return Err(CheckpointError::TooLong(size));
        }
        index_file::write(&self.host, &self.dir, &bytes)?;
        tracing::debug!(%position, %reached, size, "a checkpoint of the journal's index");
        Ok(())
    }

    /// Copies the pieces of all commits so far, and says which those are, and how far commits went meanwhile. The
    /// state is locked for `page` pieces at a time, and not while `between` is called.
    pub(crate) fn copy_index(
        &self,
        page: usize,
        between: impl Fn(),
    ) -> (Encoder, Position, Position) {
        let mut encoder = Encoder::new();
        let mut copied = Vec::with_capacity(page);
        let mut position = None;
        let mut from = (StrandId::from_raw(0), 0);
        loop {
            copied.clear();
            let (now, next) = {
                let state = self.read_state();
                // Commits are appended under the same lock.
                let now = Position::of(self.log.positions().appended);
                (now, state.pieces.page(from, page, |placed| copied.push(placed)))
            };
            let position = *position.get_or_insert(now);
            let old = copied.iter().filter(|placed| placed.piece.written < position);
            old.for_each(|placed| encoder.piece(placed));
            let Some(next) = next else { return (encoder, position, now) };
            from = next;
            between();
        }
    }
}

/// A checkpoint that was found.
#[derive(Debug)]
pub(crate) struct Found {
    header: Header,
    bytes: Vec<u8>,
}

impl Found {
    /// The file in `dir`, if it is a checkpoint of this data directory.
    pub(crate) fn read(host: &Host, dir: &Path, store: StoreId) -> Option<Self> {
        let bytes = match index_file::read(host, dir) {
            Ok(bytes) => bytes?,
            Err(error) => return pass_over(dir, &error.to_string()),
        };
        match index_file::decode_header(&bytes) {
            Ok(header) if header.store == store => Some(Self { header, bytes }),
            Ok(header) => pass_over(dir, &format!("it belongs to data directory {}", header.store)),
            Err(error) => pass_over(dir, &error.to_string()),
        }
    }

    /// Where it was taken.
    pub(crate) fn landmark(&self) -> Landmark {
        self.header.landmark
    }

    /// Its position and pieces, for a journal that was opened with its landmark.
    pub(crate) fn into_pieces(self, log: &Log, dir: &Path, reached: bool) -> Option<Start> {
        let positions = log.positions();
        let Header { position, landmark, .. } = self.header;
        if position < Position::of(positions.start) {
            tracing::debug!(%position, "the checkpoint of the journal's index is of what was trimmed since");
            return None;
        }
        if !reached || landmark.next > positions.appended {
            return pass_over(dir, "it is of another journal, or of a later moment of this one");
        }
        let start = Position::of(positions.start);
        let end = log.segments().last().map_or(0, |last| last.end.get());
        let mut pieces = Pieces::default();
        let (mut strand, mut of_strand) = (StrandId::from_raw(0), Vec::new());
        let mut fits = true;
        let decoded = index_file::decode_pieces(&self.bytes, &self.header, |placed| {
            // The end of a piece was checked not to overflow.
            fits &= placed.piece.at.get() + u64::from(placed.piece.len) <= end;
            if placed.strand != strand {
                pieces.fill(strand, std::mem::take(&mut of_strand));
                strand = placed.strand;
            }
            if placed.piece.written >= start {
                of_strand.push((placed.start, placed.piece));
            }
        });
        pieces.fill(strand, of_strand);
        match decoded {
            Ok(()) if fits => Some(Start { position, pieces }),
            Ok(()) => pass_over(dir, "a piece lies behind the journal's end"),
            Err(error) => pass_over(dir, &error.to_string()),
        }
    }
}

/// What recovery begins with.
#[derive(Debug)]
pub(crate) struct Start {
    /// The pieces are those of commits before this one.
    pub(crate) position: Position,
    pub(crate) pieces: Pieces,
}

fn pass_over<T>(dir: &Path, why: &str) -> Option<T> {
    let path = dir.join(index_file::NAME);
    tracing::warn!(
        path = %path.display(), why,
        "the checkpoint of the journal's index is passed over; all of the journal is read"
    );
    None
}

/// Pieces that are copied under one lock of the state: tens of microseconds.
const PAGE_PIECES: usize = 1024;
