//! Goal: bytes that were on their way in never undo what happened meanwhile.

use crate::support::{
    MIB, PIECE, cache, cold, dirty_ids, generation, hole, piece, read, save_all, write,
};

#[test]
fn a_fill_takes_what_is_cold_and_nothing_else() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 100, &[2; 50], 5);
    cache.punch_hole(1, 120..130);
    let fill = cache.fill(piece(1, 0)).unwrap();
    assert_eq!(fill.bring(0, &[1; 200]), 150);
    drop(fill);
    let (bytes, gaps) = read(&cache, 1, 0, 200);
    assert_eq!(gaps, [hole(120..130)]);
    let expected = [&[1; 100][..], &[2; 20], &[0; 10], &[2; 20], &[1; 50]].concat();
    assert_eq!(bytes, expected);
    let mut ranges = Vec::new();
    cache.dirty_ranges(piece(1, 0), &mut ranges);
    assert_eq!(cache.mark_saved(piece(1, 0), generation(5)), block_cache::Saved::Clean);
    assert_eq!(
        ranges,
        [0..120, 130..200],
        "one dirty page; the rest of it is as it lies elsewhere"
    );
}

#[test]
fn bytes_of_other_pieces_are_not_taken() {
    let cache = cache(64 * MIB);
    let fill = cache.fill(piece(1, 1)).unwrap();
    assert_eq!(fill.bring(PIECE - 10, &[1; 30]), 20);
    assert_eq!(fill.bring(2 * PIECE - 5, &[1; 30]), 5);
    assert_eq!(fill.bring(0, &[1; 30]), 0);
    assert_eq!(fill.bring(2 * PIECE, &[1; 30]), 0);
    assert!(cache.is_covered(1, PIECE..PIECE + 20) && !cache.is_covered(1, PIECE - 1..PIECE));
}

#[test]
fn a_write_that_was_made_and_saved_meanwhile_wins() {
    let cache = cache(64 * MIB);
    let fill = cache.fill(piece(1, 0)).unwrap();
    write(&cache, 1, 10, b"new", 1);
    save_all(&cache);
    assert_eq!(cache.evict(u64::MAX), 0, "a fill is under way");
    assert_eq!(fill.bring(0, &[b'o'; 20]), 17);
    assert_eq!(read(&cache, 1, 0, 20).0, b"oooooooooonewooooooo");
    drop(fill);
    assert!(cache.evict(1) > 0);
}

#[test]
fn a_cut_a_hole_or_a_forget_meanwhile_ends_a_fill() {
    for change in 0..4 {
        let cache = cache(64 * MIB);
        write(&cache, 1, 0, &[1; 10], 1);
        let fill = cache.fill(piece(1, 0)).unwrap();
        match change {
            0 => cache.truncate(1, 5),
            1 => cache.punch_hole(1, 5..10),
            2 => cache.forget(1, 5..10),
            _ => cache.remove(1),
        }
        assert_eq!(fill.bring(0, &[9; 20]), 0);
        let later = cache.fill(piece(1, 0)).unwrap();
        assert!(later.bring(0, &[3; 20]) > 0, "what was looked up after it may come");
    }
}

#[test]
fn a_fill_of_nothing_leaves_nothing() {
    let cache = cache(64 * MIB);
    drop(cache.fill(piece(1, 0)).unwrap());
    assert_eq!(cache.stats().pieces, 0);
    assert_eq!(read(&cache, 1, 0, 5).1, [cold(0..5)]);
}

#[test]
fn what_was_filled_is_clean_and_the_first_to_go() {
    let cache = cache(10 * MIB);
    for index in 0..10 {
        let fill = cache.fill(piece(1, index)).unwrap();
        assert_eq!(fill.bring(index * PIECE, &vec![1; PIECE as usize]), PIECE);
        assert!(cache.stats().allocated_bytes <= 10 * MIB);
    }
    assert_eq!(dirty_ids(&cache), []);
    write(&cache, 2, 0, &vec![2; 2 * PIECE as usize], 1);
    let fill = cache.fill(piece(1, 0)).unwrap();
    assert_eq!(fill.bring(0, &vec![1; PIECE as usize]), 0, "dirty bytes do not make way");
}
