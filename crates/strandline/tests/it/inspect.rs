//! Goal: every file that the server writes can be printed, and a file that is damaged or unknown is refused with the
//! place.

use std::path::{Path, PathBuf};

use durable_log::{Log, Offset, Options};
use host::Host;

use crate::harness::{Ended, Server, fresh, run, strandline};

fn inspect(path: &Path, flags: &[&str]) -> Ended {
    run(strandline().arg("inspect").args(flags).arg(path), b"")
}

#[track_caller]
fn shown(path: &Path) -> String {
    let ended = inspect(path, &[]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    ended.stdout
}

#[track_caller]
fn json(path: &Path) -> serde_json::Value {
    let ended = inspect(path, &["--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 1, "an object per line");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[track_caller]
fn refused(path: &Path, part: &str) {
    let ended = inspect(path, &[]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains(part), "{}", ended.stderr);
    assert!(ended.stderr.contains(path.to_str().unwrap()), "{}", ended.stderr);
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn segments(data: &Path) -> Vec<PathBuf> {
    segments_in(&data.join("journal"))
}

fn segments_in(dir: &Path) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

#[test]
fn the_format_file_is_printed_and_an_unknown_version_refused() {
    let (_temp, data) = fresh();
    Server::start(&data).stop();
    let path = data.join("FORMAT");
    assert!(shown(&path).contains("data directory, version 2, id "));
    assert_eq!(json(&path)["kind"], "format");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("version 2", "version 9")).unwrap();
    refused(&path, "offset 26: version 9 is unknown");
}

#[test]
fn a_segment_shows_its_commits_and_the_mark_of_a_clean_stop_its_end() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.run_with_input(&["produce", "t"], b"one\ntwo\n");
    server.stop();
    let path = &segments(&data)[0];
    let text = shown(path);
    let header = text.lines().next().unwrap();
    assert!(header.contains("journal segment 1, format version 2, epoch 1"), "{text}");
    assert!(text.lines().last().unwrap().contains("  commits 0.."), "{text}");
    assert!(text.contains("put node \"opening\""), "{text}");
    assert!(text.contains(": write strand "), "{text}");
    let segment = json(path);
    assert_eq!((&segment["kind"], &segment["version"]), (&"segment".into(), &2.into()));
    let commits = segment["frames"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|frame| frame["commits"].as_array().unwrap());
    let operations = commits.flat_map(|commit| commit["operations"].as_array().unwrap());
    assert!(operations.filter(|operation| operation["op"] == "write").count() >= 1);
    let clean = data.join("journal/clean");
    assert!(shown(&clean).contains("mark of an orderly close, format version 2"));
    assert_eq!(json(&clean)["next"], segment["next"]);
    check_versions(&clean);
}

#[test]
fn a_damaged_segment_shows_what_is_good_and_says_where_it_ends() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.run_with_input(&["produce", "t"], b"one\ntwo\n");
    server.stop();
    let path = &segments(&data)[0];
    let good = json(path);
    let last = good["frames"].as_array().unwrap().last().unwrap()["position"].as_u64().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(last).unwrap() + 45] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    // The mark of the close says that it was whole.
    refused(path, &format!("offset {last}: the frame's records do not match their checksum"));
    let ended = inspect(path, &["--json"]);
    assert_eq!(ended.status.code(), Some(1));
    let damaged: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(damaged["good_bytes"].as_u64(), Some(last));
    assert_eq!(damaged["end"], "damaged");
    assert!(damaged["end_reason"].as_str().unwrap().contains("checksum"), "{damaged}");
    assert!(damaged["error"].as_str().unwrap().contains("were durable and are damaged"));
    let told: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(told["error"], damaged["error"]);
    // Without it, nobody knows.
    std::fs::remove_file(data.join("journal/clean")).unwrap();
    assert!(shown(path).contains("a write that never finished, or damage"), "{}", shown(path));
    assert_eq!(json(path)["end"], "torn");
    bytes[8] = 9;
    std::fs::write(path, &bytes).unwrap();
    refused(path, "damaged at byte 0");
    seal(&mut bytes[..128]);
    std::fs::write(path, &bytes).unwrap();
    refused(path, "version 9");
}

/// Makes the checksum of a file of the log good again.
fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// A version that flipped is damage, one that was written is unknown.
#[track_caller]
fn check_versions(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8] = 9;
    std::fs::write(path, &bytes).unwrap();
    refused(path, "damaged at byte 0");
    seal(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
    refused(path, "version 9");
}

/// A log as the server's journal is one, in a directory.
fn log(dir: &Path) -> Log {
    Log::open(&Host::real(), dir, Options::default()).unwrap().0
}

#[test]
fn an_index_and_the_mark_of_the_beginning_are_printed_and_unknown_versions_refused() {
    let (temp, _) = fresh();
    let log = log(temp.path());
    for n in 0..4 {
        log.append(&[&vec![n; 100_000]]).unwrap();
        log.roll().unwrap();
    }
    log.trim(Offset::new(2)).unwrap();
    let start = temp.path().join("start");
    let text = shown(&start);
    assert!(text.contains("all segments before 3 are trimmed, its first commit is 2"), "{text}");
    assert_eq!(json(&start)["segment"], 3);
    check_versions(&start);
    let index = segments_in(temp.path())[0].with_extension("idx");
    let text = shown(&index);
    assert!(text.contains("index of journal segment 3, format version 1; 1 entries"), "{text}");
    assert_eq!(json(&index)["entries"][0]["position"], 128);
    check_versions(&index);
}

#[test]
fn a_segment_that_replaces_others_is_printed_as_that() {
    let (temp, _) = fresh();
    let log = log(temp.path());
    log.append(&[b"no commit"]).unwrap();
    log.sync().unwrap();
    let path = temp.path().join("00000000000000000007.cut");
    std::fs::copy(&segments_in(temp.path())[0], &path).unwrap();
    let ended = inspect(&path, &[]);
    assert_eq!(ended.status.code(), Some(1), "a record that is no commit is a fault");
    let text = ended.stdout;
    assert!(text.contains("; it replaces all segments from its number on\n"), "{text}");
    assert!(text.contains("0: this is not a commit"), "{text}");
    assert!(ended.stderr.contains("record 0 is not a commit"), "{}", ended.stderr);
    let object: serde_json::Value =
        serde_json::from_str(&inspect(&path, &["--json"]).stdout).unwrap();
    assert_eq!(object["frames"][0]["records"], 1);
}

#[test]
fn after_a_bad_file_the_next_ones_are_printed_and_the_end_says_how_many_were_bad() {
    let (_temp, data) = fresh();
    Server::start(&data).stop();
    let format = data.join("FORMAT");
    let bad = data.join("journal/bad.seg");
    std::fs::write(&bad, "strndlog and nothing else").unwrap();
    let all = |flags: &[&str]| {
        run(strandline().arg("inspect").args(flags).args([&bad, &format, &bad, &format]), b"")
    };
    let ended = all(&[]);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stdout.matches("data directory, version 2").count(), 2, "{}", ended.stdout);
    assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);
    assert!(ended.stderr.ends_with("error: 2 of 4 files are damaged or cannot be read\n"));
    let ended = all(&["--json"]);
    let objects: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 4);
    assert_eq!(objects[0]["file"], bad.to_str().unwrap());
    assert!(objects[0]["error"].is_string() && objects[1]["error"].is_null(), "{objects:?}");
}

