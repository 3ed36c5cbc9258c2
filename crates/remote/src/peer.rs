//! Who is at the other end of a connection.
//!
//! Not here: what a peer may do (`crate::server`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use file_tree::Caller;
use tokio::net::UnixStream;

/// The other end of a connection, as the server's kernel (or the transport) vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Root, or the user that the server runs as: its callers are taken as it sends them.
    Trusted,
    /// Anybody else: acts as this caller only.
    User(Caller),
}

impl Peer {
    /// Asks the kernel who connected `stream`.
    ///
    /// # Errors
    ///
    /// The error of `getsockopt`.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        if uid == 0 || uid == rustix::process::geteuid().as_raw() {
            return Ok(Self::Trusted);
        }
        let groups = peer_groups(stream.as_fd())?;
        Ok(Self::User(Caller { uid, gid: credentials.gid(), groups, checks_done: false }))
    }

    /// The caller that a request is made for: `claimed` for a trusted peer, else the peer itself.
    pub(crate) fn caller(&self, claimed: Caller) -> Caller {
        match self {
            Self::Trusted => claimed,
            Self::User(caller) => caller.clone(),
        }
    }
}

/// The supplementary groups of the process at the other end, when it connected (`SO_PEERGROUPS`).
fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let room = groups.len() * size_of::<u32>();
        match peer_groups_into(socket, &mut groups)? {
            Room::Enough(bytes) => {
                groups.truncate(bytes / size_of::<u32>());
                return Ok(groups);
            }
            Room::Needs(bytes) if bytes > room => groups.resize(bytes / size_of::<u32>(), 0),
            Room::Needs(_) => {
                return Err(io::Error::other("the kernel names no size for a peer's groups"));
            }
        }
    }
}

/// How many bytes the list of groups takes.
enum Room {
    Enough(usize),
    Needs(usize),
}

#[expect(unsafe_code, reason = "neither the standard library nor rustix offers SO_PEERGROUPS")]
fn peer_groups_into(socket: BorrowedFd<'_>, groups: &mut [u32]) -> io::Result<Room> {
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups)).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `bytes` bytes to `groups`, which is that long and stays borrowed
    // for the call, and any bytes are a valid u32; it writes the length used or needed to `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let used = usize::try_from(bytes).map_err(io::Error::other)?;
    if result == 0 {
        return Ok(Room::Enough(used.min(size_of_val(groups))));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ERANGE) { Ok(Room::Needs(used)) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    //! Goal: a peer's groups are those that its thread had when it connected, however many.

    use super::*;

    fn check(count: u32) {
        let groups: Vec<u32> = (0..count).map(|n| 70_000 + n).collect();
        let gids: Vec<_> = groups.iter().map(|group| rustix::fs::Gid::from_raw(*group)).collect();
        // Only the groups of this test's own thread change, and with them those of what it connects.
        if let Err(error) = rustix::thread::set_thread_groups(&gids) {
            println!("skipped: only root may choose its groups: {error}");
            return;
        }
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_groups(near.as_fd()).unwrap(), groups);
    }

    #[test]
    fn no_groups_are_told() {
        check(0);
    }

    #[test]
    fn more_groups_than_there_is_room_for_at_first_are_told() {
        check(3);
        check(64);
        check(65);
        check(1000);
    }
}
