//! Goal: kafka-python, which shares no code with librdkafka, reads and writes as it would on Kafka.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Server, fresh, run};

const SCRIPT: &str = include_str!("python.py");

/// The Python environment that `cargo xtask test` makes, or the system's Python if it has kafka-python.
fn python() -> Option<PathBuf> {
    let made =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.test-env/venv/bin/python"));
    let has_kafka = |python: &PathBuf| {
        let import =
            Command::new(python).args(["-c", "import kafka, lz4, snappy, zstandard"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let found = [made, "python3".into()].into_iter().find(has_kafka);
    if found.is_none() {
        println!("skipped: kafka-python missing");
    }
    found
}

#[test]
fn kafka_python_produces_and_consumes() {
    let Some(python) = python() else { return };
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "64KiB"]);
    server.ok(&["topic", "create", "parted", "--partitions", "3"]);
    let ended = run(Command::new(python).args(["-c", SCRIPT, server.door("kafka")]), b"");
    assert_eq!(ended.status.code(), Some(0), "{} {}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout, "all is well\n");
    let gzip = server.ok(&["consume", "gzip"]);
    assert_eq!(gzip.lines().count(), 500, "what Python compressed, our command reads");
}
