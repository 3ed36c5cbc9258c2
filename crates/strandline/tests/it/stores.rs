//! Goal: the server does the same over every store: files and records outlive a kill where the store is not memory, and
//! nothing outlives the server where it is; and a store that cannot be used is refused in a sentence.
//!
//! Method: one body, with the real binary, for the data directory, a directory elsewhere, memory, and a bucket of `moto`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{Moto, Proxy};

use crate::files::Mount;
use crate::harness::{Ended, Server, fresh, run, serve_command};

const PACK: [&str; 2] = ["--pack-after", "256KiB,100ms"];

/// Credentials that moto takes, which only the servers of these tests get.
fn lend_credentials(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
}

fn start(data: &Path, flags: &[&str]) -> Server {
    let mut command = serve_command(data, &[&PACK[..], flags].concat());
    lend_credentials(&mut command);
    Server::start_by(command, data)
}

fn refused(data: &Path, flags: &[&str]) -> String {
    let mut command = serve_command(data, flags);
    lend_credentials(&mut command);
    told(&run(&mut command, b""))
}

/// What a command said that was refused: one sentence.
#[track_caller]
fn told(ended: &Ended) -> String {
    let said = ended.stderr.clone();
    assert_eq!(ended.status.code(), Some(1), "{} {said}", ended.stdout);
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    said
}

fn words() -> String {
    (0..20_000).fold(String::new(), |mut text, n| {
        writeln!(text, "word {n:08}").unwrap();
        text
    })
}

