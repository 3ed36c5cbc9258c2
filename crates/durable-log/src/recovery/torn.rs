//! The torn end of the last segment: kept aside, and cut once the next segment says where it was.
//!
//! A copy is the bytes as they were, without a header: what they are is in the name, number of the
//! segment and position in its file. Nothing reads it. The last few are kept.

use std::io;
use std::path::{Path, PathBuf};

use host::{Host, OpenMode};

use crate::error::OpenError;
use crate::mutation::{self, Step as LeftOut, left_out};
use crate::position::Location;
use crate::recovery::check::Tail;
use crate::recovery::{Torn, io_error};
use crate::segment::Segment;
use crate::spare;

const TORN_DIR: &str = "torn";
const TORN_SUFFIX: &str = ".torn";
/// Most copies that are kept.
const COPIES_MAX: usize = 16;
/// Most bytes of all copies, the newest one not counted.
const COPIES_BYTES_MAX: u64 = 256 << 20;
const COPY_BYTES: usize = 1 << 20;

/// Keeps torn bytes aside and makes what is left durable. Gives back unused room, so that a full disk
/// has some, and cuts nothing else: see [`cut`].
pub(super) fn repair(
    host: &Host,
    dir: &Path,
    segment: &Segment,
    tail: &Tail,
) -> Result<Option<Torn>, OpenError> {
    let at = segment.position(tail.end.at);
    let torn = match tail.used.get() - tail.end.at.get() {
        0 => None,
        bytes => {
            let kept_as = keep_aside(host, dir, segment, tail)?;
            tracing::warn!(
                segment = %segment.path.display(), at, bytes, kept_as = ?kept_as,
                "an unreadable end is cut off the log and kept aside; nothing in the log says that it was durable"
            );
            Some(Torn { path: segment.path.clone(), at, bytes, kept_as })
        }
    };
    shrink(segment, tail.size, segment.position(tail.used));
    if !left_out(LeftOut::WriteRecoveredAgain) {
        write_again(segment, tail.promised.at, tail.end.at)
            .map_err(|source| io_error(segment, source))?;
    }
    segment
        .file()
        .and_then(|file| mutation::sync_data(LeftOut::SyncRecovered, &*file))
        .map_err(|source| io_error(segment, source))?;
    Ok(torn)
}

/// Cuts what is behind the end of a segment, which the next one's header has made final.
pub(super) fn cut(segment: &Segment, tail: &Tail) {
    shrink(segment, segment.position(tail.used), segment.position(tail.end.at));
}

/// What goes is never read, so an error costs only room.
fn shrink(segment: &Segment, size: u64, end: u64) {
    if size > end
        && let Err(error) = segment.file().and_then(|file| file.set_size(end))
    {
        tracing::debug!(path = %segment.path.display(), %error, "unused room of a segment stays reserved");
    }
}

/// Copies the torn bytes to a file of their own; `None` if there is no room for it.
fn keep_aside(
    host: &Host,
    dir: &Path,
    segment: &Segment,
    tail: &Tail,
) -> Result<Option<PathBuf>, OpenError> {
    let torn_dir = dir.join(TORN_DIR);
    let name =
        format!("{:020}-{}{TORN_SUFFIX}", segment.header.number, segment.position(tail.end.at));
    let path = torn_dir.join(name);
    let copy = || -> io::Result<()> {
        host.disk.create_dir_all(&torn_dir)?;
        spare::remove_if_there(host, &path)?;
        let file = host.disk.open(&path, OpenMode::CreateNew)?;
        let start = tail.end.at;
        each_block(segment, start, tail.used, |block, at| {
            file.write_all_at(block, at.get() - start.get())
        })?;
        mutation::sync_data(LeftOut::SyncTornCopy, &*file)?;
        mutation::sync_dir(LeftOut::SyncNameOfTornCopy, host, &torn_dir)
    };
    match copy() {
        Ok(()) => {
            remove_old(host, &torn_dir, &path);
            Ok(Some(path))
        }
        Err(error) if spare::is_no_space(&error) => {
            tracing::warn!(path = %path.display(), "no room to keep the torn end of the log aside");
            // What was copied would pass for all of it, and take the room that the log needs to open.
            spare::discard_file(host, &path);
            Ok(None)
        }
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// Removes the oldest copies beyond what is kept; `newest` always stays. Numbers of segments come again after a
/// cut, so it need not have the highest. They are nobody's data, so an error is only told.
fn remove_old(host: &Host, torn_dir: &Path, newest: &Path) {
    let removed = host.disk.list(torn_dir).and_then(|mut copies| {
        copies.retain(|entry| {
            entry.name.ends_with(TORN_SUFFIX) && torn_dir.join(&entry.name) != newest
        });
        copies.sort_by(|a, b| (b.modified_ms, &b.name).cmp(&(a.modified_ms, &a.name)));
        let mut bytes = 0;
        for (others, entry) in (1..).zip(&copies) {
            bytes += entry.bytes;
            if others >= COPIES_MAX || bytes > COPIES_BYTES_MAX {
                host.disk.unlink(&torn_dir.join(&entry.name))?;
            }
        }
        Ok(())
    });
    if let Err(error) = removed {
        tracing::debug!(dir = %torn_dir.display(), %error, "old torn ends stay");
    }
}

/// Writes bytes over themselves, so that the next sync really puts them on the disk.
fn write_again(segment: &Segment, from: Location, to: Location) -> io::Result<()> {
    each_block(segment, from, to, |block, at| {
        segment.file()?.write_all_at(block, segment.position(at))
    })
}

fn each_block(
    segment: &Segment,
    from: Location,
    to: Location,
    mut visit: impl FnMut(&[u8], Location) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = from;
    let mut buffer =
        vec![0; COPY_BYTES.min(usize::try_from(to.get() - from.get()).unwrap_or(COPY_BYTES))];
    while at < to {
        let left = usize::try_from(to.get() - at.get()).unwrap_or(usize::MAX);
        let block_bytes = left.min(buffer.len());
        let block = &mut buffer[..block_bytes];
        segment.file()?.read_exact_at(block, segment.position(at))?;
        visit(block, at)?;
        at = at.plus(block.len() as u64);
    }
    Ok(())
}
