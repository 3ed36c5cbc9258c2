//! A server that does nothing but answer: the limit of everything that is asked over loopback TCP.
//!
//! It has one thread and waits with epoll, as an event loop does. A request is a frame with its length (big
//! endian, 4 bytes) in front; the answer to each is a frame that was fixed before, with the request's
//! correlation id (bytes 8..12) in its place (bytes 4..8), as Kafka has it. So one client can drive this
//! server and the product with the same bytes. With a file, the request's bytes are made durable before the
//! answer: the least that a server which keeps its promise must do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{Builder, JoinHandle};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use crate::limits::disk::RecycledFile;

/// Room for requests; the longest must fit.
const INPUT_BYTES: usize = 4 << 20;

/// The server's thread; it ends when its only client hangs up.
#[derive(Debug)]
pub(crate) struct NullServer {
    addr: SocketAddr,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl NullServer {
    /// Starts a server for one connection that answers every request with `answer`.
    pub(crate) fn start(answer: Vec<u8>, file: Option<RecycledFile>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let addr = listener.local_addr()?;
        let thread = Builder::new().name("null-server".to_owned()).spawn(move || {
            let input = vec![0; INPUT_BYTES];
            Server { answer, file, input, filled: 0 }.serve(&listener)
        })?;
        Ok(Self { addr, thread })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until the client's hanging up has ended the server.
    pub(crate) fn join(self) -> anyhow::Result<()> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the null server panicked"))?
    }
}

struct Server {
    answer: Vec<u8>,
    file: Option<RecycledFile>,
    /// Requests that are not answered yet lie in its first `filled` bytes.
    input: Vec<u8>,
    filled: usize,
}

impl Server {
    fn serve(mut self, listener: &TcpListener) -> anyhow::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(0), readable)?;
        let mut events = Vec::with_capacity(1);
        loop {
            match stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    self.filled += read;
                    self.answer_all(&mut stream)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    events.clear();
                    epoll::wait(&poll, spare_capacity(&mut events), None)?;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn answer_all(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(len) = frame_len(&self.input[at..self.filled]) {
            let frame = &self.input[at..at + len];
            if let Some(file) = &mut self.file {
                file.write_durably(frame)?;
            }
            self.answer[4..8].copy_from_slice(&frame[8..12]);
            send_all(stream, &self.answer)?;
            at += len;
        }
        anyhow::ensure!(
            at > 0 || self.filled < INPUT_BYTES,
            "a request is longer than {INPUT_BYTES} bytes"
        );
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

/// Sends all of `bytes`; an answer is small, or the only one under way, so that waiting here is all there is
/// to do.
fn send_all(stream: &mut TcpStream, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wait = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut wait, None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The length of the first frame, its length field included, if all of it is there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.first_chunk::<4>()?;
    let len = 4 + usize::try_from(u32::from_be_bytes(*len)).expect("this is a 64-bit program");
    (bytes.len() >= len).then_some(len)
}

#[cfg(test)]
mod tests {
    //! Goal: the null server answers every request once and in order, however the bytes arrive.

    use super::*;
    use crate::client::Client;

    /// A request of `len` bytes after its length, and an answer of nothing but a correlation id.
    #[track_caller]
    fn check(len: usize, count: usize, in_flight: usize, file: Option<RecycledFile>) {
        let server = NullServer::start(vec![0, 0, 0, 4, 9, 9, 9, 9], file).unwrap();
        let mut frame = vec![7; 4 + len];
        frame[..4].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        let mut client = Client::connect(server.addr()).unwrap();
        let took = client.repeat(&mut frame, count, in_flight, |_| Ok(())).unwrap();
        assert_eq!(took.len(), count);
        drop(client);
        server.join().unwrap();
    }

    #[test]
    fn small_requests_are_answered_in_turn() {
        check(8, 100, 1, None);
        check(8, 100, 50, None);
    }

    #[test]
    fn requests_larger_than_a_read_are_answered() {
        check(3 << 20, 10, 5, None);
    }

    #[test]
    fn with_a_file_requests_are_written_before_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        check(8, 3, 1, Some(RecycledFile::create(&path, 100).unwrap()));
        let written = std::fs::read(path).unwrap();
        assert_eq!(
            (&written[12..16], written[36]),
            (&[0, 0, 0, 8][..], 0x5A),
            "three requests of 12 bytes"
        );
        assert_eq!(written[..4], [0, 0, 0, 8]);
    }
}
