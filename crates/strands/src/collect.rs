//! Collection: which blocks nobody needs any more, and giving their room back.
//!
//! Here so far: which blocks are on their way (`in_flight.rs`), the ones that no row names yet and that
//! must stay all the same.

mod in_flight;

pub(crate) use in_flight::BlockMint;
