//! Unix sockets at paths of any length.
//!
//! The kernel takes at most 107 bytes of path. Longer ones are reached through their directory: it is
//! opened, and the socket is named `/proc/self/fd/N/NAME`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

/// Longest path that goes into a socket address, in bytes (`sun_path` less the closing zero).
const ADDRESS_BYTES_MAX: usize = 107;

/// Bytes that the kernel may hold for a peer that reads slowly: two full frames.
const SEND_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// A path for a socket address, and the directory that must stay open while it is used.
struct Address {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

/// Listens at `path`. A socket that is left there from an earlier run is replaced: the caller makes sure
/// (by the lock on the data directory) that nobody listens on it any more.
///
/// # Errors
///
/// Those of `open`, `unlink`, `bind` and `listen`; [`io::ErrorKind::AlreadyExists`] when `path` is
/// something other than a socket.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let address = address(path)?;
    match fs::symlink_metadata(&address.path) {
        Ok(found) if found.file_type().is_socket() => rustix::fs::unlink(&address.path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    UnixListener::bind(&address.path)
}

/// Connects to the socket at `path`.
///
/// # Errors
///
/// Those of `open` and `connect`.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = address(path)?;
    UnixStream::connect(&address.path).await
}

/// Makes room for whole frames in the kernel, so that a large answer is one write and not ten. Only
/// speed depends on it, so a refusal is not an error.
pub(crate) fn enlarge_send_buffer(stream: &UnixStream) {
    use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
    let forced = set_socket_send_buffer_size_force(stream, SEND_BUFFER_BYTES);
    if forced.is_err()
        && let Err(error) = set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)
    {
        tracing::debug!(%error, "the send buffer keeps its size");
    }
}

fn address(path: &Path) -> io::Result<Address> {
    if path.as_os_str().len() <= ADDRESS_BYTES_MAX {
        return Ok(Address { path: path.to_owned(), _dir: None });
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok(Address { path: short, _dir: Some(dir) })
}
