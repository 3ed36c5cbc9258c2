//! The bytes of a file, in pages that images share until one of them writes.
//!
//! Invariants: a page that is not listed is zero; no page is listed, and no byte set, at or behind `size`.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a page, as a length; [`PAGE_BYTES`] as a position.
const PAGE_LEN: usize = 4096;
pub(super) const PAGE_BYTES: u64 = PAGE_LEN as u64;

type Page = [u8; PAGE_LEN];

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    size: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Numbers of the pages that take room, from page `from` on.
    pub(super) fn pages(&self, from: u64) -> impl Iterator<Item = u64> {
        self.pages.range(from..).map(|(page, _)| *page)
    }

    pub(super) fn has_page(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    /// The next pages at or after `at` that are listed, as positions; `None` when there are none.
    pub(super) fn next_listed(&self, at: u64) -> Option<Range<u64>> {
        let mut pages = self.pages(at / PAGE_BYTES);
        let first = pages.next()?;
        let after = pages.zip(first + 1..).take_while(|(page, next)| page == next).count() as u64;
        let start = at.max(first * PAGE_BYTES);
        let end = self.size.min((first + 1 + after) * PAGE_BYTES);
        (start < end).then_some(start..end)
    }

    /// Reads what there is of `buf.len()` bytes at `at`; says how much that was.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let len =
            usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(buf.len());
        for (page, within, part) in spans(at, len) {
            let target = &mut buf[part];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        len
    }

    /// Writes `bytes` at `at`, growing the image.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        for (page, within, part) in spans(at, bytes.len()) {
            let target =
                Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN])));
            target[within..within + part.len()].copy_from_slice(&bytes[part]);
        }
        if !bytes.is_empty() {
            self.size = self.size.max(at + bytes.len() as u64);
        }
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            let _cut = self.pages.split_off(&size.div_ceil(PAGE_BYTES));
            // Below a page's size, so it fits.
            let kept = usize::try_from(size % PAGE_BYTES).unwrap_or(0);
            if let Some(last) = self.pages.get_mut(&(size / PAGE_BYTES)) {
                Arc::make_mut(last)[kept..].fill(0);
            }
        }
        self.size = size;
    }
}

/// Images with the same bytes are the same, whichever pages they list.
impl Hash for Image {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.size.hash(state);
        for (page, bytes) in &self.pages {
            if **bytes != [0; PAGE_LEN] {
                page.hash(state);
                state.write_u64(digest(bytes));
            }
        }
    }
}

/// A number that tells pages apart; several times as quick as the standard library's hash.
fn digest(page: &Page) -> u64 {
    // Any odd numbers with many bits; each lane is a permutation of what it was for each word.
    let mut lanes: [u64; 4] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 3, 5];
    for words in page.as_chunks::<8>().0.as_chunks::<4>().0 {
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *lane ^= *lane >> 32;
        }
    }
    lanes.into_iter().fold(0, |sum, lane| (sum ^ lane).wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

/// Splits `len` bytes at `at` by page: the page, where in it, and which of the bytes.
fn spans(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let position = at + done as u64;
        // Below a page's size, so it fits.
        let within = usize::try_from(position % PAGE_BYTES).unwrap_or(0);
        let part = done..len.min(done + PAGE_LEN - within);
        done = part.end;
        (!part.is_empty()).then_some((position / PAGE_BYTES, within, part))
    })
}

#[cfg(test)]
mod tests {
    //! Goal: an image is a growable array of bytes. Method: random work against a `Vec`.

    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn hash_of(image: &Image) -> u64 {
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn every_byte_of_a_page_counts_for_its_hash_and_its_place_does_too() {
        let mut seen = std::collections::HashSet::new();
        for at in 0..2 * PAGE_BYTES {
            for value in [1, 2, 0x80] {
                let mut image = Image::default();
                image.resize(2 * PAGE_BYTES);
                image.write(&[value], at);
                assert!(seen.insert(hash_of(&image)), "{value} at {at}");
            }
        }
        let (mut zeros, mut nothing) = (Image::default(), Image::default());
        zeros.write(&[0; 100], 0);
        nothing.resize(100);
        assert_eq!(hash_of(&zeros), hash_of(&nothing));
    }

    proptest! {
        #[test]
        fn an_image_is_an_array_of_bytes(
            work in prop::collection::vec((0..20_000u64, prop::option::of((0..9000usize, any::<u8>()))), 0..30),
        ) {
            let (mut image, mut model) = (Image::default(), Vec::new());
            for (at, write) in work {
                let start = usize::try_from(at).unwrap();
                match write {
                    Some((len, fill)) => {
                        image.write(&vec![fill; len], at);
                        // A write of nothing beyond the end does not extend.
                        if len > 0 {
                            model.resize(model.len().max(start + len), 0);
                            model[start..start + len].fill(fill);
                        }
                    }
                    None => {
                        image.resize(at);
                        model.resize(start, 0);
                    }
                }
                prop_assert_eq!(image.size(), model.len() as u64);
                let mut all = vec![1; model.len() + 10];
                prop_assert_eq!(image.read(&mut all, 0), model.len());
                prop_assert_eq!(&all[..model.len()], &model);
                let mut at = 0;
                while let Some(listed) = image.next_listed(at) {
                    let (start, end) = (usize::try_from(listed.start).unwrap(), usize::try_from(listed.end).unwrap());
                    prop_assert!(at <= listed.start && start < end && end <= model.len());
                    prop_assert!(model[usize::try_from(at).unwrap()..start].iter().all(|byte| *byte == 0));
                    at = listed.end;
                }
                prop_assert!(model.iter().skip(usize::try_from(at).unwrap()).all(|byte| *byte == 0));
            }
        }
    }
}
