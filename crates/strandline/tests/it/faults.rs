//! Goal: bad input and bad luck are answered, counted and survived; damage is named with file and place.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PATIENCE, Server, fresh, run, serve_command, wait_until};

#[track_caller]
fn metric(server: &Server, name: &str) -> u64 {
    let metrics = server.http_get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {metrics}")).trim().parse().unwrap()
}

/// Sends bytes to the Kafka door and returns once it has closed the connection.
#[track_caller]
fn send_until_closed(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.door("kafka")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The door may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn frames_that_are_no_requests_close_their_connection_and_are_counted() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let too_long = i32::MAX.to_be_bytes();
    let too_short = [0, 0, 0, 2, 0, 0];
    let negative = (-1_i32).to_be_bytes();
    // Metadata version 1 with two billion topics.
    let mut claims = vec![0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
    claims.extend(i32::MAX.to_be_bytes());
    for (count, bytes) in [&too_long[..], &too_short, &negative, &claims].into_iter().enumerate() {
        send_until_closed(&server, bytes);
        wait_until("the frame is counted", || {
            metric(&server, "strandline_kafka_frames_refused_total") == count as u64 + 1
        });
    }
    server.run_with_input(&["produce", "t"], b"still alive\n");
    assert_eq!(server.ok(&["consume", "t"]), "still alive\n");
}

#[test]
fn a_damaged_journal_is_refused_with_file_and_offset() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.run_with_input(&["produce", "t"], b"one\n");
    server.run_with_input(&["produce", "t"], b"two\n");
    server.kill9();
    // The next start says in a later segment that all of this one was durable.
    Server::start(&data).kill9();
    let path = data.join("journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[128 + 45] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ended = run(&mut serve_command(&data, &[]), b"");
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("00000000000000000001.seg: damaged at byte 128"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_torn_tail_is_cut_kept_aside_and_told() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.run_with_input(&["produce", "t"], b"one\n");
    let appended = server.status()["journal"]["appended"].as_u64().unwrap();
    server.kill9();
    let path = data.join("journal/00000000000000000001.seg");
    let shown = run(crate::harness::strandline().arg("inspect").arg("--json").arg(&path), b"");
    let good = serde_json::from_str::<serde_json::Value>(&shown.stdout).unwrap()["good_bytes"]
        .as_u64()
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let good = usize::try_from(good).unwrap();
    bytes[good..good + 7].copy_from_slice(b"frm1\x01\x02\x03");
    std::fs::write(&path, bytes).unwrap();
    let server = Server::start(&data);
    let status = server.status();
    assert_eq!(status["recovery"]["torn"]["bytes"], 7);
    assert_eq!(status["recovery"]["torn"]["at"], good);
    assert_eq!(status["recovery"]["commits"], appended);
    assert!(server.ok(&["status"]).contains("7 B that nobody was promised were cut"));
    assert_eq!(server.ok(&["consume", "t"]), "one\n");
    let kept = PathBuf::from(status["recovery"]["torn"]["kept_as"].as_str().unwrap());
    let shown = run(crate::harness::strandline().arg("inspect").arg(&kept), b"");
    assert!(
        shown.stdout.contains("7 B that nobody was promised"),
        "{} {}",
        shown.stdout,
        shown.stderr
    );
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(dir: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(dir).unwrap();
        let mut mount = Command::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            Some(Self(dir.to_owned()))
        } else {
            println!("skipped: only root can mount a small disk");
            None
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_records_loses_none_and_recovers_with_room() {
    let (temp, _) = fresh();
    let Some(disk) = SmallDisk::new(&temp.path().join("disk"), "256m") else { return };
    let data = disk.0.join("data");
    let server = Server::start_with(&data, &["--pack-after", "16MiB"]);
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 100 << 20]).unwrap();
    let line = format!("{}\n", "x".repeat(999));
    let chunk = line.repeat(8000);
    let mut stored = 0;
    let refused = loop {
        let ended = server.run_with_input(&["produce", "t"], chunk.as_bytes());
        if ended.status.code() != Some(0) {
            break ended.stderr;
        }
        stored += 8000;
        assert!(stored < 400_000, "the disk is never full");
    };
    assert!(refused.starts_with("error: cannot produce into t"), "{refused}");
    let count = |server: &Server| server.ok(&["consume", "t"]).lines().count();
    assert!(count(&server) >= stored);
    std::fs::remove_file(&ballast).unwrap();
    wait_until("there is room again", || {
        server.run_with_input(&["produce", "t"], b"again\n").status.success()
    });
    let all = server.ok(&["consume", "t"]);
    assert!(all.ends_with("\nagain\n"));
    let held = all.lines().count();
    server.kill9();
    assert_eq!(count(&Server::start(&data)), held);
}
