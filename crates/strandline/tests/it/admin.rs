//! Goal: the admin doors tell the truth to those who may ask, and nothing to others.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::harness::{Server, fresh, run, strandline};

/// `nobody`: a user that is neither root nor the server's.
const STRANGER: u32 = 65534;

#[test]
fn health_status_and_metrics_are_read_over_http() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["topic", "create", "t", "--partitions", "3"]);
    assert!(server.http_get("/healthz").ends_with("\r\n\r\nok\n"));
    let status = server.http_get("/api/status");
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    assert!(status.contains("\"partitions\":3"), "{status}");
    let metrics = server.http_get("/metrics");
    for name in [
        "strandline_partitions 3",
        "strandline_journal_bytes ",
        "strandline_journal_unpacked_limit_bytes 1073741824",
        "strandline_cache_limit_bytes 134217728",
        "strandline_cache_hit_bytes_total 0",
        "strandline_collection_rounds_total 0",
        "strandline_kafka_frames_refused_total 0",
        "# EOF",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}

#[test]
fn the_status_says_what_the_server_holds() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["topic", "create", "t", "--partitions", "2"]);
    server.ok(&["volume", "create", "v"]);
    let status = server.status();
    assert_eq!(status["doors"]["kafka"]["address"], server.door("kafka"));
    assert_eq!(status["doors"]["http"], server.door("http"));
    assert_eq!(status["data"], data.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(status["topics"]["partitions"], 2);
    assert_eq!(status["volumes"]["count"], 1);
    assert_eq!(status["recovery"]["clean"], true);
    assert!(status["memory"]["anonymous_bytes"].as_u64().unwrap() > 0);
    let journal = &status["journal"];
    let position = |name: &str| journal[name].as_u64().unwrap();
    assert!(position("start") <= position("durable"));
    assert!(position("durable") <= position("written"));
    assert!(position("written") <= position("appended"));
    let shown = server.ok(&["status"]);
    for label in [
        "version", "data", "kafka", "http", "topics", "volumes", "journal", "commits", "blocks",
        "store", "gc", "cache", "memory", "start",
    ] {
        assert!(shown.lines().any(|line| line.starts_with(label)), "{label} in {shown}");
    }
    let there = run(strandline().args(["status", "--json", "--server", server.door("http")]), b"");
    assert!(there.stdout.contains("\"partitions\":2"), "{} {}", there.stdout, there.stderr);
}

#[test]
fn every_metric_and_field_of_the_status_follows_the_convention() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["gc"]);
    let metrics = server.http_get("/metrics");
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
        let mut words = line.split(' ').skip(2);
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        assert!(name.starts_with("strandline_"), "{line}");
        // The text adds `_total` to each sample of a counter.
        assert!(!name.ends_with("_total"), "{line}");
        assert!(!name.contains("_ms") && !name.contains("_max"), "{line}");
        assert!(kind == "gauge" || kind == "counter", "{line}");
    }
    let mut names = Vec::new();
    names_of(&server.status(), &mut names);
    for name in names {
        assert!(!name.ends_with("_seconds") && !name.ends_with("_s"), "{name}");
    }
    let status = server.status();
    assert_eq!(status["collection"]["rounds"], 1);
    assert!(status["collection"]["last"]["ended_ms"].as_i64() > Some(1_500_000_000_000));
    assert_eq!(status["store"]["url"], "own");
    assert!(status["store"]["transfers"].is_null());
    assert_eq!(status["cache"]["bytes_max"], 128 << 20);
}

/// The names of all fields.
fn names_of(value: &serde_json::Value, names: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        names.push(name.clone());
        names_of(value, names);
    }
}

#[test]
fn a_foreign_host_name_is_refused_on_loopback() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example"] {
        let answer = server.http(&format!(
            "GET /api/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let none = server.http("GET /api/status HTTP/1.0\r\n\r\n");
    assert!(none.starts_with("HTTP/1.0 403") || none.starts_with("HTTP/1.1 403"), "{none}");
}

#[test]
fn nothing_can_be_changed_over_http() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["volume", "create", "kept"]);
    for (method, path) in [
        ("POST", "/api/volumes"),
        ("DELETE", "/api/volumes/kept"),
        ("POST", "/api/topics"),
        ("DELETE", "/api/topics/t"),
    ] {
        let answer = server.http(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{{\"name\":\"x\"}}"
        ));
        let code = answer.get(..12);
        assert!(matches!(code, Some("HTTP/1.1 404" | "HTTP/1.1 405")), "{method} {path}: {answer}");
    }
    assert_eq!(server.ok(&["volume", "list"]), "kept\n");
    let ended =
        run(strandline().args(["volume", "create", "x", "--server", server.door("http")]), b"");
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("read only"), "{}", ended.stderr);
}

