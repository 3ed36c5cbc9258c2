//! Making things right again: settling a file's unsynced changes, and repairing a lost connection.

use std::sync::Arc;

use file_tree::{Ino, TreeError, WriteEpoch};
use tokio::task::{JoinHandle, JoinSet};

use super::connection::{Connection, Established, Lost, establish};
use super::opens::Open;
use super::{ConnectError, Inner, OUTAGES_MAX, lost_too_often, wrong_answer};
use crate::wire::{Answer, Request};

/// How often a file is sent again within one commit while the server's epoch keeps changing.
const ROUNDS_MAX: u32 = 8;

/// Files committed at a time when room is made.
const COMMITS_AT_ONCE: usize = 64;

/// Why a file's changes are not on stable storage.
#[derive(Debug)]
pub(super) enum SettleError {
    /// The connection was lost; another one may do.
    Lost(Lost),
    /// The server says no. Whether the copies were given up depends on the error: [`keeps_copies`].
    Tree(TreeError),
}

impl From<Lost> for SettleError {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// Whether a later attempt may succeed, so that the copies are worth keeping.
fn keeps_copies(error: &TreeError) -> bool {
    match error {
        TreeError::Failed(_) | TreeError::Unreachable(_) => true,
        TreeError::NotFound
        | TreeError::Stale
        | TreeError::Exists
        | TreeError::NotADirectory
        | TreeError::IsADirectory
        | TreeError::NotEmpty
        | TreeError::AccessDenied
        | TreeError::NotPermitted
        | TreeError::Invalid(_)
        | TreeError::NameTooLong
        | TreeError::TooLarge
        | TreeError::TooManyLinks
        | TreeError::NoSpace
        | TreeError::NotSupported
        | TreeError::Damaged(_) => false,
    }
}

impl Inner {
    /// Commits `ino`, sending again what the server may have lost.
    pub(super) async fn commit(&self, ino: Ino) -> Result<(), TreeError> {
        if let Some(error) = self.unsynced.take_error(ino) {
            return Err(error);
        }
        self.settle(ino).await
    }

    async fn settle(&self, ino: Ino) -> Result<(), TreeError> {
        let mut after = 0;
        for _ in 0..OUTAGES_MAX {
            let connection = self.link.connection(&self.runtime, after).await?;
            match self.settle_on(&connection, ino).await {
                Ok(()) => return Ok(()),
                Err(SettleError::Tree(error)) => return Err(error),
                Err(SettleError::Lost(_)) => after = connection.number(),
            }
        }
        Err(lost_too_often())
    }

    async fn settle_on(&self, connection: &Connection, ino: Ino) -> Result<(), SettleError> {
        for _ in 0..ROUNDS_MAX {
            let mark = self.unsynced.mark();
            let epoch = match connection.call(&Request::Commit { ino }).await? {
                Answer::Committed(epoch) => epoch,
                Answer::Failed(error) => return Err(self.refused(ino, error)),
                _ => return Err(SettleError::Tree(wrong_answer())),
            };
            if self.unsynced.settle(ino, mark, epoch) {
                return Ok(());
            }
            self.send_again(connection, ino, epoch).await?;
        }
        Err(SettleError::Tree(TreeError::Failed("the server's write epoch keeps changing".into())))
    }

    async fn send_again(
        &self,
        connection: &Connection,
        ino: Ino,
        epoch: WriteEpoch,
    ) -> Result<(), SettleError> {
        let _no_new_writes = self.unsynced.order(ino).write().await;
        for (number, what) in self.unsynced.suspects(ino, epoch) {
            let taken_in = match connection.call(&what.request(ino)).await? {
                Answer::Written(written) => written.epoch,
                Answer::Attr(_) => epoch,
                Answer::Failed(error) => return Err(self.refused(ino, error)),
                _ => return Err(SettleError::Tree(wrong_answer())),
            };
            self.unsynced.resent(ino, number, taken_in);
        }
        Ok(())
    }

    /// The server refused to commit or to take a change again.
    fn refused(&self, ino: Ino, error: TreeError) -> SettleError {
        if !keeps_copies(&error) {
            self.unsynced.give_up(ino);
        }
        SettleError::Tree(error)
    }

    /// Settles `ino` for nobody in particular: an error that gave up copies is left for the file's next
    /// commit; one that kept them is returned.
    async fn settle_aside(&self, ino: Ino) -> Result<(), TreeError> {
        let settled = self.settle(ino).await;
        self.leave_error(ino, settled)
    }

    fn leave_error(&self, ino: Ino, settled: Result<(), TreeError>) -> Result<(), TreeError> {
        match settled {
            Ok(()) => Ok(()),
            // Nobody can ask about a file that is gone.
            Err(TreeError::Stale) => Ok(()),
            Err(error) if keeps_copies(&error) => Err(error),
            Err(error) => {
                self.unsynced.report(ino, error);
                Ok(())
            }
        }
    }

