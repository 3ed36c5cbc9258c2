//! Goal: the server starts with clear words or stops with clear words, and never shares its directory.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Signal, kill_process};

use crate::harness::{Server, fresh, run, serve_command, strandline, wait};

#[test]
fn a_server_prints_its_doors_and_stops_when_asked() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    assert!(server.door("kafka").starts_with("127.0.0.1:"));
    assert!(server.door("http").starts_with("127.0.0.1:"));
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for socket in ["control.sock", "files.sock"] {
        assert_eq!(
            data.join(socket).metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{socket}"
        );
    }
    let ended = server.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_clean_stop_is_told_from_a_crash() {
    let (_temp, data) = fresh();
    Server::start(&data).stop();
    let server = Server::start(&data);
    assert_eq!(server.status()["recovery"]["clean"], true);
    assert_eq!(server.status()["recovery"]["opening"], 2);
    server.kill9();
    assert_eq!(Server::start(&data).status()["recovery"]["clean"], false);
}

#[test]
fn an_interrupt_stops_the_server_too() {
    let (_temp, data) = fresh();
    let mut child = serve_command(&data, &[]).spawn().unwrap();
    let lines = crate::harness::lines_of(child.stdout.take().unwrap());
    while lines.recv_timeout(crate::harness::PATIENCE).unwrap() != "ready" {}
    kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let (_temp, data) = fresh();
    let _server = Server::start(&data);
    let second = run(&mut serve_command(&data, &[]), b"");
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.starts_with("error: another server is running on "), "{}", second.stderr);
    assert_eq!(second.stderr.lines().count(), 1);
}

#[test]
fn a_port_in_use_is_named() {
    let (_temp, data) = fresh();
    let (_temp2, data2) = fresh();
    let server = Server::start(&data);
    let kafka = server.door("kafka");
    let second = run(
        strandline().args(["serve", "--http", "off", "--kafka", kafka, "--data"]).arg(&data2),
        b"",
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(
        second.stderr.contains(&format!("cannot open the kafka door at {kafka}")),
        "{}",
        second.stderr
    );
}

#[test]
fn doors_can_be_off() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--config", "/dev/null"]);
    drop(server);
    let mut command = strandline();
    command.args(["serve", "--kafka", "off", "--http", "off", "--data"]).arg(&data);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = crate::harness::lines_of(child.stdout.take().unwrap());
    let mut doors = Vec::new();
    loop {
        let line = lines.recv_timeout(crate::harness::PATIENCE).unwrap();
        if line == "ready" {
            break;
        }
        doors.push(line);
    }
    assert!(
        !doors.iter().any(|line| line.starts_with("kafka") || line.starts_with("http")),
        "{doors:?}"
    );
    kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn a_door_without_authentication_that_leaves_loopback_is_warned_of() {
    let (_temp, data) = fresh();
    let server = Server::start_with(&data, &["--config", "/dev/null"]);
    assert_eq!(server.stop().stderr, "");
    let mut command = strandline();
    command.args(["serve", "--kafka", "0.0.0.0:0", "--http", "off", "--data"]).arg(&data);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let warnings = crate::harness::lines_of(child.stderr.take().unwrap());
    let warning = warnings.recv_timeout(crate::harness::PATIENCE).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(warning.starts_with("warning: the kafka door at 0.0.0.0:"), "{warning}");
    assert!(warning.contains("no authentication"), "{warning}");
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_its_line_and_its_neighbour() {
    let (temp, data) = fresh();
    let config = temp.path().join("strandline.toml");
    std::fs::write(&config, "# doors\nhttp = \"off\"\nkafak = \"off\"\n").unwrap();
    let ended = run(serve_command(&data, &["--config"]).arg(&config), b"");
    assert_eq!(ended.status.code(), Some(1));
    let expected =
        format!("error: {}:3: unknown key `kafak`; did you mean `kafka`?\n", config.display());
    assert_eq!(ended.stderr, expected);
    assert!(!data.exists(), "nothing is made before the settings are understood");
}

#[test]
fn a_strangers_directory_is_refused() {
    let (temp, _) = fresh();
    std::fs::write(temp.path().join("thesis.tex"), "x").unwrap();
    let ended = run(&mut serve_command(temp.path(), &[]), b"");
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("not empty and has no FORMAT file"), "{}", ended.stderr);
}

#[test]
fn bad_flags_are_usage_errors() {
    let bad: &[&[&str]] = &[
        &["serve", "--kafka", "nowhere"],
        &["serve", "--pack-after", "soon"],
        &["serve", "--pack-after", "1MiB,2MiB"],
        &["serve", "--log", "loud=shout=1"],
        &["serve", "--server", "127.0.0.1:1"],
        &["serve", "--kafak", "off"],
        &["consume", "t", "--from", "yesterdayish"],
        &["nonsense"],
        &[],
    ];
    for args in bad {
        let (_temp, data) = fresh();
        let ended = run(strandline().args(*args).env("STRANDLINE_DATA", &data), b"");
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{args:?}");
        assert!(!data.exists(), "{args:?}");
    }
}

#[test]
fn a_data_directory_with_a_very_long_name_works() {
    let (_temp, data) = fresh();
    let data = data.join("x".repeat(120));
    let server = Server::start(&data);
    server.ok(&["volume", "create", "v"]);
    assert_eq!(server.ok(&["volume", "list"]), "v\n");
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "serve",
        "mount",
        "unmount",
        "volume",
        "topic",
        "produce",
        "consume",
        "status",
        "gc",
        "fsck",
        "restore",
        "inspect",
        "completions",
    ] {
        let ended = run(strandline().args([command, "--help"]), b"");
        assert_eq!(ended.status.code(), Some(0), "{command}");
        assert!(ended.stdout.contains("Example"), "{command}: {}", ended.stdout);
        assert!(
            ended.stdout.contains(&format!("strandline {command}")),
            "{command}: {}",
            ended.stdout
        );
    }
}

