//! A part of a test in a process of its own: this test binary, started again for the one test, with a
//! socket between the two.
//!
//! A test asks [`asked`] first; in the second process that answers with the part to play. The
//! socket is the second process's standard input. When the first process ends in whatever way, the
//! second one finds the socket closed and ends too.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

const PART: &str = "TESTBED_PART";
const ARGUMENT: &str = "TESTBED_ARGUMENT_";
/// How long one side waits for the other before it takes it for stuck: for ever, for a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message: what its words mean is up to the test.
pub type Words = [u64; 5];

/// One end of the socket.
#[derive(Debug)]
pub struct Link(Mutex<UnixStream>);

impl Link {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(Mutex::new(stream))
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// When the other process is gone.
    ///
    /// # Panics
    ///
    /// If another thread panicked while it sent one.
    pub fn say(&self, words: Words) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.0.lock().unwrap().write_all(&bytes)
    }

    /// The next message; `None` when the other process is gone.
    ///
    /// # Panics
    ///
    /// If nothing comes for a minute.
    pub fn hear(&self) -> Option<Words> {
        let mut bytes = [0; size_of::<Words>()];
        match self.0.lock().unwrap().read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("the other process is stuck: {error}"),
        }
        let (words, _) = bytes.as_chunks::<8>();
        Some(std::array::from_fn(|n| u64::from_le_bytes(words[n])))
    }

    /// The next message, if it is there already.
    ///
    /// # Panics
    ///
    /// If the socket cannot be asked.
    pub fn hear_now(&self) -> Option<Words> {
        let waiting = rustix::io::ioctl_fionread(&*self.0.lock().unwrap()).unwrap();
        if waiting < size_of::<Words>() as u64 { None } else { self.hear() }
    }
}

/// In the second process: the socket, if this part is to be played.
///
/// # Panics
///
/// If standard input is no socket.
pub fn asked(part: &str) -> Option<Link> {
    if !is_asked(part) {
        return None;
    }
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned().unwrap();
    Some(Link::new(UnixStream::from(socket)))
}

/// In the second process: whether this part is to be played.
pub fn is_asked(part: &str) -> bool {
    std::env::var_os(PART).is_some_and(|asked| asked == part)
}

/// In the second process: what the first one gave along.
///
/// # Panics
///
/// If it gave nothing of that name.
pub fn argument(name: &str) -> OsString {
    std::env::var_os(format!("{ARGUMENT}{name}")).unwrap()
}

/// In the second process: a number that the first one gave along.
///
/// # Panics
///
/// If it gave none of that name.
pub fn number(name: &str) -> u64 {
    argument(name).to_str().unwrap().parse().unwrap()
}

/// The command that plays a part of `test` (its path within this binary), after `before`.
///
/// # Panics
///
/// If this binary cannot be found.
pub fn command(before: &[&str], test: &str, part: &str, arguments: &[(&str, OsString)]) -> Command {
    let this = std::env::current_exe().unwrap().into_os_string();
    let mut words = before.iter().map(OsString::from).chain([this]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture"]).env(PART, part);
    for (name, value) in arguments {
        command.env(format!("{ARGUMENT}{name}"), value);
    }
    command
}

/// A second process that plays its part. Killed when dropped.
#[derive(Debug)]
pub struct Second {
    child: Child,
    /// Our end.
    pub link: Link,
}

impl Second {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If that does not work.
    pub fn start(test: &str, part: &str, arguments: &[(&str, OsString)]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = command(&[], test, part, arguments);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        // The command holds their end: while it lives, the socket does not close.
        drop(command);
        Self { child, link: Link::new(ours) }
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
