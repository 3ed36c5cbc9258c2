//! Goal: every row reads back as it was written, and hostile bytes are refused without a panic.

use proptest::prelude::*;

use super::*;

fn times() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn kinds() -> impl Strategy<Value = FileKind> {
    (0..7_u8).prop_map(|code| kind(code).unwrap())
}

fn names() -> impl Strategy<Value = Name> {
    prop::collection::vec(1..=255_u8, 1..255)
        .prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn bodies(kind: FileKind) -> BoxedStrategy<(Body, u64, u64, u64)> {
    match kind {
        FileKind::Regular => (any::<u64>(), 0..=rules::FILE_BYTES_MAX, any::<u64>())
            .prop_map(|(strand, size, allocated)| {
                let strand = StrandId::from_raw(strand);
                (Body::Regular { strand }, size, allocated.min(size), 0)
            })
            .boxed(),
        FileKind::Directory => any::<(u64, u64)>()
            .prop_map(|(parent, next_cookie)| {
                (Body::Directory { parent: Ino(parent), next_cookie }, 0, 0, 0)
            })
            .boxed(),
        FileKind::Symlink => prop::collection::vec(1..=255_u8, 1..4_096)
            .prop_map(|target| {
                let size = target.len() as u64;
                (Body::Symlink { target: target.into() }, size, 0, 0)
            })
            .boxed(),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            any::<u64>().prop_map(|rdev| (Body::Special, 0, 0, rdev)).boxed()
        }
    }
}

fn inodes() -> impl Strategy<Value = Inode> {
    let bodies = kinds().prop_flat_map(|kind| bodies(kind).prop_map(move |body| (kind, body)));
    let numbers = (any::<u64>(), 0..=0o7777_u32, any::<u32>(), any::<u32>(), any::<u32>());
    (bodies, numbers, times(), times(), times()).prop_map(
        |(
            (kind, (body, size, allocated, rdev)),
            (ino, mode, nlink, uid, gid),
            atime,
            mtime,
            ctime,
        )| {
            let ino = Ino(ino);
            let attr = Attr {
                ino,
                kind,
                mode,
                nlink,
                uid,
                gid,
                size,
                allocated,
                rdev,
                atime,
                mtime,
                ctime,
            };
            Inode { attr, body }
        },
    )
}

proptest! {
    #[test]
    fn a_file_reads_back(inode in inodes()) {
        prop_assert_eq!(Inode::decode(inode.attr.ino, &inode.encode()), Ok(inode));
    }

    #[test]
    fn an_entry_reads_back(kind in kinds(), ino: u64, cookie: u64, name in names()) {
        let dentry = Dentry { kind, ino: Ino(ino), cookie };
        prop_assert_eq!(Dentry::decode(&dentry.encode()), Ok(dentry));
        let row = CookieRow { ino: Ino(ino), name };
        prop_assert_eq!(CookieRow::decode(&row.encode()), Ok(row));
        prop_assert_eq!(cookie_of_key(&cookie_key(VolumeId(7), Ino(ino), cookie)), Ok(cookie));
        prop_assert_eq!(ino_of_key(&ino_key(VolumeId(7), Ino(ino))), Ok(Ino(ino)));
    }

    #[test]
    fn volumes_and_counters_read_back(id in 1..=u32::MAX, synced: bool, created in times(), a: u64, b: u64) {
        let durability = if synced { Durability::Synced } else { Durability::Written };
        let row = VolumeRow { id: VolumeId(id), durability, created };
        prop_assert_eq!(VolumeRow::decode(&row.encode()), Ok(row));
        let counters = CountersRow { reserved_ino: a, files: b };
        prop_assert_eq!(CountersRow::decode(&counters.encode()), Ok(counters));
        prop_assert_eq!(decode_next_volume(&encode_next_volume(VolumeId(id))), Ok(VolumeId(id)));
        prop_assert_eq!(volume_of_key(&volume_key(VolumeId(id))), Ok(VolumeId(id)));
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_but_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [None, Some(VERSION)] {
            if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            let again = Inode::decode(Ino(1), &bytes).map(|inode| inode.encode());
            prop_assert!(again.is_err() || again.as_ref() == Ok(&bytes));
            let again = Dentry::decode(&bytes).map(|row| row.encode());
            prop_assert!(again.is_err() || again.as_ref() == Ok(&bytes));
            let again = CookieRow::decode(&bytes).map(|row| row.encode());
            prop_assert!(again.is_err() || again.as_ref() == Ok(&bytes));
            let again = VolumeRow::decode(&bytes).map(|row| row.encode());
            prop_assert!(again.is_err() || again.as_ref() == Ok(&bytes));
            let again = CountersRow::decode(&bytes).map(|row| row.encode());
            prop_assert!(again.is_err() || again.as_ref() == Ok(&bytes));
            let _ = (decode_next_volume(&bytes), ino_of_key(&bytes), cookie_of_key(&bytes), volume_of_key(&bytes));
        }
    }

    #[test]
    fn any_cut_of_a_file_is_refused(inode in inodes(), cut: prop::sample::Index) {
        let whole = inode.encode();
        let cut = cut.index(whole.len());
        let part = Inode::decode(inode.attr.ino, &whole[..cut]);
        // A shorter link target is a link target, too.
        prop_assert!(part.is_err() || inode.attr.kind == FileKind::Symlink);
    }

    #[test]
    fn a_prefix_range_holds_exactly_its_keys(prefix in prop::collection::vec(any::<u8>(), 1..6), key in prop::collection::vec(any::<u8>(), 0..8)) {
        use std::ops::RangeBounds;
        let keys = Keys::of(&prefix);
        let (from, to) = keys.bounds();
        let within = RangeBounds::<[u8]>::contains(&(from, to), key.as_slice());
        prop_assert_eq!(within, key.starts_with(&prefix));
    }
}

#[test]
fn an_unknown_version_is_named() {
    let inode = |version| Inode::decode(Ino(1), &[version]).unwrap_err();
    assert_eq!(inode(9), RowError::Version(9));
    assert_eq!(inode(VERSION), RowError::Short);
    assert_eq!(CountersRow::decode(&[]), Err(RowError::Short));
    let long = [CountersRow { reserved_ino: 1, files: 2 }.encode(), vec![0]].concat();
    assert_eq!(CountersRow::decode(&long), Err(RowError::Trailing));
}