/// Bytes of a file that no two pieces of it share.
fn contents() -> Vec<u8> {
    (0..500_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Writes records and, where there is FUSE, a file; returns whether there was.
fn fill(server: &Server, dir: &Path) -> bool {
    let produced = server.run_with_input(&["produce", "words"], words().as_bytes());
    assert_eq!(produced.stderr, "");
    server.ok(&["volume", "create", "v"]);
    if !Path::new("/dev/fuse").exists() {
        println!("skipped: /dev/fuse missing");
        return false;
    }
    let mount = Mount::new(server, "v", dir);
    fs::write(mount.path("file"), contents()).unwrap();
    fs::File::open(mount.path("file")).unwrap().sync_all().unwrap();
    mount.unmount();
    true
}

/// Waits until the store alone is enough for all that was done so far.
fn wait_until_in_store(server: &Server) {
    let end = server.status()["journal"]["appended"].as_u64();
    assert!(end > Some(0));
    server.wait_for_status("it is in the store", |status| {
        status["store"]["restorable"]["commit"].as_u64() >= end
    });
}

fn check(server: &Server, dir: &Path, has_file: bool) {
    assert!(server.ok(&["consume", "words"]) == words(), "the records are as they were");
    if has_file {
        let mount = Mount::new(server, "v", dir);
        assert!(fs::read(mount.path("file")).unwrap() == contents(), "the file is as it was");
        mount.unmount();
    }
}

/// The body of all: fill, pack, kill, start again, look, collect, and look again after an orderly stop.
fn outlives_a_kill(flags: &[&str]) {
    let (temp, data) = fresh();
    let dir = temp.path().join("mnt");
    let server = start(&data, flags);
    let has_file = fill(&server, &dir);
    server.wait_for_status("it is packed", |status| {
        status["journal"]["unpacked_bytes"] == 0 && status["blocks"]["count"].as_u64() > Some(0)
    });
    check(&server, &dir, has_file);
    server.kill9();
    let server = start(&data, flags);
    check(&server, &dir, has_file);
    server.ok(&["gc", "--grace", "0s"]);
    check(&server, &dir, has_file);
    assert_eq!(server.stop().status.code(), Some(0));
    // The directory knows its store.
    let without: Vec<_> = match flags {
        ["--store", _, rest @ ..] => rest.to_vec(),
        all => all.to_vec(),
    };
    check(&start(&data, &without), &dir, has_file);
}

#[test]
fn files_and_records_outlive_a_kill_in_the_data_directory() {
    outlives_a_kill(&[]);
}

#[test]
fn files_and_records_outlive_a_kill_in_a_directory_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("dir:{}", elsewhere.path().join("blocks").display());
    outlives_a_kill(&["--store", &store]);
    assert!(fs::read_dir(elsewhere.path().join("blocks")).unwrap().count() > 0);
}

#[test]
fn files_and_records_outlive_a_kill_in_a_bucket() {
    let Some(moto) = Moto::shared() else { return };
    let bucket = moto.bucket("outlives-a-kill");
    let endpoint = format!("http://{}", moto.addr());
    outlives_a_kill(&["--store", "s3://outlives-a-kill/some/prefix", "--s3-endpoint", &endpoint]);
    let keys = bucket.keys();
    assert!(keys.iter().any(|key| key.starts_with("some/prefix/blocks/")), "{keys:?}");
}

#[test]
fn the_status_says_how_far_uploads_are_and_that_the_bucket_is_away() {
    let Some(moto) = Moto::shared() else { return };
    let bucket = moto.bucket("how-far");
    let proxy = Proxy::start(moto.addr());
    let endpoint = proxy.endpoint();
    let (_temp, data) = fresh();
    let server = start(&data, &["--store", "s3://how-far", "--s3-endpoint", &endpoint]);
    server.run_with_input(&["produce", "words"], words().as_bytes());
    let status = server.wait_for_status("all is uploaded", |status| {
        status["store"]["restorable"]["commit"].as_u64() > Some(0)
            && status["store"]["transfers"]["waiting_blocks"] == 0
    });
    let transfers = &status["store"]["transfers"];
    assert!(transfers["uploaded_blocks"].as_u64() > Some(0), "{transfers}");
    assert!(transfers["uploads_away"].is_null(), "{transfers}");
    assert!(status["store"]["place"].as_str().unwrap().starts_with("s3://how-far"), "{status}");
    proxy.go_away();
    server.run_with_input(&["produce", "words"], words().as_bytes());
    let status = server.wait_for_status("the bucket is known to be away", |status| {
        status["store"]["transfers"]["uploads_away"]["why"].is_string()
    });
    assert!(status["store"]["transfers"]["waiting_blocks"].as_u64() > Some(0), "{status}");
    let shown = server.ok(&["status"]);
    assert!(shown.contains("PROBLEM: the store has not answered for "), "{shown}");
    assert!(shown.contains("wait, the oldest for "), "{shown}");
    let metrics = server.http_get("/metrics");
    assert!(metrics.contains("strandline_store_away{way=\"uploads\"} 1"), "{metrics}");
    assert!(metrics.contains("strandline_upload_waiting_limit_bytes 4294967296"), "{metrics}");
    proxy.come_back();
    server.wait_for_status("all is uploaded again", |status| {
        status["store"]["transfers"]["waiting_blocks"] == 0
            && status["store"]["transfers"]["uploads_away"].is_null()
    });
    drop(bucket);
}

#[test]
fn a_server_in_memory_serves_the_same_and_keeps_nothing() {
    let (temp, data) = fresh();
    let dir = temp.path().join("mnt");
    let flags = ["--store", "memory"];
    let server = start(&data, &flags);
    assert!(server.door("store").contains("nothing is kept"), "{:?}", server.doors);
    let has_file = fill(&server, &dir);
    server.wait_for_status("it is packed", |status| status["journal"]["unpacked_bytes"] == 0);
    check(&server, &dir, has_file);
    server.ok(&["gc", "--grace", "0s"]);
    check(&server, &dir, has_file);
    server.kill9();
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(
        left.iter().all(|entry| entry.metadata().unwrap().len() == 0),
        "only a lock and sockets: {left:?}"
    );
    let server = start(&data, &flags);
    assert_eq!(server.status()["topics"]["count"], 0);
}

#[test]
fn a_store_that_cannot_be_used_is_refused_in_a_sentence() {
    let (_temp, data) = fresh();
    let ended = run(&mut serve_command(&data, &["--store", "gs://bucket"]), b"");
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.stderr.contains("expected memory, dir:/path or s3://bucket/prefix"),
        "{}",
        ended.stderr
    );
    drop(start(&data, &[]));
    let said = refused(&data, &["--store", "s3://bucket"]);
    assert!(said.contains("keeps its blocks in itself and not in s3://bucket"), "{said}");
    let said = refused(&data, &["--store", "memory"]);
    assert!(said.contains("holds data"), "{said}");
}

