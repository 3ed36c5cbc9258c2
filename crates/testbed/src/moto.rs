//! A real S3 server: the Python package `moto`, which keeps buckets in memory.
//!
//! The server is a process that ends when its standard input does, thus also when its test is killed. Its port is
//! picked by the system. `cargo xtask setup` installs the package, in the version of
//! `xtask/test-requirements.txt`, into `.test-env/venv`; where that is missing, any `python3` that has it will do.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::{fmt, io};

use crate::http::{self, Head, Reply};

/// A server of ours, with no buckets at first. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Moto {
    /// Its standard input is open as long as the server shall run.
    server: Child,
    addr: SocketAddr,
    version: String,
}

/// No Python here has moto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMoto;

impl fmt::Display for NoMoto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no S3 server here: no Python has the package moto; `cargo xtask setup` installs it",
        )
    }
}

impl std::error::Error for NoMoto {}

impl Moto {
    /// Starts a server on `port` of 127.0.0.1; 0: one that the system picks.
    ///
    /// # Errors
    ///
    /// [`NoMoto`] when no Python that has the package could start one.
    pub fn start(port: u16) -> Result<Self, NoMoto> {
        pythons().find_map(|python| Self::start_with(&python, port)).ok_or(NoMoto)
    }

    fn start_with(python: &PathBuf, port: u16) -> Option<Self> {
        let mut server = Command::new(python)
            .args(["-c", include_str!("moto/serve.py"), &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = String::new();
        let read = BufReader::new(server.stdout.take()?).read_line(&mut said);
        let answer = said.trim().split_once(' ').and_then(|(port, version)| {
            Some((SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)), version.to_owned()))
        });
        let (Ok(_), Some((addr, version))) = (read, answer) else {
            let _ended = server.kill().and_then(|()| server.wait());
            return None;
        };
        Some(Self { server, addr, version })
    }

    /// The server that all tests of this process share, started by the first who asks. Without one, prints why
    /// in a line that begins with `skipped:`.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Moto, NoMoto>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start(0)).as_ref();
        shared.map_err(|missing| println!("skipped: {missing}")).ok()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Version of the package.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes a bucket. Names have 3 to 63 letters, digits, dots or hyphens.
    ///
    /// # Panics
    ///
    /// If the server does not like the name, or has a bucket of that name.
    pub fn bucket(&self, name: &str) -> Bucket {
        let bucket = Bucket { addr: self.addr, name: name.to_owned() };
        let reply = http::exchange(self.addr, &head("PUT", &format!("/{name}"), &[]), &[]);
        let reply = reply.expect("moto answers");
        assert_eq!(reply.status, 200, "bucket {name}: {}", String::from_utf8_lossy(&reply.body));
        bucket
    }

    /// Waits until the server ends by itself: never, unless somebody ends it.
    ///
    /// # Errors
    ///
    /// As waiting for any process.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        // Taken out, so that waiting does not close it and so end the server.
        let _open = self.server.stdin.take();
        self.server.wait()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ended = self.server.kill().and_then(|()| self.server.wait());
    }
}

/// Pythons to try, best first.
fn pythons() -> impl Iterator<Item = PathBuf> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.test-env/venv/bin/python");
    [ours, "python3"].into_iter().map(PathBuf::from)
}

/// A request that moto takes for signed.
pub(crate) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
    let signature = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=none";
    let ours = [("host", "localhost"), ("authorization", signature)];
    let headers = ours.iter().chain(headers);
    Head {
        first: format!("{method} {target} HTTP/1.1"),
        headers: headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

/// A bucket, seen directly: what really is there, whatever a proxy lets its clients see.
///
/// Its methods panic if the server does not answer.
#[derive(Clone, Debug)]
pub struct Bucket {
    addr: SocketAddr,
    name: String,
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends any request: `rest` is what follows the bucket's name, such as `/key` or `?list-type=2`.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub fn request(
        &self,
        method: &str,
        rest: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let target = format!("/{}{rest}", self.name);
        http::exchange(self.addr, &head(method, &target, headers), body).expect("moto answers")
    }

    /// An object's bytes.
    ///
    /// # Panics
    ///
    /// If the server answers anything but these or 404.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let reply = self.request("GET", &format!("/{key}"), &[], &[]);
        assert!([200, 404].contains(&reply.status), "{key}: status {}", reply.status);
        (reply.status == 200).then_some(reply.body)
    }

    /// Writes an object, whatever was there.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let reply = self.request("PUT", &format!("/{key}"), &[], bytes);
        assert_eq!(reply.status, 200, "{key}");
    }

    /// Removes an object, if it is there.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn delete(&self, key: &str) {
        let reply = self.request("DELETE", &format!("/{key}"), &[], &[]);
        assert_eq!(reply.status, 204, "{key}");
    }

    /// The names of all objects, in order.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map(|key| format!("&start-after={key}")).unwrap_or_default();
            let reply = self.request("GET", &format!("?list-type=2{after}"), &[], &[]);
            assert_eq!(reply.status, 200);
            let text = String::from_utf8(reply.body).expect("a listing is text");
            let parts = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            keys.extend(parts.map(str::to_owned));
            if !text.contains("<IsTruncated>true") {
                return keys;
            }
        }
    }
}

#[cfg(test)]
mod tests;
