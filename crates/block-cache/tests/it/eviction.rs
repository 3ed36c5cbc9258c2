//! Goal: only clean pieces are evicted, in the exact order of their last use, and dirty ones never.

use crate::support::{MIB, PIECE, Rng, cache, dirty_ids, generation, piece, read, save_all, write};

/// Strands of which anything is here.
fn here(cache: &block_cache::BlockCache, strands: u64) -> Vec<u64> {
    (0..strands).filter(|strand| cache.is_covered(*strand, 0..1)).collect()
}

#[test]
fn reads_and_writes_are_uses_and_marks_are_not() {
    let cache = cache(64 * MIB);
    for strand in 0..5 {
        write(&cache, strand, 0, &[1; 100], strand);
    }
    read(&cache, 0, 0, 10);
    write(&cache, 2, 50, &[2; 10], 9);
    for strand in [4, 2, 0, 1, 3] {
        cache.mark_saved(piece(strand, 0), generation(9));
    }
    let mut order = Vec::new();
    while !here(&cache, 5).is_empty() {
        let before = here(&cache, 5);
        assert!(cache.evict(1) > 0);
        let after = here(&cache, 5);
        order.extend(before.into_iter().filter(|strand| !after.contains(strand)));
    }
    assert_eq!(order, [1, 3, 4, 0, 2]);
    assert_eq!(cache.evict(1), 0);
}

#[test]
fn the_order_is_exact_over_shards_whatever_the_uses() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let cache = cache(64 * MIB);
        let mut order: Vec<u64> = (0..200).collect();
        for strand in 0..200 {
            write(&cache, strand, rng.below(3) * PIECE, &[1; 64], 1);
        }
        save_all(&cache);
        for _ in 0..rng.below(600) {
            let strand = rng.below(200);
            for index in 0..3 {
                read(&cache, strand, index * PIECE, 1);
            }
            order.retain(|other| *other != strand);
            order.push(strand);
        }
        for (evicted, strand) in order.iter().enumerate() {
            assert_eq!(cache.stats().pieces, 200 - evicted, "seed {seed}");
            cache.evict(1);
            let (_, gaps) = read(&cache, *strand, 0, 3 * PIECE as usize);
            assert_eq!(gaps.len(), 1, "seed {seed}: strand {strand} was the oldest");
        }
    }
}

#[test]
fn a_full_cache_evicts_what_is_clean_and_keeps_what_is_dirty() {
    let cache = cache(16 * MIB);
    write(&cache, 1, 0, &vec![1; PIECE as usize], 1);
    for index in 0..20 {
        write(&cache, 2, index * PIECE, &vec![2; PIECE as usize], 2);
        cache.mark_saved(piece(2, index), generation(2));
        assert!(cache.stats().allocated_bytes <= 16 * MIB);
    }
    assert_eq!(dirty_ids(&cache), [piece(1, 0)]);
    assert_eq!(read(&cache, 1, 0, PIECE as usize), (vec![1; PIECE as usize], vec![]));
    assert!(cache.is_covered(2, 19 * PIECE..20 * PIECE) && !cache.is_covered(2, 0..PIECE));
    assert!(cache.stats().evicted_pieces >= 17);
}

#[test]
fn a_piece_that_is_written_does_not_make_way_for_itself() {
    let cache = cache(10 * MIB);
    write(&cache, 1, 0, &vec![1; PIECE as usize / 2], 1);
    write(&cache, 2, 0, &vec![2; PIECE as usize], 1);
    save_all(&cache);
    write(&cache, 1, PIECE / 2, &vec![3; PIECE as usize / 2], 2);
    write(&cache, 3, 0, &vec![4; 3 * MIB as usize], 2);
    assert!(cache.is_covered(1, 0..PIECE), "it was used last");
    assert!(!cache.is_covered(2, 0..1));
}
