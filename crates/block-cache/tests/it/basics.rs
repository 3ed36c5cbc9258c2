//! Goal: what is written is read, and what is not here is told apart: bytes, holes and cold, to the byte.

use block_cache::{Generation, Saved, WriteError};

use crate::support::{
    MIB, PIECE, cache, cold, dirty_ids, generation, hole, piece, read, save_all, write,
};

#[test]
fn what_was_written_is_read_back_across_pieces() {
    let cache = cache(64 * MIB);
    let bytes: Vec<u8> = (0..9 * MIB).map(|at| (at % 251).to_le_bytes()[0]).collect();
    write(&cache, 1, PIECE - 1000, &bytes, 1);
    assert_eq!(read(&cache, 1, PIECE - 1000, bytes.len()), (bytes.clone(), vec![]));
    let (part, gaps) = read(&cache, 1, 2 * PIECE - 77, 200);
    assert_eq!((&part[..], gaps), (&bytes[(PIECE + 1000 - 77) as usize..][..200], vec![]));
    assert!(cache.is_covered(1, PIECE - 1000..PIECE - 1000 + 9 * MIB));
    assert!(!cache.is_covered(1, PIECE - 1001..PIECE));
}

#[test]
fn what_is_not_here_is_cold_and_leaves_the_readers_buffer_alone() {
    let cache = cache(MIB);
    assert_eq!(read(&cache, 1, 5, 3), (vec![0xEE; 3], vec![cold(5..8)]));
    write(&cache, 1, 10, b"abc", 1);
    let expected = ([&[0xEE; 5][..], b"abc", &[0xEE; 4]].concat(), vec![cold(5..10), cold(13..17)]);
    assert_eq!(read(&cache, 1, 5, 12), expected);
    assert_eq!(read(&cache, 2, 10, 3).1, [cold(10..13)], "another strand");
}

#[test]
fn cold_neighbours_are_one_gap_even_across_pieces() {
    let cache = cache(MIB);
    write(&cache, 1, PIECE, b"x", 1);
    let (_, gaps) = read(&cache, 1, PIECE - 10, 2 * MIB as usize);
    assert_eq!(gaps, [cold(PIECE - 10..PIECE), cold(PIECE + 1..PIECE - 10 + 2 * MIB)]);
}

#[test]
fn a_punched_hole_is_zeros_and_neither_bytes_nor_cold() {
    let cache = cache(MIB);
    write(&cache, 1, 0, &[9; 10_000], 1);
    cache.punch_hole(1, 100..5001);
    let (bytes, gaps) = read(&cache, 1, 0, 10_000);
    assert_eq!(gaps, [hole(100..5001)]);
    assert!(bytes[..100].iter().chain(&bytes[5001..]).all(|byte| *byte == 9));
    assert!(bytes[100..5001].iter().all(|byte| *byte == 0));
    assert!(cache.is_covered(1, 0..10_000), "a hole is known");
    write(&cache, 1, 200, &[7; 10], 2);
    assert_eq!(read(&cache, 1, 0, 10_000).1, [hole(100..200), hole(210..5001)]);
}

#[test]
fn a_hole_gives_its_pages_back_and_is_not_dirty() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &vec![9; PIECE as usize], 1);
    let before = cache.stats().allocated_bytes;
    cache.punch_hole(1, 0..PIECE);
    let stats = cache.stats();
    assert!(stats.allocated_bytes - stats.pooled_bytes < before - PIECE + MIB / 10);
    assert_eq!(dirty_ids(&cache), []);
    assert_eq!(read(&cache, 1, 0, PIECE as usize), (vec![0; PIECE as usize], vec![hole(0..PIECE)]));
}

#[test]
fn truncate_and_forget_make_cold_what_remove_takes_away_whole() {
    let cache = cache(64 * MIB);
    for strand in 1..=3 {
        write(&cache, strand, 0, &vec![9; 3 * PIECE as usize], 1);
    }
    cache.truncate(1, PIECE + 33);
    assert_eq!(read(&cache, 1, 0, 3 * PIECE as usize).1, [cold(PIECE + 33..3 * PIECE)]);
    cache.forget(2, 50..PIECE + 50);
    assert_eq!(read(&cache, 2, 0, 3 * PIECE as usize).1, [cold(50..PIECE + 50)]);
    cache.remove(3);
    assert_eq!(read(&cache, 3, 0, 3 * PIECE as usize).1, [cold(0..3 * PIECE)]);
    assert_eq!(cache.stats().pieces, 5);
}

