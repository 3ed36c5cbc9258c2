//! Why a call failed.

/// There is no room, and nothing that could make way: what is here is not saved elsewhere yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cache is full: {needed_bytes} more bytes do not fit into its budget of {budget_bytes}; save dirty pieces, or wait"
)]
pub struct CacheFull {
    /// Bytes of memory that were missing. More than the budget can ever give is never worth waiting for.
    pub needed_bytes: u64,
    /// [`crate::Options::budget_bytes`].
    pub budget_bytes: u64,
}

/// Why a write did not happen. The cache is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room, until the deadline if there was one.
    #[error(transparent)]
    CacheFull(#[from] CacheFull),
    /// The last byte would lie beyond the largest offset.
    #[error("{len} bytes at offset {offset} end beyond the largest offset")]
    BeyondEnd {
        /// Where the write begins.
        offset: u64,
        /// Its bytes.
        len: usize,
    },
}
