//! Which connection calls go to, and the wait for one.

use std::sync::Arc;
use std::time::Duration;

use file_tree::TreeError;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::connection::Connection;

/// The state of a client's connection.
pub(super) struct Link {
    state: watch::Sender<State>,
    wait_max: Duration,
}

enum State {
    /// Calls may go there.
    Up(Arc<Connection>),
    /// Being made anew; what went wrong last.
    Down(String),
    /// The client is dropped.
    Closed,
}

impl State {
    /// The connection, if it is a later one than number `after`.
    fn later(&self, after: u64) -> Option<Arc<Connection>> {
        match self {
            Self::Up(connection) if connection.number() > after => Some(connection.clone()),
            Self::Up(_) | Self::Down(_) | Self::Closed => None,
        }
    }
}

impl Link {
    pub(super) fn new(connection: Arc<Connection>, wait_max: Duration) -> Self {
        Self { state: watch::Sender::new(State::Up(connection)), wait_max }
    }

    pub(super) fn up(&self, connection: Arc<Connection>) {
        self.change(State::Up(connection));
    }

    pub(super) fn down(&self, why: String) {
        self.change(State::Down(why));
    }

    fn change(&self, next: State) {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = next;
            }
            open
        });
    }

    /// Ends everything; waiting calls fail.
    pub(super) fn close(&self) {
        if let State::Up(connection) = self.state.send_replace(State::Closed) {
            connection.close();
        }
    }

    /// A connection later than number `after`; waits for one at most as long as the options say.
    ///
    /// Works outside of `runtime` too, whose timer it uses.
    pub(super) async fn connection(
        &self,
        runtime: &Handle,
        after: u64,
    ) -> Result<Arc<Connection>, TreeError> {
        if let Some(connection) = self.state.borrow().later(after) {
            return Ok(connection);
        }
        let mut states = self.state.subscribe();
        let settled = async move {
            let wanted =
                |state: &State| state.later(after).is_some() || matches!(state, State::Closed);
            states.wait_for(wanted).await.ok().and_then(|state| state.later(after))
        };
        let limited = {
            let _timer = runtime.enter();
            tokio::time::timeout(self.wait_max, settled)
        };
        match limited.await {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) => Err(TreeError::Unreachable("this client is closed".into())),
            Err(_) => Err(self.unreachable()),
        }
    }

    fn unreachable(&self) -> TreeError {
        TreeError::Unreachable(match &*self.state.borrow() {
            State::Down(why) => why.clone(),
            State::Up(_) => "the connection is lost".into(),
            State::Closed => "this client is closed".into(),
        })
    }
}
