//! Runs the real binary: a server on a directory of its own, and commands against it.
//!
//! Everything waits for output, an exit or a condition, up to [`PATIENCE`]; nothing sleeps to let something happen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before a test fails. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_strandline");

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Log,
    data: PathBuf,
    /// The lines before `ready`.
    pub(crate) doors: Vec<String>,
}

/// The end of a process and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Standard error of a process, gathered as it comes.
#[derive(Debug)]
struct Log(Option<thread::JoinHandle<String>>);

impl Server {
    /// Starts a server with free ports on `data` and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more flags.
    #[track_caller]
    pub(crate) fn start_with(data: &Path, flags: &[&str]) -> Self {
        Self::start_by(serve_command(data, flags), data)
    }

    /// Starts a server by a command and waits until it is ready.
    #[track_caller]
    pub(crate) fn start_by(mut command: Command, data: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Log::of(&mut child);
        let lines = lines_of(child.stdout.take().unwrap());
        let mut server = Self { child, log, data: data.to_owned(), doors: Vec::new() };
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(line) => server.doors.push(line),
                Err(error) => {
                    let _ = server.child.kill();
                    panic!("the server is not ready ({error}); it said: {}", server.log.text());
                }
            }
        }
        server
    }

    /// The address that the server printed for a door.
    #[track_caller]
    pub(crate) fn door(&self, name: &str) -> &str {
        let line = self
            .doors
            .iter()
            .find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no line for {name} in {:?}", self.doors)).trim()
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill9(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.text()
    }

    /// Asks it to stop, and returns what it said when it has.
    pub(crate) fn stop(mut self) -> Ended {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = wait(&mut self.child);
        Ended { status, stdout: String::new(), stderr: self.log.text() }
    }

    /// Runs a command against this server, which must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert!(ended.status.success(), "{args:?} failed: {}", ended.stderr);
        ended.stdout
    }

    /// Runs a command against this server, which must fail, and returns what it said.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{args:?} must be refused; it said {} {}",
            ended.stdout,
            ended.stderr
        );
        ended.stderr
    }

    /// Runs a command against this server.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with_input(args, b"")
    }

    /// The same with bytes on its standard input.
    #[track_caller]
    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        run(strandline().env("STRANDLINE_DATA", &self.data).args(args), input)
    }

    /// The status as JSON.
    #[track_caller]
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    /// Polls the status until `is_so`.
    #[track_caller]
    pub(crate) fn wait_for_status(
        &self,
        what: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut last = serde_json::Value::Null;
        wait_until(what, || {
            last = self.status();
            is_so(&last)
        });
        last
    }

    /// Sends one HTTP request as it is to the HTTP door and returns the whole answer.
    #[track_caller]
    pub(crate) fn http(&self, request: &str) -> String {
        self.try_http(request).unwrap()
    }

    /// The same where the door may close before it has read everything.
    pub(crate) fn try_http(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.door("http"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// GETs a path as a browser on this machine would.
    pub(crate) fn http_get(&self, path: &str) -> String {
        self.http(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let status = self.child.try_wait();
        // Already gone after `stop` and `kill9`.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server (ended: {status:?}) said: {}", self.log.text());
        }
    }
}

impl Log {
    fn of(child: &mut Child) -> Self {
        let mut stderr = child.stderr.take().unwrap();
        Self(Some(thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })))
    }

    /// All of it; the process must have ended.
    fn text(&mut self) -> String {
        self.0.take().map_or_else(String::new, |thread| thread.join().unwrap())
    }
}

/// A command without arguments, and without the caller's settings.
pub(crate) fn strandline() -> Command {
    let mut command = Command::new(BINARY);
    command.env_remove("STRANDLINE_DATA").env_remove("RUST_LOG");
    command
}

/// A `serve` command on free ports.
pub(crate) fn serve_command(data: &Path, flags: &[&str]) -> Command {
    let mut command = strandline();
    command
        .args(["serve", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // A command may end without reading what it is given.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let mut stdout = child.stdout.take().unwrap();
    let output = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut log = Log::of(&mut child);
    let status = wait(&mut child);
    feeder.join().unwrap();
    Ended { status, stdout: output.join().unwrap().unwrap(), stderr: log.text() }
}

/// Waits for the end of a process; kills it and fails when it takes too long.
#[track_caller]
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("a process did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until `is_so`.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A fresh directory, and a name in it that does not exist yet.
pub(crate) fn fresh() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    (temp, data)
}

/// Lines as they come.
pub(crate) fn lines_of(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