#[test]
fn a_removed_dirty_strand_is_not_listed_and_holds_no_memory() {
    let cache = cache(64 * MIB);
    let empty = cache.stats().allocated_bytes;
    for strand in 0..500 {
        write(&cache, strand, 0, &[1; 10_000], 1);
    }
    for strand in 0..500 {
        cache.remove(strand);
    }
    let stats = cache.stats();
    assert_eq!((stats.pieces, stats.dirty_pieces), (0, 0));
    let stay = stats.allocated_bytes - stats.pooled_bytes - empty;
    assert!(stay < 500 * 300, "only the tables stay, and not {stay} bytes");
}

#[test]
fn dirty_pieces_are_listed_oldest_first() {
    let cache = cache(64 * MIB);
    write(&cache, 7, 3 * PIECE, b"a", 5);
    write(&cache, 7, 0, b"b", 6);
    write(&cache, 9, 0, b"c", 2);
    write(&cache, 7, 3 * PIECE, b"d", 9);
    assert_eq!(dirty_ids(&cache), [piece(9, 0), piece(7, 3), piece(7, 0)]);
    let mut found = Vec::new();
    cache.dirty(2, &mut found);
    assert_eq!(found.iter().map(|dirty| dirty.id).collect::<Vec<_>>(), [piece(9, 0), piece(7, 3)]);
    cache.dirty_of(7, &mut found);
    assert_eq!(found.iter().map(|dirty| dirty.id).collect::<Vec<_>>(), [piece(7, 3), piece(7, 0)]);
    assert_eq!((found[0].oldest, found[0].newest), (generation(5), generation(9)));
    cache.mark_saved(piece(7, 3), generation(5));
    assert_eq!(dirty_ids(&cache), [piece(9, 0), piece(7, 0), piece(7, 3)]);
}

#[test]
fn a_random_small_write_makes_only_its_pages_dirty() {
    let cache = cache(64 * MIB);
    write(&cache, 1, 0, &vec![1; PIECE as usize], 1);
    save_all(&cache);
    write(&cache, 1, 1_000_000, &[2; 4096], 2);
    let mut ranges = Vec::new();
    assert_eq!(cache.dirty_ranges(piece(1, 0), &mut ranges), Some(generation(2)));
    assert_eq!(ranges, [999_424..999_424 + 8192]);
    assert_eq!(cache.dirty_ranges(piece(1, 1), &mut ranges), None);
}

#[test]
fn marks_answer_what_they_left() {
    let cache = cache(MIB);
    assert_eq!(cache.mark_saved(piece(1, 0), generation(9)), Saved::Absent);
    write(&cache, 1, 0, b"a", 3);
    write(&cache, 1, 0, b"a", 4);
    assert_eq!(cache.mark_saved(piece(1, 0), generation(3)), Saved::StillDirty);
    assert_eq!(cache.mark_saved(piece(1, 0), generation(4)), Saved::Clean);
    assert_eq!(cache.mark_saved(piece(1, 0), generation(4)), Saved::Clean);
}

#[test]
fn a_write_of_nothing_does_nothing_anywhere() {
    let cache = cache(MIB);
    for offset in [0, 1, PIECE, u64::MAX] {
        write(&cache, 1, offset, b"", 1);
        cache.punch_hole(1, offset..offset);
        cache.forget(1, offset..offset);
        assert_eq!(read(&cache, 1, offset, 0), (vec![], vec![]));
    }
    assert_eq!(cache.stats().pieces, 0);
}

#[test]
fn the_end_of_the_number_line_is_an_error_and_no_panic() {
    let cache = cache(MIB);
    let last = u64::MAX - 1;
    write(&cache, 1, last, b"z", 1);
    assert_eq!(read(&cache, 1, last, 1), (b"z".to_vec(), vec![]));
    let beyond = cache.write(1, last, b"zz", Generation::new(1));
    assert_eq!(beyond, Err(WriteError::BeyondEnd { offset: last, len: 2 }));
    assert_eq!(read(&cache, 1, last, 5).0[0], b'z');
    cache.truncate(1, last);
    assert_eq!(cache.stats().pieces, 0);
}