#[test]
fn what_a_later_segment_replaces_is_marked() {
    let (temp, _) = fresh();
    let log = log(temp.path());
    for n in 0..4 {
        log.append(&[&[n; 100]]).unwrap();
    }
    log.sync().unwrap();
    drop(log.truncate_after(Offset::new(2)).unwrap());
    let first = &segments_in(temp.path())[0];
    let text = inspect(first, &[]).stdout;
    assert_eq!(text.matches("cut: the next segment replaces it").count(), 2, "{text}");
    assert!(text.contains("goes on there") || text.contains("the end of the file"), "{text}");
    let object: serde_json::Value =
        serde_json::from_str(&inspect(first, &["--json"]).stdout).unwrap();
    assert_eq!((&object["cut_from"], &object["followed_by"]), (&2.into(), &2.into()), "{object}");
}

#[test]
fn a_torn_end_is_printed_whatever_it_holds() {
    let (temp, _) = fresh();
    for bytes in [&b"strndlog"[..], b"frm1 and so on", b"\0\0\x01"] {
        let path = temp.path().join("00000000000000000003-4200.torn");
        std::fs::write(&path, bytes).unwrap();
        let text = shown(&path);
        assert!(text.contains("cut from segment 3 at byte 4200"), "{text}");
        assert_eq!(json(&path)["bytes"], bytes.len());
    }
}

