//! Waiting for a commit to be durable.

use durable_log::SyncError;

use crate::error::CommitError;
use crate::types::Position;

/// A commit that is visible and written; wait here until it survives a power cut.
#[derive(Debug)]
#[must_use = "a commit is durable only after its ticket was waited for"]
pub struct Ticket {
    position: Position,
    log: durable_log::Ticket,
}

impl Ticket {
    pub(crate) fn new(position: Position, log: durable_log::Ticket) -> Self {
        Self { position, log }
    }

    /// The commit's exclusive end in the journal.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Resolves when the commit is durable. Dropping the future takes nothing back.
    pub async fn durable(self) -> Result<(), CommitError> {
        self.log.await.map_err(sync_error)
    }

    /// The same for a thread that may block.
    pub fn wait_durable(self) -> Result<(), CommitError> {
        self.log.wait().map_err(sync_error)
    }
}

pub(crate) fn sync_error(error: SyncError) -> CommitError {
    match error {
        SyncError::NoSpace => CommitError::NoSpace,
        error @ SyncError::Replaced => CommitError::Failed(error.to_string()),
        SyncError::Failed { why } => CommitError::Failed(why.to_string()),
    }
}
