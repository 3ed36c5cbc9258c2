//! Goal: the defects of an earlier design do not come back: D1, D2, D4, D5 and D6 as far as a cache in
//! memory has a part in them, and what was read in that design and not run.

use block_cache::{Generation, PieceId, Saved};

use crate::support::{MIB, PIECE, cache, cold, dirty, dirty_ids, generation, piece, read, write};

#[test]
fn d1_an_overwrite_after_an_upload_is_uploaded_too() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &vec![1; PIECE as usize], 1);
    let listed = dirty(&cache);
    assert_eq!(cache.mark_saved(listed[0].id, listed[0].newest), Saved::Clean);
    write(&cache, 1, 0, &[2; 4096], 2);
    assert_eq!(dirty_ids(&cache), [piece(1, 0)]);
    let mut ranges = Vec::new();
    let newest = cache.dirty_ranges(piece(1, 0), &mut ranges).unwrap();
    assert_eq!((newest, &ranges[..]), (generation(2), &[0..4096][..]));
    assert_eq!(read(&cache, 1, 0, 4096).0, [2; 4096]);
    // The marker of the first upload comes again.
    assert_eq!(cache.mark_saved(piece(1, 0), generation(1)), Saved::StillDirty);
    assert_eq!(cache.evict(u64::MAX), 0);
}

#[test]
fn d2_a_small_write_to_a_piece_that_is_not_here_says_that_the_rest_is_not() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 100, b"hello", 1);
    let mut ranges = Vec::new();
    cache.dirty_ranges(piece(1, 0), &mut ranges);
    assert_eq!(ranges, [100..105]);
    assert_eq!(read(&cache, 1, 0, PIECE as usize).1, [cold(0..100), cold(105..PIECE)]);
}

#[test]
fn d4_a_truncate_is_not_undone_by_what_was_there() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &[1; 8192], 1);
    cache.truncate(1, 100);
    write(&cache, 1, 8000, b"x", 2);
    assert_eq!(read(&cache, 1, 0, 8192).1, [cold(100..8000), cold(8001..8192)]);
}

#[test]
fn d5_an_uploaded_marker_never_hides_a_later_write() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &[7; 4096], 7);
    write(&cache, 1, 0, &[8; 4096], 8);
    for _ in 0..3 {
        assert_eq!(cache.mark_saved(piece(1, 0), generation(7)), Saved::StillDirty);
    }
    assert_eq!(cache.evict(u64::MAX), 0);
    assert_eq!(read(&cache, 1, 0, 4096), (vec![8; 4096], vec![]));
    assert_eq!(cache.mark_saved(piece(1, 0), generation(8)), Saved::Clean);
    assert!(cache.evict(1) > 0);
}

#[test]
fn d5_holds_page_by_page() {
    let cache = cache(64 * MIB);
    for page in 0..20 {
        write(&cache, 1, page * 4096, &[1; 4096], page + 1);
    }
    cache.mark_saved(piece(1, 0), generation(13));
    let mut ranges = Vec::new();
    assert_eq!(cache.dirty_ranges(piece(1, 0), &mut ranges), Some(generation(20)));
    assert_eq!(ranges, [13 * 4096..20 * 4096]);
    assert_eq!(dirty(&cache)[0].oldest, generation(14));
}

#[test]
fn d6_one_byte_covers_one_byte() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 10, b"x", 1);
    assert!(cache.is_covered(1, 10..11));
    assert!(!cache.is_covered(1, 9..11) && !cache.is_covered(1, 10..12));
    assert!(!cache.is_covered(1, 0..64));
    assert_eq!(read(&cache, 1, 0, 64).1, [cold(0..10), cold(11..64)]);
}

#[test]
fn a_write_during_an_upload_stays_dirty() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &[1; 4096], 1);
    let mut ranges = Vec::new();
    let sent = cache.dirty_ranges(piece(1, 0), &mut ranges).unwrap();
    write(&cache, 1, 0, &[2; 10], 2);
    assert_eq!(cache.mark_saved(piece(1, 0), sent), Saved::StillDirty);
}

#[test]
fn an_empty_write_at_the_beginning_does_not_wrap() {
    let cache = cache(64 * MIB);
    cache.write(1, 0, &[], Generation::new(1)).unwrap();
    assert_eq!(dirty_ids(&cache), Vec::<PieceId>::new());
}