#[test]
fn for_a_directory_it_is_said_what_to_name_instead() {
    let (_temp, data) = fresh();
    Server::start(&data).stop();
    refused(&data, "is a directory; name the files in it: strandline inspect ");
    refused(&data, "/journal/*.seg");
    refused(&data.join("journal"), "/journal/*.seg");
}

#[test]
fn a_block_shows_its_pieces_and_a_flipped_bit_is_found() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "1s"]);
    server.run_with_input(&["produce", "t"], &b"some words to pack\n".repeat(20_000));
    server.wait_for_status("there is a block", |status| {
        status["blocks"]["count"].as_u64() >= Some(1)
    });
    server.stop();
    let path = &files(&data.join("blocks"))[0];
    let text = shown(path);
    assert!(text.contains("all checksums match"), "{text}");
    assert!(text.contains("strand "), "{text}");
    assert_eq!(json(path)["kind"], "block");
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    refused(path, "checksum");
    bytes[8] = 9;
    std::fs::write(path, &bytes).unwrap();
    refused(path, "version 9 is unknown");
}

#[test]
fn a_strangers_file_is_refused() {
    let (temp, _) = fresh();
    let path = temp.path().join("thesis.tex");
    std::fs::write(&path, "\\documentclass").unwrap();
    refused(&path, "none of our files");
    std::fs::write(&path, "").unwrap();
    refused(&path, "is empty");
    let missing = inspect(&temp.path().join("nix"), &[]);
    assert!(missing.stderr.starts_with("error: cannot read "), "{}", missing.stderr);
}

#[test]
fn a_checkpoint_of_the_journals_index_shows_its_pieces() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.run_with_input(&["produce", "t"], b"one\ntwo\n");
    server.stop();
    let path = data.join("journal/index");
    let text = shown(&path);
    assert!(text.contains("checkpoint of the journal's index, format version 1"), "{text}");
    assert!(text.lines().nth(1).unwrap().contains(" bytes 0.."), "{text}");
    let index = json(&path);
    assert_eq!(index["kind"], "index-checkpoint");
    assert_eq!(index["position"], index["reached"]);
    let pieces = index["pieces"].as_array().unwrap();
    assert!(pieces.iter().all(|piece| piece["bytes"].as_u64() > Some(0)) && !pieces.is_empty());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    refused(&path, "offset 12: it does not match its checksum");
}

#[test]
fn every_file_of_a_data_directory_is_known() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "1s"]);
    server.run_with_input(&["produce", "t"], &b"some words to pack\n".repeat(20_000));
    server.wait_for_status("there is a block", |status| {
        status["blocks"]["count"].as_u64() >= Some(1)
    });
    server.kill9();
    Server::start(&data).stop();
    for path in files(&data) {
        let name = path.strip_prefix(&data).unwrap();
        // The meta store's files are its engine's, sockets no files.
        let not_ours = name.starts_with("meta")
            || path.extension().is_some_and(|extension| extension == "sock");
        if !not_ours {
            shown(&path);
            json(&path);
        }
    }
}
