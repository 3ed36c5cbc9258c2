//! Where each piece of a shard is: open addressing, so that its memory is known to the byte.
//!
//! Keys are pairs of strand and piece; the place of a strand's first piece in its chain is kept under the
//! piece number [`HEAD`], which no piece has. Collisions go to the next bucket, and a removal moves back
//! what it would cut off, so that there are no marks of removed keys. At most three quarters are in use.

use crate::types::PieceId;

/// A place in the shard's table of entries.
pub(crate) type Slot = u32;
/// No place.
pub(crate) const NONE: Slot = Slot::MAX;
/// The piece number under which a strand's chain begins.
pub(crate) const HEAD: u64 = u64::MAX;

const BUCKETS_MIN: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    key: PieceId,
    slot: Slot,
}

const EMPTY: Bucket = Bucket { key: PieceId { strand: 0, index: 0 }, slot: NONE };

#[derive(Debug)]
pub(crate) struct Index {
    buckets: Vec<Bucket>,
    len: usize,
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self { buckets: Vec::new(), len: 0 }
    }

    pub(crate) fn find(&self, key: PieceId) -> Option<Slot> {
        let bucket = self.buckets.get(self.place(key)?)?;
        (bucket.slot != NONE).then_some(bucket.slot)
    }

    /// Sets the place of a key; room for it was reserved.
    pub(crate) fn set(&mut self, key: PieceId, slot: Slot) {
        let place = self.place(key).expect("room was reserved");
        let bucket = &mut self.buckets[place];
        self.len += usize::from(bucket.slot == NONE);
        *bucket = Bucket { key, slot };
    }

    pub(crate) fn remove(&mut self, key: PieceId) {
        let Some(mut gap) = self.place(key).filter(|place| self.buckets[*place].slot != NONE)
        else {
            return;
        };
        self.len -= 1;
        let mask = self.buckets.len() - 1;
        let mut next = gap;
        loop {
            next = (next + 1) & mask;
            let bucket = self.buckets[next];
            if bucket.slot == NONE {
                break;
            }
            // What belongs at or before the gap moves into it.
            let home = self.home(bucket.key);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.buckets[gap] = bucket;
                gap = next;
            }
        }
        self.buckets[gap] = EMPTY;
    }

    /// How many buckets it must have for `more` keys, if it has too few.
    pub(crate) fn grown(&self, more: usize) -> Option<usize> {
        let needed = (self.len + more) * 4;
        (needed > self.buckets.len() * 3)
            .then(|| needed.div_ceil(3).next_power_of_two().max(BUCKETS_MIN))
    }

    pub(crate) fn grow(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; buckets]);
        self.len = 0;
        for bucket in old.into_iter().filter(|bucket| bucket.slot != NONE) {
            self.set(bucket.key, bucket.slot);
        }
    }

    /// Bytes of so many buckets.
    pub(crate) const fn bytes(buckets: usize) -> u64 {
        (buckets * size_of::<Bucket>()) as u64
    }

    pub(crate) fn heap_bytes(&self) -> u64 {
        Self::bytes(self.buckets.capacity())
    }

    /// The bucket of a key, or the empty one where it would go; nothing if there are no buckets.
    fn place(&self, key: PieceId) -> Option<usize> {
        let mask = self.buckets.len().checked_sub(1)?;
        let mut place = self.home(key);
        loop {
            let bucket = &self.buckets[place];
            if bucket.slot == NONE || bucket.key == key {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
    }

    fn home(&self, key: PieceId) -> usize {
        // The upper bits are the well mixed ones.
        let bits = self.buckets.len().trailing_zeros();
        usize::try_from(hash(key) >> 32).unwrap_or(0) >> (32 - bits.min(32))
    }
}

/// Spreads keys; strands are numbered one after the other, and so are pieces.
fn hash(key: PieceId) -> u64 {
    let mixed = mix(key.strand) ^ key.index.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mix(mixed ^ (mixed >> 29))
}

/// Spreads one number over all bits.
pub(crate) const fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    //! Goal: the index finds what was put in and not removed. Model: a map.

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = PieceId> {
        (0..6_u64, prop_oneof![0..40_u64, Just(HEAD)])
            .prop_map(|(strand, index)| PieceId { strand, index })
    }

    proptest! {
        #[test]
        fn it_finds_what_the_model_finds(
            steps in prop::collection::vec((key(), prop::option::weighted(0.6, 0..1000_u32)), 1..400),
        ) {
            let (mut index, mut model) = (Index::new(), HashMap::new());
            for (key, slot) in steps {
                match slot {
                    Some(slot) => {
                        if let Some(buckets) = index.grown(1) {
                            index.grow(buckets);
                            prop_assert_eq!(index.heap_bytes(), Index::bytes(buckets));
                        }
                        index.set(key, slot);
                        model.insert(key, slot);
                    }
                    None => {
                        index.remove(key);
                        model.remove(&key);
                    }
                }
                prop_assert_eq!(index.len, model.len());
            }
            for strand in 0..6 {
                for piece in (0..40).chain([HEAD]) {
                    let key = PieceId { strand, index: piece };
                    prop_assert_eq!(index.find(key), model.get(&key).copied());
                }
            }
        }
    }
}