#[test]
fn a_bucket_that_is_not_there_and_missing_credentials_are_told() {
    let Some(moto) = Moto::shared() else { return };
    let endpoint = format!("http://{}", moto.addr());
    let flags = ["--store", "s3://no-such-bucket", "--s3-endpoint", &endpoint];
    let (_temp, data) = fresh();
    let said = refused(&data, &flags);
    assert!(said.contains("cannot use s3://no-such-bucket at http://"), "{said}");
    assert!(said.contains("there is no such bucket"), "{said}");
    assert!(!data.exists(), "nothing is left behind");
    let (_temp, data) = fresh();
    let mut command = serve_command(&data, &flags);
    command.env_remove("AWS_ACCESS_KEY_ID").env("HOME", &data);
    let said = told(&run(&mut command, b""));
    assert!(said.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{said}");
    assert!(!data.exists(), "nothing is left behind");
}

#[test]
fn a_node_is_restored_from_its_store_alone_and_checks_out() {
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("dir:{}", elsewhere.path().join("blocks").display());
    let (temp, data) = fresh();
    let dir = temp.path().join("mnt");
    let server = start(&data, &["--store", &store]);
    let has_file = fill(&server, &dir);
    wait_until_in_store(&server);
    server.stop();
    let new = temp.path().join("new");
    let restore = |into: &Path| {
        let mut command = crate::harness::strandline();
        run(command.args(["restore", "--store", &store, "--data"]).arg(into), b"")
    };
    assert!(told(&restore(&data)).contains("is not empty"));
    let empty = elsewhere.path().join("empty");
    for _ in 0..2 {
        let nothing = format!("dir:{}", empty.display());
        let mut command = crate::harness::strandline();
        let failed = run(command.args(["restore", "--store", &nothing, "--data"]).arg(&new), b"");
        assert!(told(&failed).contains("nothing was restored"), "{}", failed.stderr);
        assert!(!new.exists(), "nothing is left behind");
        // First there is no such directory, then it is an empty one.
        fs::create_dir_all(&empty).unwrap();
    }
    let restored = restore(&new);
    assert_eq!(restored.status.code(), Some(0), "{}", restored.stderr);
    assert!(restored.stdout.starts_with("restored up to commit "), "{}", restored.stdout);
    let mut fsck = crate::harness::strandline();
    let checked = run(fsck.args(["fsck", "--scrub", "--data"]).arg(&new), b"");
    assert_eq!(checked.status.code(), Some(0), "{} {}", checked.stdout, checked.stderr);
    check(&start(&new, &[]), &dir, has_file);
}

#[test]
fn a_node_whose_disk_is_lost_is_restored_from_its_bucket_alone() {
    let Some(moto) = Moto::shared() else { return };
    let bucket = moto.bucket("disk-is-lost");
    let endpoint = format!("http://{}", moto.addr());
    let flags = ["--store", "s3://disk-is-lost/some/prefix", "--s3-endpoint", &endpoint];
    let (temp, data) = fresh();
    let dir = temp.path().join("mnt");
    let server = start(&data, &flags);
    let has_file = fill(&server, &dir);
    wait_until_in_store(&server);
    assert!(bucket.keys().iter().any(|key| key.contains("/roots/")));
    server.kill9();
    fs::remove_dir_all(&data).unwrap();
    let new = temp.path().join("new");
    let mut command = crate::harness::strandline();
    lend_credentials(&mut command);
    let restored = run(command.arg("restore").args(flags).arg("--data").arg(&new), b"");
    assert_eq!(restored.status.code(), Some(0), "{}", restored.stderr);
    assert!(restored.stdout.starts_with("restored up to commit "), "{}", restored.stdout);
    check(&start(&new, &["--s3-endpoint", &endpoint]), &dir, has_file);
}

#[test]
fn credentials_come_from_a_profile_too_and_without_any_there_is_a_sentence_at_once() {
    let home = tempfile::tempdir().unwrap();
    let serve = |data: &Path, flags: &[&str], profile: Option<&str>| {
        let mut command = serve_command(data, flags);
        // No role is given to who asks here.
        command.env("HOME", home.path()).env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
        profile.map(|profile| command.env("AWS_PROFILE", profile));
        command
    };
    let (_temp, data) = fresh();
    let said = told(&run(&mut serve(&data, &["--store", "s3://bucket"], None), b""));
    assert!(said.contains("s3://bucket cannot be used without credentials; set AWS_"), "{said}");
    let said = told(&run(&mut serve(&data, &["--store", "s3://bucket"], Some("tide")), b""));
    assert!(said.contains("AWS_PROFILE names the profile tide, which is not in"), "{said}");
    assert!(!data.exists(), "nothing is left behind");
    let Some(moto) = Moto::shared() else { return };
    moto.bucket("of-a-profile");
    let endpoint = format!("http://{}", moto.addr());
    fs::create_dir(home.path().join(".aws")).unwrap();
    let keys = "[tide]\naws_access_key_id = test\naws_secret_access_key = test\n";
    fs::write(home.path().join(".aws/credentials"), keys).unwrap();
    let flags = ["--store", "s3://of-a-profile", "--s3-endpoint", &endpoint];
    let server = Server::start_by(serve(&data, &flags, Some("tide")), &data);
    server.ok(&["topic", "create", "t"]);
    assert_eq!(server.stop().status.code(), Some(0));
}

#[test]
fn a_damaged_meta_store_is_kept_aside_and_rebuilt() {
    let (temp, data) = fresh();
    let dir = temp.path().join("mnt");
    let server = start(&data, &[]);
    let has_file = fill(&server, &dir);
    wait_until_in_store(&server);
    server.stop();
    // A file in which the engine looks at each opening.
    let damaged = |name: &str| {
        let files = files_below(&data.join("meta"));
        let path = files.into_iter().find(|path| path.ends_with(name)).unwrap();
        fs::write(path, b"").unwrap();
    };
    for (name, aside) in [("keyspaces/0/current", "meta.damaged-1"), ("version", "meta.damaged-2")]
    {
        damaged(name);
        let mut fsck = crate::harness::strandline();
        let refused = run(fsck.arg("fsck").arg("--data").arg(&data), b"");
        assert!(refused.stderr.contains("is damaged"), "{}", refused.stderr);
        let server = start(&data, &[]);
        check(&server, &dir, has_file);
        assert!(data.join(aside).join("version").exists());
        let said = server.stop().stderr;
        assert!(said.contains(aside) && said.contains("the meta store is rebuilt"), "{said}");
        assert!(server_finds_nothing_wrong(&data));
    }
}

fn server_finds_nothing_wrong(data: &Path) -> bool {
    let mut fsck = crate::harness::strandline();
    run(fsck.args(["fsck", "--scrub", "--data"]).arg(data), b"").status.code() == Some(0)
}

#[test]
fn a_check_finds_what_is_missing_and_needs_the_directory_for_itself() {
    let (_temp, data) = fresh();
    let server = start(&data, &[]);
    server.run_with_input(&["produce", "words"], words().as_bytes());
    server.wait_for_status("it is packed", |status| status["journal"]["unpacked_bytes"] == 0);
    let fsck = |args: &[&str]| {
        run(crate::harness::strandline().arg("fsck").args(args).arg("--data").arg(&data), b"")
    };
    let busy = fsck(&[]);
    assert_eq!(busy.status.code(), Some(2), "{}", busy.stderr);
    assert!(busy.stderr.contains("another server is running"), "{}", busy.stderr);
    server.stop();
    let sound = fsck(&["--scrub", "--repair", "--json"]);
    assert_eq!(sound.status.code(), Some(0), "{} {}", sound.stdout, sound.stderr);
    let body: serde_json::Value = serde_json::from_str(&sound.stdout).unwrap();
    assert!(body["extents"].as_u64() > Some(0) && body["faults"] == 0, "{body}");
    let blocks = data.join("blocks");
    let largest =
        files_below(&blocks).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    fs::remove_file(largest.unwrap()).unwrap();
    let broken = fsck(&[]);
    assert_eq!(broken.status.code(), Some(1), "{} {}", broken.stdout, broken.stderr);
    assert!(broken.stdout.contains("is not in the store"), "{}", broken.stdout);
    let nowhere = run(crate::harness::strandline().args(["fsck", "--data", "/nonexistent"]), b"");
    assert_eq!(nowhere.status.code(), Some(2), "{}", nowhere.stderr);
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
