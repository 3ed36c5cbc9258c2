//! Goal: what goes into a topic comes out of it, in order, whole, by every door, after kills and after packing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::{PATIENCE, Server, fresh, lines_of, run, strandline, wait, wait_until};

/// Many short lines.
fn words(count: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "word {n:08}").unwrap();
        text
    })
}

#[track_caller]
fn produce(server: &Server, args: &[&str], input: &str) {
    let ended = server.run_with_input(&[&["produce"], args].concat(), input.as_bytes());
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

#[test]
fn lines_come_back_in_order() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let text = words(100_000);
    produce(&server, &["words"], &text);
    assert!(server.ok(&["consume", "words"]) == text);
    assert_eq!(server.status()["topics"]["records"], 100_000);
}

#[test]
fn a_file_and_standard_input_are_read_alike() {
    let (temp, data) = fresh();
    let server = Server::start(&data);
    let file = temp.path().join("lines.txt");
    std::fs::write(&file, "one\n\nthree, without an end").unwrap();
    produce(&server, &["lines", file.to_str().unwrap()], "");
    produce(&server, &["lines", "-"], "four\n");
    assert_eq!(server.ok(&["consume", "lines"]), "one\n\nthree, without an end\nfour\n");
    let missing = server.refused(&["produce", "lines", "/nonexistent/file"]);
    assert!(missing.starts_with("error: cannot read /nonexistent/file"), "{missing}");
}

#[test]
fn reading_begins_and_stops_where_asked() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    produce(&server, &["n"], "0\n1\n2\n3\n4\n");
    assert_eq!(server.ok(&["consume", "n", "--from", "3"]), "3\n4\n");
    assert_eq!(server.ok(&["consume", "n", "--from", "1", "--count", "2"]), "1\n2\n");
    assert_eq!(server.ok(&["consume", "n", "--from", "end"]), "");
    assert_eq!(server.ok(&["consume", "n", "--from", "5"]), "");
    assert_eq!(server.ok(&["consume", "n", "--from", "1970-01-01T00:00:00Z"]), "0\n1\n2\n3\n4\n");
    assert_eq!(
        server.ok(&["consume", "n", "--from", "2200-01-01"]).len(),
        0,
        "nothing is that new"
    );
    assert_eq!(server.ok(&["consume", "n", "--from", "1h", "--count", "1"]), "0\n");
    let beyond = server.refused(&["consume", "n", "--from", "6"]);
    assert!(beyond.contains("goes from 0 to 5"), "{beyond}");
    let missing = server.refused(&["consume", "nix"]);
    assert!(missing.starts_with("error: topic nix does not exist"), "{missing}");
    let only = server.refused(&["consume", "n", "--partition", "1"]);
    assert!(only.contains("only partition 0"), "{only}");
    let odd = server.refused(&["produce", "odd/name"]);
    assert!(odd.contains("a-z"), "{odd}");
}

#[test]
fn keys_choose_partitions_and_json_shows_everything() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["topic", "create", "ages", "--partitions", "3"]);
    produce(&server, &["ages", "--key-separator", "="], "ann=42\nbob=7\nann=43\nnobody\n");
    let lines = server.ok(&["consume", "ages", "--json"]);
    let records: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |key: &str| -> Vec<_> { records.iter().filter(|record| record["key"] == key).collect() };
    let ann = of("ann");
    assert_eq!([&ann[0]["value"], &ann[1]["value"]], ["42", "43"]);
    assert_eq!(ann[0]["partition"], ann[1]["partition"]);
    assert_eq!(ann[0]["topic"], "ages");
    assert!(ann[0]["timestamp_ms"].as_i64().unwrap() > 1_500_000_000_000);
    assert_eq!(records.iter().filter(|record| record["key"].is_null()).count(), 1);
    let partition = ann[0]["partition"].to_string();
    let only = server.ok(&["consume", "ages", "--partition", &partition]);
    assert!(only.starts_with("42\n") || only.contains("\n42\n"), "{only}");
    produce(&server, &["ages", "--partition", "2"], "here\n");
    assert!(server.ok(&["consume", "ages", "--partition", "2"]).ends_with("here\n"));
    assert!(server.refused(&["consume", "ages", "--partition", "3"]).contains("partitions 0 to 2"));
}

#[test]
fn following_shows_records_as_they_come() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    produce(&server, &["t"], "before\n");
    let mut follower = strandline();
    follower.args(["consume", "t", "--follow", "--count", "3", "--data"]).arg(server.data());
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let seen = lines_of(follower.stdout.take().unwrap());
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "before");
    produce(&server, &["t"], "one\n");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "one");
    produce(&server, &["t"], "two\n");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "two");
    assert_eq!(wait(&mut follower).code(), Some(0));
}

#[test]
fn lines_typed_one_by_one_do_not_wait_for_more() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let mut typing = strandline();
    typing.args(["produce", "t", "--data"]).arg(server.data());
    let mut typing = typing.stdin(Stdio::piped()).spawn().unwrap();
    let mut keyboard = typing.stdin.take().unwrap();
    keyboard.write_all(b"first\n").unwrap();
    server.wait_for_status("the first line is stored", |status| status["topics"]["records"] == 1);
    keyboard.write_all(b"second").unwrap();
    drop(keyboard);
    assert_eq!(wait(&mut typing).code(), Some(0));
    assert_eq!(server.ok(&["consume", "t"]), "first\nsecond\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    produce(&server, &["words"], &words(200_000));
    let mut consumer = strandline();
    consumer.args(["consume", "words", "--data"]).arg(server.data());
    let mut consumer = consumer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(consumer.stdout.take());
    let complaints = lines_of(consumer.stderr.take().unwrap());
    assert_eq!(wait(&mut consumer).code(), Some(0));
    assert!(complaints.recv_timeout(PATIENCE).is_err(), "nothing is said");
}