#[test]
fn completions_know_our_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(strandline().args(["completions", shell]), b"");
        assert_eq!(ended.status.code(), Some(0), "{shell}");
        assert!(ended.stdout.contains("pack-after"), "{shell}");
    }
}

#[test]
fn a_start_that_comes_to_nothing_leaves_nothing_behind() {
    let (_temp, data) = fresh();
    let server = Server::start(&data);
    let (temp, _) = fresh();
    let new = temp.path().join("far/away");
    // A port in use; then a store that another directory has.
    let kafka = ["--kafka", server.door("kafka")];
    let blocks = format!("dir:{}", data.join("blocks").display());
    for flags in [&kafka[..], &["--kafka", "off", "--store", &blocks]] {
        let mut command = strandline();
        command.args(["serve", "--http", "off", "--data"]).arg(&new).args(flags);
        let ended = run(&mut command, b"");
        assert_eq!(ended.status.code(), Some(1), "{flags:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "{flags:?}");
    }
    let taken = run(&mut serve_command(&new, &["--store", &blocks]), b"");
    assert!(taken.stderr.contains("--take-over"), "{}", taken.stderr);
    // What was there before stays.
    assert_eq!(server.stop().status.code(), Some(0));
    let other = Server::start(&new);
    let ended = run(
        strandline()
            .args(["serve", "--http", "off", "--kafka", other.door("kafka"), "--data"])
            .arg(&data),
        b"",
    );
    assert_eq!(ended.status.code(), Some(1));
    assert!(data.join("FORMAT").exists() && data.join("journal").exists());
}

#[test]
fn commands_without_a_server_say_how_to_start_one() {
    let (_temp, data) = fresh();
    for args in [
        &["status"][..],
        &["volume", "list"],
        &["topic", "list"],
        &["mount", "v", "/mnt"],
        &["produce", "t"],
    ] {
        let ended = run(strandline().args(args).arg("--data").arg(&data), b"x\n");
        assert_eq!(ended.status.code(), Some(1), "{args:?}");
        let hint = format!("start one with `strandline serve --data {}`", data.display());
        assert!(ended.stderr.contains(&hint), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {}", ended.stderr);
    }
}
