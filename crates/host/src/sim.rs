//! A simulated machine (being written).