#[test]
fn acknowledged_records_survive_a_kill() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    produce(&server, &["words"], &words(50_000));
    server.kill9();
    let server = Server::start(&data);
    assert!(server.ok(&["consume", "words"]) == words(50_000));
    produce(&server, &["words"], "more\n");
    assert!(server.ok(&["consume", "words"]) == words(50_000) + "more\n");
}

#[test]
fn packed_records_are_read_from_blocks_and_the_journal_is_trimmed() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "1MiB,1s"]);
    let text = words(400_000);
    produce(&server, &["words"], &text);
    let packed = server.wait_for_status("everything is packed and the journal trimmed", |status| {
        status["blocks"]["count"].as_u64() >= Some(1)
            && status["journal"]["unpacked_bytes"] == 0
            && status["journal"]["start"].as_u64() > Some(0)
    });
    let (journal, blocks) =
        (packed["journal"]["bytes"].as_u64(), packed["blocks"]["bytes"].as_u64());
    assert!(journal < blocks, "{packed}");
    assert!(server.ok(&["consume", "words"]) == text);
    server.kill9();
    let server = Server::start(&data);
    assert!(server.ok(&["consume", "words"]) == text, "also after a kill");
    assert_eq!(server.stop().status.code(), Some(0));
    assert!(Server::start(&data).ok(&["consume", "words"]) == text, "and after a clean stop");
}

#[test]
fn a_kafka_door_that_is_off_is_told_to_those_who_need_it() {
    let (_temp, data) = fresh();
    let mut command = strandline();
    command.args(["serve", "--kafka", "off", "--http", "off", "--data"]).arg(&data);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = lines_of(child.stdout.take().unwrap());
    while lines.recv_timeout(PATIENCE).unwrap() != "ready" {}
    let refused = run(strandline().args(["produce", "t", "--data"]).arg(&data), b"x\n");
    let made = run(strandline().args(["topic", "create", "t", "--data"]).arg(&data), b"");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(refused.stderr.contains("runs with --kafka off"), "{}", refused.stderr);
    assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
}

/// Runs kcat against the server; `None` when there is no kcat.
fn kcat(server: &Server, args: &[&str], input: &str) -> Option<String> {
    if Command::new("kcat").arg("-V").output().is_err() {
        println!("skipped: kcat missing");
        return None;
    }
    let ended =
        run(Command::new("kcat").args(["-b", server.door("kafka")]).args(args), input.as_bytes());
    assert_eq!(ended.status.code(), Some(0), "kcat {args:?}: {}", ended.stderr);
    Some(ended.stdout)
}

#[test]
fn kcat_and_our_commands_see_the_same_records() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "1MiB"]);
    let text = words(100_000);
    let Some(_) = kcat(&server, &["-P", "-t", "words"], &text) else { return };
    assert!(server.ok(&["consume", "words"]) == text);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        kcat(&server, &["-P", "-t", codec, "-z", codec], &text);
        assert!(server.ok(&["consume", codec]) == text, "{codec}");
        assert!(kcat(&server, &["-C", "-t", codec, "-e", "-q"], "").unwrap() == text, "{codec}");
    }
    produce(&server, &["ours"], &text);
    assert!(kcat(&server, &["-C", "-t", "ours", "-e", "-q"], "").unwrap() == text);
    let tail = kcat(&server, &["-C", "-t", "ours", "-e", "-q", "-o", "99998"], "").unwrap();
    assert_eq!(tail, "word 00099998\nword 00099999\n");
    let data = server.data().to_owned();
    server.kill9();
    let server = Server::start(&data);
    assert!(kcat(&server, &["-C", "-t", "words", "-e", "-q"], "").unwrap() == text, "after a kill");
}

#[test]
fn keys_of_other_producers_are_found_where_ours_go() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["topic", "create", "k", "--partitions", "7"]);
    let pairs = (0..200).fold(String::new(), |mut text, n| {
        writeln!(text, "key-{n}:theirs").unwrap();
        text
    });
    let murmur = ["-P", "-t", "k", "-K:", "-X", "partitioner=murmur2_random"];
    if kcat(&server, &murmur, &pairs).is_none() {
        return;
    }
    produce(&server, &["k", "--key-separator", ":"], &pairs.replace("theirs", "ours"));
    let mut homes = std::collections::HashMap::new();
    for line in server.ok(&["consume", "k", "--json"]).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = record["key"].as_str().unwrap().to_owned();
        let partition = record["partition"].as_i64().unwrap();
        assert_eq!(*homes.entry(key).or_insert(partition), partition, "{record}");
    }
    assert_eq!(homes.len(), 200);
}

#[test]
fn a_consumer_that_waits_does_not_hold_up_a_stop() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    produce(&server, &["t"], "x\n");
    let mut follower = strandline();
    follower.args(["consume", "t", "--follow", "--data"]).arg(server.data());
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let seen = lines_of(follower.stdout.take().unwrap());
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "x");
    let ended = server.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let said = lines_of(follower.stderr.take().unwrap());
    assert_eq!(wait(&mut follower).code(), Some(1));
    assert!(said.recv_timeout(PATIENCE).unwrap().starts_with("error: cannot consume t"));
    wait_until("the log is closed", || data.join("journal/clean").exists());
}
