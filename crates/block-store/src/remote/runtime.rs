//! Requests run to their end from threads that know nothing of tokio.
//!
//! One thread of ours drives sockets and timers; a request itself is polled by the thread that waits for
//! it, so signing and checksums are its own work.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::Trouble;

/// Runs requests.
#[derive(Debug)]
pub(super) struct Runtime {
    handle: Handle,
    /// Requests end when this turns true.
    stopped: watch::Sender<bool>,
    /// The driving thread ends when this is dropped.
    end: Mutex<Option<watch::Sender<()>>>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Runtime {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, mut ended) = watch::channel(());
        let driver = host::spawn("store-requests", move || {
            // An error says that the sender is gone, which is what this waits for.
            while runtime.block_on(ended.changed()).is_ok() {}
            runtime.shutdown_background();
        })?;
        let (stopped, _) = watch::channel(false);
        Ok(Self { handle, stopped, end: Mutex::new(Some(end)), driver: Mutex::new(Some(driver)) })
    }

    /// Waits for a request, no longer than `patience`.
    pub(super) fn run<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let mut stopped = self.stopped.subscribe();
        let request = Box::pin(request);
        self.handle.block_on(async move {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => {
                    Err(Trouble::Away("requests are no longer sent".to_owned()))
                }
                done = tokio::time::timeout(patience, request) => done.unwrap_or_else(|_| {
                    Err(Trouble::Away(format!("no answer within {patience:?}")))
                }),
            }
        })
    }

    /// Ends all requests, now and in future.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = driver.map(JoinHandle::join) {
            tracing::warn!("the thread that drove requests to the store panicked");
        }
    }
}
