//! Tests of the whole data path.
