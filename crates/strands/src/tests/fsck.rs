//! Goal: a check finds what is wrong and nothing else, says where, and changes nothing.

use std::ops::ControlFlow;
use std::path::Path;

use block_store::{BlockName, BlockStore, Directory, Listed};
use bytes::Bytes;
use meta_store::Batch;

use super::Bed;
use crate::extents::EXTENTS;
use crate::{Checked, Commit, FsckInput, StrandId, fsck};

fn check(bed: &Bed) -> Checked {
    let blocks = Directory::open(&bed.host, &bed.dir.join("blocks")).unwrap();
    let meta = (bed.make_meta)();
    let input = FsckInput {
        host: &bed.host,
        journal: &bed.dir.join("journal"),
        meta: &*meta,
        blocks: &blocks,
        scrub: true,
    };
    fsck(&input, &mut |_| {})
}

/// A closed data directory with one strand of 3,000 bytes, the first 2,000 of which are packed.
fn closed(dir: &Path) -> (Bed, StrandId) {
    let bed = Bed::real(dir);
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    for part in 0..3u8 {
        let mut commit = Commit::new();
        commit.write(strand, u64::from(part) * 1000, Bytes::from(vec![part; 1000]));
        drop(strands.commit(commit).unwrap());
        if part < 2 {
            strands.pack_now().unwrap();
        }
    }
    strands.close().unwrap();
    (bed, strand)
}

/// The block that holds the byte of a strand at `start`.
fn block_of(bed: &Bed, strand: StrandId, start: u64) -> (Directory, BlockName) {
    let blocks = Directory::open(&bed.host, &bed.dir.join("blocks")).unwrap();
    let mut found = None;
    let visit = &mut |listed: Listed| {
        let footer = blocks.footer(listed.name).unwrap();
        let holds = |placed: &block_store::Placed| {
            (placed.piece.strand, placed.piece.start) == (strand.get(), start)
        };
        if footer.pieces().iter().any(holds) {
            found = Some(listed.name);
        }
        ControlFlow::Continue(())
    };
    blocks.list(visit).unwrap();
    let found = found.unwrap();
    (blocks, found)
}

#[test]
fn a_sound_directory_has_no_faults() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, strand) = closed(dir.path());
    for _ in 0..2 {
        let checked = check(&bed);
        assert_eq!((checked.faults, &checked.found, &checked.unchecked), (0, &vec![], &vec![]));
        assert!(checked.extents >= 2 && checked.extent_bytes >= 2000, "{checked:?}");
        assert!(checked.scrubbed_bytes >= checked.extent_bytes, "{checked:?}");
        assert!(checked.commits > 0 && checked.roots > 0, "{checked:?}");
    }
    assert_eq!(bed.open().read_dense_blocking(strand, 0, 3000).unwrap().len(), 3000);
}

#[test]
fn a_directory_after_a_crash_has_no_faults_either() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::real(dir.path());
    let strands = bed.open();
    let strand = strands.mint().unwrap();
    for part in 0..20u8 {
        let mut commit = Commit::new();
        commit.write(strand, u64::from(part % 7) * 500, Bytes::from(vec![part; 1000]));
        drop(strands.commit(commit).unwrap());
        if part % 3 == 0 {
            strands.pack_now().unwrap();
        }
    }
    let mut commit = Commit::new();
    commit.truncate(strand, 1700);
    drop(strands.commit(commit).unwrap());
    // Without a close: rows that the meta store lacks are in the journal.
    drop(strands);
    let checked = check(&bed);
    assert_eq!((checked.faults, &checked.found), (0, &vec![]));
}

#[test]
fn a_missing_block_is_told_with_strand_and_range() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, strand) = closed(dir.path());
    let (blocks, name) = block_of(&bed, strand, 1000);
    assert!(blocks.delete(name).unwrap());
    let found = check(&bed).found;
    let want = format!("{strand}, bytes 1000..2000: block {name} is not in the store");
    assert!(found.contains(&want), "{found:?}");
}

#[test]
fn a_damaged_block_is_told_by_the_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, strand) = closed(dir.path());
    let (_, name) = block_of(&bed, strand, 0);
    let epoch = dir.path().join("blocks").join(&name.to_string()[..25]);
    let file = epoch.join("00000000000000").join(format!("{name}.blk"));
    let file = bed.host.disk.open(&file, host::OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[0xff], 100).unwrap();
    let checked = check(&bed);
    assert_eq!(checked.faults, 1, "{:?}", checked.found);
    assert!(checked.found[0].contains(&format!("block {name} is damaged")), "{:?}", checked.found);
}

#[test]
fn extents_that_overlap_or_point_elsewhere_or_cannot_be_read_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, strand) = closed(dir.path());
    let meta = (bed.make_meta)();
    let key = |start: u64| [strand.get().to_be_bytes(), start.to_be_bytes()].concat();
    let table = meta_store::Table(EXTENTS.0);
    let stored = meta.get(table, &key(0)).unwrap().unwrap();
    let mut batch = Batch::new();
    batch.put(table, key(500), stored.clone());
    batch.put(table, Bytes::from_static(b"no"), stored);
    meta.commit(&batch, meta.applied()).unwrap();
    drop(meta);
    let found = check(&bed).found.join("\n");
    assert!(found.contains(&format!("{strand}, offset 500: two extents claim it")), "{found}");
    assert!(found.contains(&format!("{strand}, bytes 500..1500")), "{found}");
    assert!(found.contains("holds something else there"), "{found}");
    assert!(found.contains("the extent row `no` cannot be read"), "{found}");
}

#[test]
fn a_meta_store_from_another_moment_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, _) = closed(dir.path());
    let blocks = Directory::open(&bed.host, &bed.dir.join("blocks")).unwrap();
    let meta = meta_store::Memory::new();
    let journal = bed.dir.join("journal");
    let input = FsckInput {
        host: &bed.host,
        journal: &journal,
        meta: &meta,
        blocks: &blocks,
        scrub: false,
    };
    let checked = fsck(&input, &mut |_| {});
    let found = checked.found.join("\n");
    assert!(found.contains("the meta store is behind the journal"), "{found}");
}

#[test]
fn a_block_that_nothing_names_is_told_and_deleted_unless_something_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (bed, strand) = closed(dir.path());
    let (blocks, needed) = block_of(&bed, strand, 1000);
    let orphan = BlockName { counter: 1 << 20, ..needed };
    blocks.put(&block_store::BlockBuilder::new().finish(orphan)).unwrap();
    let checked = check(&bed);
    assert!(checked.faults == 0 && checked.unnamed.contains(&orphan), "{checked:?}");
    let wrong = Checked { faults: 1, ..checked.clone() };
    assert_eq!(crate::delete_unnamed(&blocks, &wrong).unwrap(), 0);
    assert_eq!(crate::delete_unnamed(&blocks, &checked).unwrap(), checked.unnamed_blocks);
    let after = check(&bed);
    assert_eq!((after.faults, after.unnamed_blocks), (0, 0));
    assert_eq!(bed.open().read_dense_blocking(strand, 0, 3000).unwrap().len(), 3000);
}
