//! The kernel's table of mounts, `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use host::{Host, OpenMode};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `major:minor`, the name of its backing device in `/sys/class/bdi`.
    pub(crate) device: String,
    /// Where it is mounted.
    pub(crate) dir: PathBuf,
    /// Its type: `fuse`, `fuse.NAME`, `ext4`.
    pub(crate) kind: String,
}

impl Entry {
    pub(crate) fn is_fuse(&self) -> bool {
        self.kind == "fuse" || self.kind.starts_with("fuse.")
    }
}

/// The uppermost mount on `dir`, if there is one. Asks nothing of the file system that is mounted there, so
/// it works for one that is dead.
pub(crate) fn find(dir: &Path) -> io::Result<Option<Entry>> {
    let text = read(Path::new("/proc/self/mountinfo"))?;
    let dir = settled(dir)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).rfind(|entry| entry.dir == dir))
}

/// The path without links, as the kernel shows it; the last part is taken as it is.
fn settled(dir: &Path) -> io::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(dir),
    }
}

/// Reads a file of `/proc`, which has no size.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = Host::real().disk.open(path, OpenMode::Read)?;
    let mut text = Vec::new();
    loop {
        let known = text.len();
        text.resize(known + CHUNK_BYTES, 0);
        let at = u64::try_from(known).map_err(io::Error::other)?;
        let count = file.read_at(&mut text[known..], at)?;
        text.truncate(known + count);
        if count == 0 {
            return Ok(text);
        }
    }
}

/// One line: number, parent, device, root, directory, options, optional fields, a dash, type, source, options.
fn parse(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = str::from_utf8(words.nth(2)?).ok()?.to_owned();
    let dir = unescaped(words.nth(1)?);
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    Some(Entry { device, dir, kind: str::from_utf8(kind).ok()?.to_owned() })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    //! Goal: lines of the kernel's table are understood, whatever the directory is called.

    use super::*;

    #[test]
    fn a_line_gives_device_directory_and_type() {
        let line = b"44 27 0:52 / /mnt/a\\040b\\134c rw,nosuid - fuse.strandline strandline:v rw,user_id=0";
        let entry = parse(line).unwrap();
        assert_eq!(
            (entry.device.as_str(), entry.dir.as_path()),
            ("0:52", Path::new("/mnt/a b\\c"))
        );
        assert!(entry.is_fuse());
    }

    #[test]
    fn optional_fields_are_skipped() {
        let line = b"27 1 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw";
        assert_eq!(parse(line).unwrap().kind, "ext4");
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(find(Path::new("/")).unwrap().is_some());
    }
}
