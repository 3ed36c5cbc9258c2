//! The product as its users run it: the release binary, its doors on free ports, its data in a folder of its
//! own on the measured disk.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::measure::Context;

/// How long starting, mounting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often something is looked at that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A running server; stopped, and its data removed, when dropped.
#[derive(Debug)]
pub(crate) struct Product {
    /// First, so that it is stopped before its data goes.
    server: Process,
    kafka: SocketAddr,
    binary: PathBuf,
    dir: TempDir,
}

impl Product {
    /// Starts a server on an empty folder and waits until it is ready.
    pub(crate) fn start(context: &Context) -> anyhow::Result<Self> {
        let binary = context.binary()?.to_owned();
        let dir = context.temp_dir()?;
        let mut command = Command::new(&binary);
        command
            .args(["serve", "--kafka", "127.0.0.1:0", "--http", "off", "--data"])
            .arg(dir.path().join("data"));
        let mut server = Process::start(command.stdout(Stdio::piped()))?;
        let kafka = server.wait_ready()?;
        Ok(Self { server, kafka, binary, dir })
    }

    /// Where Kafka clients connect.
    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// Makes a topic with one partition; `durability` as the command line has it.
    pub(crate) fn create_topic(&self, name: &str, durability: &str) -> anyhow::Result<()> {
        self.command(&["topic", "create", name, "--durability", durability])
    }

    /// Makes a volume and mounts it.
    pub(crate) fn mount(&self, volume: &str) -> anyhow::Result<Mounted> {
        self.command(&["volume", "create", volume])?;
        let dir = self.dir.path().join(volume);
        fs::create_dir(&dir)?;
        let mut mount = Command::new(&self.binary);
        mount
            .args(["mount", volume])
            .arg(&dir)
            .arg("--data")
            .arg(self.data())
            .stdout(Stdio::null());
        Mounted::start(&mut mount, dir)
    }

    /// Waits until the server has nothing to do: what is measured next has the machine for itself.
    pub(crate) fn wait_idle(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut before = self.server.cpu_ticks()?;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.server.cpu_ticks()?;
            if now == before {
                return Ok(());
            }
            anyhow::ensure!(start.elapsed() < 4 * PATIENCE, "the server does not come to rest");
            before = now;
        }
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(self.data());
        run(&mut command)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// A mount served by a process of its own; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: PathBuf,
    process: Process,
}

impl Mounted {
    /// Runs `command`, which mounts on `dir` and serves, and waits until the mount is there.
    pub(crate) fn start(command: &mut Command, dir: PathBuf) -> anyhow::Result<Self> {
        let before = device(&dir)?;
        let mut process = Process::start(command)?;
        let start = Instant::now();
        while device(&dir)? == before {
            anyhow::ensure!(!process.has_ended(), "the mount ended before it was there");
            anyhow::ensure!(start.elapsed() < PATIENCE, "the mount does not come up");
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Self { dir, process })
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("fusermount3").arg("-u").arg(&self.dir)) {
            eprintln!("note: {error:#}");
        }
        self.process.wait_for_end();
    }
}

/// A process that does not outlive us.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("run {}", command.get_program().display()))?))
    }

    /// Reads what a server prints at its start up to `ready`, and gives the address of its Kafka door.
    fn wait_ready(&mut self) -> anyhow::Result<SocketAddr> {
        let output = self.0.stdout.take().context("the output was piped")?;
        let mut kafka = None;
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line.to_lowercase().starts_with("kafka") {
                kafka = line.split_whitespace().find_map(|word| word.parse().ok());
            }
            if line.trim() == "ready" {
                return kafka.context("the server did not say where its Kafka door is");
            }
        }
        anyhow::bail!("the server ended before it was ready")
    }

    /// Processor time used so far, in the kernel's ticks.
    fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("read /proc/PID/stat")?;
        let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
        let (user, system) = (fields.next().context("utime")??, fields.next().context("stime")??);
        Ok(user + system)
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Gives it a while to end by itself, then ends it.
    fn wait_for_end(&mut self) {
        let start = Instant::now();
        while !self.has_ended() {
            if start.elapsed() > PATIENCE {
                eprintln!("note: process {} does not end and is killed", self.0.id());
                self.0.kill().expect("our own child can be killed");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            let pid = Pid::from_child(&self.0);
            kill_process(pid, Signal::TERM).expect("our own child can be asked to end");
            self.wait_for_end();
        }
    }
}

/// The number of the file system that `dir` lies on: it changes when something is mounted there.
fn device(dir: &Path) -> anyhow::Result<u64> {
    Ok(rustix::fs::stat(dir).with_context(|| format!("look at {}", dir.display()))?.st_dev)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let name = command.get_program().display();
    anyhow::ensure!(
        output.status.success(),
        "{name} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
