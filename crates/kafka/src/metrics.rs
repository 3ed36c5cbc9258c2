//! Counters of the Kafka door. Shared by all connections; read by whoever shows them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::{ApiKey, ErrorCode};

/// Codes -1 to 126 have a counter each; all higher ones share the last.
const ERROR_COUNTERS: usize = 128;

/// What the door has done since the process started.
#[derive(Debug)]
pub struct Metrics {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub connections_accepted: AtomicU64,
    /// Connections turned away because the limit was reached.
    pub connections_refused: AtomicU64,
    /// Frames that were not requests: too long, too short, malformed, or of an unknown API or version.
    pub frames_refused: AtomicU64,
    /// Connections closed because the peer was too slow to send or to read.
    pub timeouts: AtomicU64,
    /// Bytes of record batches stored.
    pub produced_bytes: AtomicU64,
    /// Records stored, as the batches count them.
    pub produced_records: AtomicU64,
    /// Bytes of record batches sent.
    pub fetched_bytes: AtomicU64,
    /// Records sent, as the batches count them.
    pub fetched_records: AtomicU64,
    requests: [AtomicU64; ApiKey::ALL.len()],
    errors: [AtomicU64; ERROR_COUNTERS],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            frames_refused: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            produced_bytes: AtomicU64::new(0),
            produced_records: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            fetched_records: AtomicU64::new(0),
            requests: [const { AtomicU64::new(0) }; ApiKey::ALL.len()],
            errors: [const { AtomicU64::new(0) }; ERROR_COUNTERS],
        }
    }
}

impl Metrics {
    /// How many requests each API got.
    pub fn requests(&self) -> impl Iterator<Item = (ApiKey, u64)> {
        ApiKey::ALL.into_iter().map(|api| (api, self.requests_of(api)))
    }

    /// How many requests `api` got.
    pub fn requests_of(&self, api: ApiKey) -> u64 {
        self.requests[api.index()].load(Ordering::Relaxed)
    }

    /// How often each error code was sent; codes never sent are left out.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        (-1_i16..).zip(&self.errors).filter_map(|(number, counter)| {
            let count = counter.load(Ordering::Relaxed);
            (count > 0).then_some((ErrorCode(number), count))
        })
    }

    /// How often `code` was sent.
    pub fn errors_of(&self, code: ErrorCode) -> u64 {
        self.errors[error_place(code)].load(Ordering::Relaxed)
    }

    pub(crate) fn count_request(&self, api: ApiKey) {
        self.requests[api.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `code` unless it stands for success.
    pub(crate) fn count_error(&self, code: ErrorCode) {
        if !code.is_none() {
            self.errors[error_place(code)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn error_place(code: ErrorCode) -> usize {
    usize::try_from(i32::from(code.0) + 1).unwrap_or(0).min(ERROR_COUNTERS - 1)
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
