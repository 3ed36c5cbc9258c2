//! One connection to a server, from its hello to its loss.
//!
//! Callers send through the shared outbox and wait for the answer with their request's number; one task
//! reads answers and hands them out. Once lost, a connection stays lost: every waiting and later call
//! says so, and whether its request may have reached the server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use file_tree::Ino;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::{ConnectError, Connector};
use crate::frames::{FrameError, Frames};
use crate::outbox::Outbox;
use crate::wire::{Answer, Hello, HelloAnswer, RefusalCode, Request, RequestId, Welcome};

/// Time that one frame from the server may take.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// Most requests under way, whatever the server offers.
const REQUESTS_MAX: u32 = 1024;

/// See the module's text.
pub(super) struct Connection {
    number: u64,
    outbox: Outbox<()>,
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
    room: Semaphore,
}

struct Waiting {
    answers: HashMap<RequestId, Waiter>,
    lost: bool,
}

struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// The request opens a file: if nobody takes the answer, the file must be released.
    opens: bool,
}

/// A call did not get its answer because the connection was lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// The request may have reached the server.
    pub(super) sent: bool,
}

/// A new connection.
pub(super) struct Established {
    pub(super) connection: Arc<Connection>,
    /// Completes, with the reason, when the connection is lost.
    pub(super) running: JoinHandle<String>,
    pub(super) root: Ino,
}

/// Connects and says hello, within `time_max`. `number` rises with each connection of a client, from 1.
pub(super) async fn establish(
    number: u64,
    connector: &dyn Connector,
    volume: &str,
    time_max: Duration,
) -> Result<Established, ConnectError> {
    let attempt = async {
        let pipe = connector.connect().await.map_err(ConnectError::NoServer)?;
        let outbox = Outbox::new(pipe.writer);
        let mut frames = Frames::new(pipe.reader, FRAME_TIME_MAX);
        let welcome = greet(&outbox, &mut frames, volume).await?;
        Ok((outbox, frames, welcome))
    };
    let (outbox, frames, welcome) =
        tokio::time::timeout(time_max, attempt).await.unwrap_or(Err(ConnectError::Slow))?;
    let room = welcome.requests_max.clamp(1, REQUESTS_MAX);
    let connection = Arc::new(Connection {
        number,
        outbox,
        waiting: Mutex::new(Waiting { answers: HashMap::new(), lost: false }),
        next_id: AtomicU64::new(1),
        room: Semaphore::new(usize::try_from(room).unwrap_or(1)),
    });
    let running = tokio::spawn(connection.clone().run(frames));
    Ok(Established { connection, running, root: welcome.root })
}

async fn greet(
    outbox: &Outbox<()>,
    frames: &mut Frames,
    volume: &str,
) -> Result<Welcome, ConnectError> {
    outbox.send(Hello::frame(volume), ()).map_err(|_| ConnectError::Lost)?;
    let answer = tokio::select! {
        biased;
        frame = frames.next() => frame,
        // A server that refuses may close before it has read the hello: its answer is still there.
        _ = outbox.run() => frames.next().await,
    };
    let frame = match answer {
        Ok(Some(frame)) => frame,
        Ok(None) | Err(FrameError::Io(_)) => return Err(ConnectError::Lost),
        Err(FrameError::Slow(_)) => return Err(ConnectError::Slow),
        Err(FrameError::Wire(error)) => return Err(error.into()),
    };
    match HelloAnswer::decode(frame)? {
        HelloAnswer::Welcome(welcome) => Ok(welcome),
        HelloAnswer::OtherVersion(version) => Err(ConnectError::Version(version)),
        HelloAnswer::Refused { version, code: RefusalCode::Version, .. } => {
            Err(ConnectError::Version(version))
        }
        HelloAnswer::Refused { code, reason, .. } => Err(ConnectError::Refused { code, reason }),
    }
}

impl Connection {
    /// Which connection of its client this is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&self, request: &Request) -> Result<Answer, Lost> {
        let unsent = Lost { sent: false };
        let _room = self.room.acquire().await.map_err(|_| unsent)?;
        let opens = matches!(request, Request::Open { .. } | Request::Create { .. });
        let (sender, receiver) = oneshot::channel();
        let id = self.new_id();
        {
            let mut waiting = self.waiting();
            if waiting.lost {
                return Err(unsent);
            }
            waiting.answers.insert(id, Waiter { answer: sender, opens });
        }
        if self.outbox.send(request.frame(id), ()).is_err() {
            self.waiting().answers.remove(&id);
            return Err(unsent);
        }
        receiver.await.map_err(|_| Lost { sent: true })
    }

    /// Gives the connection up.
    pub(super) fn close(&self) {
        self.outbox.close();
        let answers = {
            let mut waiting = self.waiting();
            waiting.lost = true;
            std::mem::take(&mut waiting.answers)
        };
        drop(answers);
        self.room.close();
    }

    /// Hands out answers until the connection is lost; returns why.
    async fn run(self: Arc<Self>, mut frames: Frames) -> String {
        let why = tokio::select! {
            why = self.read_answers(&mut frames) => why,
            written = self.outbox.run() => match written {
                Ok(()) => "closed".to_owned(),
                Err(error) => error.to_string(),
            },
        };
        self.close();
        why
    }

    async fn read_answers(&self, frames: &mut Frames) -> String {
        loop {
            let frame = match frames.next().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return "the server closed the connection".to_owned(),
                Err(error) => return error.to_string(),
            };
            match Answer::decode(frame) {
                Ok((id, answer)) => self.hand_out(id, answer),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn hand_out(&self, id: RequestId, answer: Answer) {
        // An unknown number is the answer to a release that nobody waits for.
        let Some(waiter) = self.waiting().answers.remove(&id) else { return };
        if let Err(Answer::Attr(attr)) = waiter.answer.send(answer)
            && waiter.opens
        {
            let release = Request::Release { ino: attr.ino };
            // On a connection that is lost meanwhile, the open is gone with it.
            let _ = self.outbox.send(release.frame(self.new_id()), ());
        }
    }

    fn new_id(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
