//! Which test notices which missing step, so that it can be asked first.
//!
//! A step without a hint, or whose hint is wrong, is looked for in all stages, which takes minutes:
//! `cargo xtask mutations NAME` says what noticed it.

/// A test that fails when a step is missing.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) step: &'static str,
    pub(super) test: &'static str,
    /// How long the sequences of the crash tests are.
    pub(super) crashes: &'static str,
}

pub(super) const HINTS: &[Hint] = &[];
