//! A chunk: 64 KiB of a piece, its bytes, which of them are here, and which pages are dirty.
//!
//! A small or sparse chunk keeps its bytes in pages of 4 KiB, each allocated when it is first written. One
//! that is more than half full, or that a sequential writer reaches, keeps them in one buffer of 64 KiB.
//!
//! A page is dirty from the write that changed it until a generation that is at least that write's is
//! marked as saved. What is read back is always bounded by the coverage: bytes that it does not call data
//! are never shown, whatever the buffer holds.

use std::mem;
use std::ops::Range;

use crate::budget::{Buffer, Page, Purse};
use crate::coverage::{CHUNK_BYTES, Coverage, Kind, PAGE_BYTES, PAGES};
use crate::types::Generation;

/// Bytes of a chunk's own bookkeeping.
pub(crate) const CHUNK_OWN_BYTES: u64 = size_of::<Chunk>() as u64;
/// With more pages than this, one buffer is better.
const PAGES_MAX: u32 = CHUNK_BYTES / PAGE_BYTES / 2;

#[derive(Debug)]
enum Buffers {
    Pages([Option<Page>; PAGES]),
    Whole(Buffer),
}

/// What has to be allocated before a range can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// These pages.
    Pages(u16),
    /// One buffer in place of all pages.
    Whole,
}

impl Plan {
    fn bytes(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Pages(pages) => u64::from(pages.count_ones()) * u64::from(PAGE_BYTES),
            Self::Whole => u64::from(CHUNK_BYTES),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Chunk {
    coverage: Coverage,
    buffers: Buffers,
    /// Pages that were changed and not saved.
    dirty: u16,
    /// The newest write of each dirty page.
    newest: [Generation; PAGES],
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self {
            coverage: Coverage::new(),
            buffers: Buffers::Pages([const { None }; PAGES]),
            dirty: 0,
            newest: [Generation::default(); PAGES],
        }
    }

    pub(crate) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.coverage.data_bytes() == 0 && self.coverage.hole_bytes() == 0
    }

    pub(crate) fn dirty_pages(&self) -> u32 {
        self.dirty.count_ones()
    }

    /// Most bytes that a write to `range` allocates, if the chunk is not there yet.
    pub(crate) fn quote_new(range: &Range<u32>, sequential: bool) -> u64 {
        let empty = const { Coverage::new() };
        CHUNK_OWN_BYTES + empty.growth(range, Kind::Data) + plan(0, range, sequential).bytes()
    }

    /// Most bytes that a write to `range` allocates.
    pub(crate) fn quote(&self, range: &Range<u32>, sequential: bool) -> u64 {
        self.coverage.growth(range, Kind::Data) + self.plan(range, sequential).bytes()
    }

    fn plan(&self, range: &Range<u32>, sequential: bool) -> Plan {
        match &self.buffers {
            Buffers::Whole(_) => Plan::Nothing,
            Buffers::Pages(pages) => {
                let present = (0..PAGES).filter(|page| pages[*page].is_some());
                plan(present.fold(0, |mask, page| mask | 1 << page), range, sequential)
            }
        }
    }

    /// Allocates what a write to `range` needs.
    pub(crate) fn prepare(&mut self, range: &Range<u32>, sequential: bool, purse: &mut Purse<'_>) {
        self.reserve_edges(range, Kind::Data, purse);
        match self.plan(range, sequential) {
            Plan::Nothing => {}
            Plan::Pages(missing) => {
                let Buffers::Pages(pages) = &mut self.buffers else { return };
                let places = pages.iter_mut().zip(0..);
                let missing = places.filter(|(_, page)| missing & (1 << page) != 0);
                purse.pages(missing.map(|(place, _)| place));
            }
            Plan::Whole => self.make_whole(purse),
        }
    }

