//! Stopping: one signal asks for it, everyone who waits hears it, a second signal does not wait.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Failure, Outcome};

/// What a shell calls the end by an interrupt: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A wish to stop that may come; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// Whoever holds it can ask for the stop; dropping it asks as well.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

/// A pair.
pub(crate) fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks everybody to stop.
    pub(crate) fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// The same as a value that turns true.
    pub(crate) fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }

    /// Returns when the stop was asked for.
    pub(crate) async fn asked(&mut self) {
        // An error means that the stopper is gone, which asks as well.
        let _gone = self.0.wait_for(|&asked| asked).await;
    }
}

/// SIGTERM and SIGINT, from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which would end the process.
    pub(crate) fn new() -> Outcome<Self> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::because("cannot listen for signals", error))
        };
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Returns at the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process at the next signal, without any further care.
    pub(crate) fn end_at_the_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(INTERRUPTED);
        });
    }
}
