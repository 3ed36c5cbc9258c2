//! Goal: the broker is a list of records per partition.