#[test]
fn oversized_and_broken_requests_leave_the_server_alive() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for request in [long.as_str(), many.as_str(), "\0\0\0\0\r\n\r\n", "GET\r\n\r\n"] {
        if let Ok(answer) = server.try_http(request) {
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    assert!(server.http_get("/healthz").ends_with("ok\n"));
}

#[test]
fn the_control_socket_answers_only_its_own_user_and_root() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return;
    }
    let (temp, data) = fresh();
    let server = Server::start(&data);
    let binary = temp.path().join("strandline");
    std::fs::copy(crate::harness::BINARY, &binary).unwrap();
    let ask = || {
        let mut command = std::process::Command::new(&binary);
        run(
            command
                .args(["volume", "create", "x", "--data"])
                .arg(&data)
                .uid(STRANGER)
                .gid(STRANGER),
            b"",
        )
    };
    for path in [temp.path(), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let outside = ask();
    assert_eq!(outside.status.code(), Some(1));
    assert!(outside.stderr.contains("belongs to another user"), "{}", outside.stderr);
    // Even where the file system would let it in.
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(data.join("control.sock"), std::fs::Permissions::from_mode(0o666))
        .unwrap();
    let inside = ask();
    assert_eq!(inside.status.code(), Some(1));
    assert!(inside.stderr.contains("only the server's own user and root"), "{}", inside.stderr);
    assert_eq!(server.ok(&["volume", "list"]), "");
}

#[test]
fn volumes_are_made_listed_and_deleted() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["volume", "create", "b"]);
    server.ok(&["volume", "create", "a"]);
    assert_eq!(server.ok(&["volume", "list"]), "a\nb\n");
    assert!(server.refused(&["volume", "create", "a"]).starts_with("error: "));
    assert!(server.refused(&["volume", "create", "a/b"]).starts_with("error: "));
    let unasked = server.run(&["volume", "delete", "a"]);
    assert_eq!(unasked.status.code(), Some(2));
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    server.ok(&["volume", "delete", "a", "--yes"]);
    assert!(server.refused(&["volume", "delete", "a", "--yes"]).starts_with("error: "));
    let data = server.data().to_owned();
    server.kill9();
    let server = Server::start(&data);
    let listed: serde_json::Value =
        serde_json::from_str(&server.ok(&["volume", "list", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["name"], "b");
    assert_eq!(listed[0]["durability"], "written");
    assert_eq!(listed[0]["files"], 0, "the root is not counted");
    assert!(listed[0]["created_ms"].as_i64() > Some(1_500_000_000_000), "{listed}");
}

#[test]
fn whatever_is_missing_is_told_in_one_way() {
    let (temp, data) = fresh();
    let server = Server::start(&data);
    let dir = temp.path().to_str().unwrap();
    let cases: [(&str, &[&str]); 5] = [
        ("volume", &["volume", "delete", "nix", "--yes"]),
        ("volume", &["mount", "nix", dir]),
        ("topic", &["topic", "describe", "nix"]),
        ("topic", &["topic", "delete", "nix", "--yes"]),
        ("topic", &["consume", "nix"]),
    ];
    for (kind, args) in cases {
        let want =
            format!("{kind} nix does not exist; `strandline {kind} list` shows those that do");
        assert_eq!(server.refused(args), format!("error: {want}\n"), "{args:?}");
    }
    for args in [&["topic", "describe", "nix", "--json"][..], &["consume", "nix", "--json"]] {
        let told: serde_json::Value = serde_json::from_str(&server.refused(args)).unwrap();
        let want = "topic nix does not exist; `strandline topic list` shows those that do";
        assert_eq!(told, serde_json::json!({ "error": want }), "{args:?}");
    }
}

#[test]
fn topics_are_made_described_and_deleted() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["topic", "create", "orders", "--partitions", "2", "--durability", "written"]);
    server.ok(&["topic", "create", "words"]);
    assert_eq!(server.ok(&["topic", "list"]), "orders\nwords\n");
    let described = server.ok(&["topic", "describe", "orders"]);
    assert!(described.contains("durability  written"), "{described}");
    let json: serde_json::Value =
        serde_json::from_str(&server.ok(&["topic", "describe", "orders", "--json"])).unwrap();
    assert_eq!(json["partitions"].as_array().unwrap().len(), 2);
    assert!(server.refused(&["topic", "create", "words"]).contains("exists"));
    assert!(server.refused(&["topic", "create", "no/slash"]).contains("a-z"));
    assert!(
        server.refused(&["topic", "create", "none", "--partitions", "0"]).contains("partitions")
    );
    assert!(server.refused(&["topic", "describe", "nix"]).contains("does not exist"));
    server.ok(&["topic", "delete", "words", "--yes"]);
    let data = server.data().to_owned();
    server.kill9();
    assert_eq!(Server::start(&data).ok(&["topic", "list"]), "orders\n");
}