    fn reserve_edges(&mut self, range: &Range<u32>, kind: Kind, purse: &mut Purse<'_>) {
        let grown = self.coverage.growth(range, kind);
        if grown > 0 {
            purse.spend(grown);
            purse.put_back(self.coverage.heap_bytes());
            self.coverage.reserve(range, kind);
        }
    }

    fn make_whole(&mut self, purse: &mut Purse<'_>) {
        let mut whole = purse.buffer();
        if let Buffers::Pages(pages) = &mut self.buffers {
            for (page, bytes) in pages.iter().enumerate() {
                if let Some(bytes) = bytes {
                    overwrite(&mut whole, page * PAGE_BYTES as usize, &**bytes);
                }
            }
            purse.recycle_pages(pages.iter_mut().filter_map(Option::take));
        }
        self.buffers = Buffers::Whole(whole);
    }

    /// Writes bytes; the range was prepared.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8], generation: Generation) {
        let end = at + len_u32(bytes.len());
        self.copy_in(at, bytes);
        self.coverage.set(at..end, Kind::Data);
        for page in pages_of(&(at..end)) {
            let newest = &mut self.newest[page];
            let is_dirty = self.dirty & (1 << page) != 0;
            *newest = if is_dirty { generation.max(*newest) } else { generation };
            self.dirty |= 1 << page;
        }
    }

    /// Takes bytes where nothing is known; the range was prepared. Returns how many were taken.
    pub(crate) fn fill(&mut self, at: u32, bytes: &[u8]) -> u32 {
        let end = at + len_u32(bytes.len());
        let (mut from, mut taken) = (at, 0);
        while from < end {
            let (kind, to) = self.coverage.run(from, end);
            if kind == Kind::Cold {
                self.copy_in(from, &bytes[(from - at) as usize..(to - at) as usize]);
                self.coverage.set(from..to, Kind::Data);
                taken += to - from;
            }
            from = to;
        }
        taken
    }

    fn copy_in(&mut self, at: u32, bytes: &[u8]) {
        match &mut self.buffers {
            Buffers::Whole(whole) => overwrite(whole, at as usize, bytes),
            Buffers::Pages(pages) => {
                let mut rest = bytes;
                let mut at = at as usize;
                while !rest.is_empty() {
                    let (page, skip) = (at / PAGE_BYTES as usize, at % PAGE_BYTES as usize);
                    let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES as usize - skip));
                    let page = pages[page].as_mut().expect("the range was prepared");
                    page[skip..skip + now.len()].copy_from_slice(now);
                    at += now.len();
                    rest = later;
                }
            }
        }
    }

    /// Copies bytes that the coverage calls data.
    pub(crate) fn copy_out(&self, at: u32, to: &mut [u8]) {
        match &self.buffers {
            Buffers::Whole(whole) => {
                to.copy_from_slice(&whole[at as usize..at as usize + to.len()]);
            }
            Buffers::Pages(pages) => {
                let mut rest = to;
                let mut at = at as usize;
                while !rest.is_empty() {
                    let (page, skip) = (at / PAGE_BYTES as usize, at % PAGE_BYTES as usize);
                    let step = rest.len().min(PAGE_BYTES as usize - skip);
                    let (now, later) = rest.split_at_mut(step);
                    let page = pages[page].as_ref().expect("data has a page");
                    now.copy_from_slice(&page[skip..skip + step]);
                    at += step;
                    rest = later;
                }
            }
        }
    }

    /// Makes `range` a hole. Without room to note its edges, zeros are written instead, which read the same.
    pub(crate) fn punch(&mut self, range: Range<u32>, purse: &mut Purse<'_>) {
        let grown = self.coverage.growth(&range, Kind::Hole);
        if purse.fill_to(grown).is_ok() {
            self.set_known(range, Kind::Hole, purse);
        } else {
            self.write_zeros(range);
        }
    }

    /// Forgets the bytes of `range`.
    pub(crate) fn forget(&mut self, range: Range<u32>, purse: &mut Purse<'_>) {
        self.set_known(range, Kind::Cold, purse);
    }

    fn set_known(&mut self, range: Range<u32>, kind: Kind, purse: &mut Purse<'_>) {
        self.reserve_edges(&range, kind, purse);
        self.coverage.set(range.clone(), kind);
        for page in pages_of(&range).filter(|page| !self.coverage.page_has_data(*page)) {
            self.dirty &= !(1 << page);
            if let Buffers::Pages(pages) = &mut self.buffers {
                purse.recycle_pages(pages[page].take().into_iter());
            }
        }
        if self.coverage.data_bytes() == 0 {
            self.release_buffers(purse);
        }
    }

    fn write_zeros(&mut self, range: Range<u32>) {
        let mut from = range.start;
        while from < range.end {
            let (kind, to) = self.coverage.run(from, range.end);
            if kind == Kind::Data {
                const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
                for at in (from..to).step_by(ZEROS.len()) {
                    self.copy_in(at, &ZEROS[..ZEROS.len().min((to - at) as usize)]);
                }
            }
            from = to;
        }
    }

    /// Notes that everything up to `generation` is safe elsewhere.
    pub(crate) fn save(&mut self, generation: Generation) {
        for page in each(self.dirty) {
            if self.newest[page] <= generation {
                self.dirty &= !(1 << page);
            }
        }
    }

    /// Generation of the page that has been dirty longest.
    pub(crate) fn oldest(&self) -> Option<Generation> {
        each(self.dirty).map(|page| self.newest[page]).min()
    }

    /// The next run of data in dirty pages at or after `at`.
    pub(crate) fn next_dirty(&self, mut at: u32) -> Option<Range<u32>> {
        while at < CHUNK_BYTES {
            let page = at / PAGE_BYTES;
            if self.dirty & (1 << page) == 0 {
                at = (page + 1) * PAGE_BYTES;
                continue;
            }
            let clean = (page..CHUNK_BYTES / PAGE_BYTES).find(|page| self.dirty & (1 << page) == 0);
            let end = clean.map_or(CHUNK_BYTES, |page| page * PAGE_BYTES);
            let (kind, to) = self.coverage.run(at, end);
            if kind == Kind::Data {
                return Some(at..to);
            }
            at = to;
        }
        None
    }

    /// Gives all memory back but the chunk's own.
    pub(crate) fn release(mut self, purse: &mut Purse<'_>) {
        self.release_buffers(purse);
        purse.put_back(self.coverage.heap_bytes());
    }

    fn release_buffers(&mut self, purse: &mut Purse<'_>) {
        match mem::replace(&mut self.buffers, Buffers::Pages([const { None }; PAGES])) {
            Buffers::Whole(whole) => purse.recycle(whole),
            Buffers::Pages(pages) => purse.recycle_pages(pages.into_iter().flatten()),
        }
    }
}

/// Writes within a buffer's capacity, and makes it longer where that goes beyond its end.
fn overwrite(buffer: &mut Buffer, at: usize, bytes: &[u8]) {
    if buffer.len() < at {
        buffer.resize(at, 0);
    }
    let inside = bytes.len().min(buffer.len() - at);
    buffer[at..at + inside].copy_from_slice(&bytes[..inside]);
    buffer.extend_from_slice(&bytes[inside..]);
}

fn plan(present: u16, range: &Range<u32>, sequential: bool) -> Plan {
    let needed = pages_of(range).fold(0_u16, |mask, page| mask | 1 << page);
    match needed & !present {
        0 => Plan::Nothing,
        _ if sequential || (present | needed).count_ones() > PAGES_MAX => Plan::Whole,
        missing => Plan::Pages(missing),
    }
}

/// Pages that a range touches.
fn pages_of(range: &Range<u32>) -> Range<usize> {
    (range.start / PAGE_BYTES) as usize..range.end.div_ceil(PAGE_BYTES) as usize
}

fn each(mut mask: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let page = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(page)
    })
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("within a chunk")
}
