//! What the machine could do at best: the same bytes with nothing of the product around them.

pub(crate) mod disk;
pub(crate) mod mapped;
pub(crate) mod memory;
pub(crate) mod raw_log;
pub(crate) mod tcp;
