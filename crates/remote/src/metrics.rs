//! What the server half counts, for whoever shows metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the file door. All start at zero and, but for `connections_open`, only grow.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted since the start.
    pub connections: AtomicU64,
    /// Connections that are open now.
    pub connections_open: AtomicU64,
    /// Connections closed because of bytes that are no frame of the protocol, a frame over the limit,
    /// or one that did not arrive whole in time.
    pub frames_refused: AtomicU64,
    /// Requests taken up.
    pub requests: AtomicU64,
    /// Requests answered with an error.
    pub requests_failed: AtomicU64,
}

impl Metrics {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn connection(&self) -> OpenConnection<'_> {
        Self::count(&self.connections);
        Self::count(&self.connections_open);
        OpenConnection(&self.connections_open)
    }
}

/// A connection that is counted as open.
pub(crate) struct OpenConnection<'a>(&'a AtomicU64);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
