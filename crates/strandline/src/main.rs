//! The server and its commands.
fn main() {}