    /// Commits the oldest files until half of the room for unsynced changes is free.
    pub(super) async fn relieve(self: &Arc<Self>) -> Result<(), TreeError> {
        let _one_at_a_time = self.relief.lock().await;
        if !self.unsynced.is_half_full() {
            return Ok(());
        }
        let mut commits = JoinSet::new();
        let mut outcome = Ok(());
        let mut covered = 0;
        for (ino, bytes) in self.unsynced.files() {
            if covered > self.unsynced.half() {
                break;
            }
            covered += bytes;
            if commits.len() >= COMMITS_AT_ONCE {
                outcome = outcome.and(joined(commits.join_next().await));
            }
            let inner = self.clone();
            commits.spawn_on(async move { inner.settle_aside(ino).await }, &self.runtime);
        }
        while let Some(done) = commits.join_next().await {
            outcome = outcome.and(joined(Some(done)));
        }
        outcome
    }
}

fn joined(
    done: Option<Result<Result<(), TreeError>, tokio::task::JoinError>>,
) -> Result<(), TreeError> {
    match done {
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) | None => Err(TreeError::Failed("a commit was abandoned".into())),
    }
}

/// Watches the connection of a client and makes a new one whenever it is lost. Runs until aborted.
pub(super) async fn supervise(inner: Arc<Inner>, mut running: JoinHandle<String>) {
    let mut number = 1;
    loop {
        let why = running.await.unwrap_or_else(|error| error.to_string());
        tracing::info!(volume = inner.volume, why, "the connection to the file server is lost");
        inner.opens.down();
        inner.link.down(why);
        let mut pause = inner.options.pause_min;
        running = loop {
            number += 1;
            match connect_again(&inner, number).await {
                Ok(running) => break running,
                Err(error) => inner.link.down(error.to_string()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(inner.options.pause_max);
        };
        tracing::info!(volume = inner.volume, "connected to the file server again");
    }
}

/// Closes a connection that does not come into use.
struct CloseOnDrop(Option<Arc<Connection>>);

impl CloseOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.close();
        }
    }
}

/// Makes a connection and brings the server to where this client believes it is.
async fn connect_again(
    inner: &Arc<Inner>,
    number: u64,
) -> Result<JoinHandle<String>, ConnectError> {
    let Established { connection, running, root } =
        establish(number, inner.connector.as_ref(), &inner.volume, inner.options.wait_max).await?;
    let unless_used = CloseOnDrop(Some(connection.clone()));
    if root != inner.root {
        return Err(ConnectError::Replaced);
    }
    restore(inner, &connection).await.map_err(|_| ConnectError::Lost)?;
    unless_used.disarm();
    let late = inner.opens.end_restore(connection.clone());
    inner.link.up(connection.clone());
    for ino in late {
        // A connection that is lost meanwhile has released it.
        let _ = connection.call(&Request::Release { ino }).await;
    }
    Ok(running)
}

/// Opens again what was open, and sends again what may be lost.
async fn restore(inner: &Arc<Inner>, connection: &Arc<Connection>) -> Result<(), Lost> {
    inner.unsynced.see(None);
    let mut opens = JoinSet::new();
    for (ino, open) in inner.opens.begin_restore() {
        opens.spawn(open_again(connection.clone(), ino, open));
    }
    while let Some(opened) = opens.join_next().await {
        opened.unwrap_or(Err(Lost { sent: true }))?;
    }
    let mut files = JoinSet::new();
    for (ino, _) in inner.unsynced.files() {
        let (inner, connection) = (inner.clone(), connection.clone());
        files.spawn(async move {
            match inner.settle_on(&connection, ino).await {
                Err(SettleError::Lost(lost)) => return Err(lost),
                Err(SettleError::Tree(error)) => {
                    // Copies that were kept are tried again by the file's next commit.
                    let _ = inner.leave_error(ino, Err(error));
                }
                Ok(()) => {}
            }
            Ok(())
        });
    }
    while let Some(settled) = files.join_next().await {
        settled.unwrap_or(Err(Lost { sent: true }))?;
    }
    Ok(())
}

/// Opens `ino` as often as it was. The rights were checked when it was opened first.
async fn open_again(connection: Arc<Connection>, ino: Ino, open: Open) -> Result<(), Lost> {
    let Open { count, access, mut caller } = open;
    caller.checks_done = true;
    for _ in 0..count {
        let request = Request::Open { caller: caller.clone(), ino, access };
        if let Answer::Failed(error) = connection.call(&request).await? {
            tracing::warn!(%ino, %error, "an open file is gone with the old server");
            break;
        }
    }
    Ok(())
}
