//! The messages of each served API, by field, version range and the value where a field is absent.
//!
//! Names and order are those of the protocol's published schema. Tagged fields are left out: they are
//! skipped when read and not written.

pub mod api_versions;
pub mod configs;
pub mod coordinator;
pub mod epochs;
pub mod fetch;
pub mod list_offsets;
pub mod metadata;
pub mod produce;
pub mod topics;
