//! Goal: `strandline gc` says what it would delete, deletes that and nothing else, and can be read by people and programs.

use std::path::{Path, PathBuf};

use crate::harness::{Server, fresh};

/// A block that nobody needs, as a pack that a kill interrupted leaves it.
fn orphan(data: &Path) -> PathBuf {
    let name = "00000000-0000000000000001-0000000000000099";
    let folder = data.join("blocks/00000000-0000000000000001/00000000000000");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.blk"));
    std::fs::write(&path, vec![0; 1000]).unwrap();
    path
}

fn gc(server: &Server, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&server.ok(&[&["gc", "--json"], args].concat())).unwrap()
}

#[test]
fn a_block_that_nobody_needs_is_told_then_kept_by_grace_then_deleted() {
    let (_temp, data) = fresh();
    let flags = ["--pack-after", "50ms", "--gc-every", "off"];
    let server = Server::start_with(&data, &flags);
    server.run_with_input(&["produce", "words"], b"one\ntwo\n");
    // Its own block, and one of the ledger.
    server.wait_for_status("it is packed", |status| status["blocks"]["count"] == 2);
    server.stop();
    let orphan = orphan(&data);
    let server = Server::start_with(&data, &flags);
    let round = gc(&server, &["--dry-run", "--grace", "0s"]);
    assert_eq!(
        (&round["dead_blocks"], &round["deleted_blocks"]),
        (&1.into(), &0.into()),
        "{round}"
    );
    assert_eq!(round["dry_run"], true);
    let round = gc(&server, &[]);
    assert_eq!((&round["young_blocks"], &round["dead_blocks"]), (&1.into(), &0.into()), "{round}");
    assert!(orphan.exists());
    let shown = server.ok(&["gc", "--grace", "0s"]);
    assert!(shown.contains("deleted    1 block, 1000 B"), "{shown}");
    // The same names for people and for programs, all of them explained.
    let help = server.ok(&["gc", "--help"]);
    for line in shown.lines() {
        let name = line.split(' ').next().unwrap();
        let field = format!("{name}_");
        assert!(round.as_object().unwrap().keys().any(|key| key.starts_with(&field)), "{line}");
        assert!(name == "took" || help.contains(&format!("\n  {name} ")), "{name} in {help}");
    }
    assert!(!orphan.exists());
    assert_eq!(server.ok(&["consume", "words"]), "one\ntwo\n");
    let seen = server.http_get("/api/gc");
    assert!(seen.contains("\"ended\":3") && seen.contains("\"deleted_blocks\":1"), "{seen}");
}

#[test]
fn rounds_run_by_themselves() {
    let (_temp, data) = fresh();
    drop(Server::start(&data));
    let orphan = orphan(&data);
    let server = Server::start_with(&data, &["--gc-every", "20ms", "--gc-grace", "0s"]);
    crate::harness::wait_until("the orphan is gone", || !orphan.exists());
    assert_eq!(server.stop().stderr, "");
}

#[test]
fn what_cannot_be_asked_for_is_refused_in_a_sentence() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let ended = server.run(&["gc", "--grace", "soon"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("expected an age"), "{}", ended.stderr);
    let ended = server.run(&["gc", "--server", server.door("http")]);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
}
