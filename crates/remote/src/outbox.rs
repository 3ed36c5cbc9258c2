//! The sending end of a connection, shared by everybody who has something to send.
//!
//! Whoever adds a frame while nobody is writing becomes the writer and sends, in one vectored write,
//! its own frame and those that others add meanwhile: no hand-over to another task while the socket
//! takes bytes. When it does not, the writer's part passes to [`Outbox::run`], which waits for it.
//!
//! Invariants: frames leave whole and in the order added; at most one party writes (`Queue::busy`);
//! nobody waits inside [`Outbox::send`], so a caller that is dropped leaves no half frame behind.
//!
//! The number and bytes of frames in the queue are bounded by what callers hold while they send: each
//! frame carries a `hold` that is dropped when the frame has left.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use tokio::sync::Notify;

use crate::pipe::Writer;
use crate::wire::Frame;

/// Buffers handed to one vectored write: two per frame.
const SLICES_MAX: usize = 64;

/// See the module's text.
pub(crate) struct Outbox<H> {
    queue: Mutex<Queue<H>>,
    sink: Mutex<Sink<H>>,
    taken_over: Notify,
}

struct Queue<H> {
    frames: VecDeque<(Frame, H)>,
    /// Somebody is writing, or `run` is about to.
    busy: bool,
    closed: bool,
}

/// Locked by the one writer only, so the lock never waits.
struct Sink<H> {
    writer: Writer,
    /// What is being written; the front may be partly gone.
    batch: VecDeque<(Frame, H)>,
}

/// The connection takes no more frames.
#[derive(Debug)]
pub(crate) struct Closed;

impl<H: Send> Outbox<H> {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            queue: Mutex::new(Queue { frames: VecDeque::new(), busy: false, closed: false }),
            sink: Mutex::new(Sink { writer, batch: VecDeque::new() }),
            taken_over: Notify::new(),
        }
    }

    /// Adds a frame, and sends it at once if the socket takes it. `hold` is dropped when it has left or
    /// the connection is closed.
    pub(crate) fn send(&self, frame: Frame, hold: H) -> Result<(), Closed> {
        {
            let mut queue = lock(&self.queue);
            if queue.closed {
                return Err(Closed);
            }
            queue.frames.push_back((frame, hold));
            if mem::replace(&mut queue.busy, true) {
                return Ok(());
            }
        }
        match self.write_out(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.close(),
            Poll::Pending => self.taken_over.notify_one(),
        }
        Ok(())
    }

    /// Writes what senders could not, until the connection fails or [`Outbox::close`] is called.
    pub(crate) async fn run(&self) -> io::Result<()> {
        loop {
            self.taken_over.notified().await;
            if lock(&self.queue).closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if let Err(error) = poll_fn(|cx| self.write_out(cx)).await {
                self.close();
                return Err(error);
            }
        }
    }

    /// Refuses further frames and drops those that wait.
    pub(crate) fn close(&self) {
        let frames = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            mem::take(&mut queue.frames)
        };
        drop(frames);
        lock(&self.sink).batch.clear();
        self.taken_over.notify_one();
    }

    /// Writes until nothing is queued; the caller is the one writer and stops being it on `Ready(Ok)`.
    fn write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sink = lock(&self.sink);
        loop {
            if sink.batch.is_empty() {
                ready!(sink.writer.as_mut().poll_flush(cx))?;
                let mut queue = lock(&self.queue);
                if queue.frames.is_empty() {
                    queue.busy = false;
                    return Poll::Ready(Ok(()));
                }
                mem::swap(&mut sink.batch, &mut queue.frames);
            }
            ready!(sink.write_some(cx))?;
        }
    }
}

impl<H> Sink<H> {
    fn write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        let parts = self.batch.iter().flat_map(|(frame, _)| [&frame.head, &frame.payload]);
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        let written = ready!(self.writer.as_mut().poll_write_vectored(cx, &slices[..used]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some((frame, _)) = self.batch.front_mut() {
            let from_head = written.min(frame.head.len());
            frame.head.advance(from_head);
            let from_payload = (written - from_head).min(frame.payload.len());
            frame.payload.advance(from_payload);
            written -= from_head + from_payload;
            if frame.bytes() > 0 {
                return;
            }
            self.batch.pop_front();
        }
    }
}

/// Locks; a panic elsewhere leaves these structures whole, so it does not spread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
