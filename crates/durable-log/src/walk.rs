//! Walking over frames: the one reader of the format, used by recovery, by scans and by `inspect`.
//!
//! The walker reads in large steps through one buffer that it keeps, checks every byte that it
//! hands out, and never allocates more than a frame that lies wholly before the given end.
//! [`search`] looks for frame headers in bytes that a walker refused.

use std::io;
use std::ops::Range;

use crate::crc;
use crate::frame::{self, HEADER_BYTES, Header};
use crate::mutation::{Step as LeftOut, left_out};
use crate::position::{Location, Offset};

/// Small enough that what was read is still in the nearest caches when it is checked.
const BUFFER_BYTES: usize = 256 << 10;
/// What a walker says of bytes that are no header of a frame at this place of this segment.
pub(crate) const NO_HEADER: &str = "the frame's header does not match its checksum";

/// Reads bytes of the log at a location, as many as are at hand; 0 means that the file ends.
pub(crate) type Source<'s> = dyn Fn(&mut [u8], Location) -> io::Result<usize> + 's;

/// A frame that passed all checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) at: Location,
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
}

/// What lies at the walker's place.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Frame(Frame<'a>),
    /// The given end was reached exactly.
    End,
    /// The bytes here are not the frame that belongs here.
    Bad(&'static str),
}

/// Walks frame by frame from a place to an end.
pub(crate) struct Walker<'s> {
    source: &'s Source<'s>,
    salt: u64,
    at: Location,
    expect: Offset,
    end: Location,
    buffer: Vec<u8>,
    /// How much is read at once.
    read_bytes: usize,
    /// Bytes `from..to` of the buffer hold the log from `at`.
    from: usize,
    to: usize,
}

impl<'s> Walker<'s> {
    pub(crate) fn new(
        source: &'s Source<'s>,
        salt: u64,
        at: Location,
        expect: Offset,
        end: Location,
        buffer: Vec<u8>,
    ) -> Self {
        Self { source, salt, at, expect, end, buffer, read_bytes: BUFFER_BYTES, from: 0, to: 0 }
    }

    /// Reads so much at once, or as much as a frame takes.
    pub(crate) fn reading(self, read_bytes: usize) -> Self {
        Self { read_bytes, ..self }
    }

    /// Where the next frame begins, or should.
    pub(crate) fn at(&self) -> Location {
        self.at
    }

    /// The offset that the next frame must begin with.
    pub(crate) fn expect(&self) -> Offset {
        self.expect
    }

    /// The buffer, to walk elsewhere with it.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Checks the next frame and steps over it.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        let left = self.end.get() - self.at.get();
        if left == 0 {
            return Ok(Step::End);
        }
        if left < HEADER_BYTES as u64 || !self.fill(HEADER_BYTES)? {
            return Ok(Step::Bad("the frame's header is cut short"));
        }
        let bytes = &self.buffer[self.from..self.to];
        let header = match check_header(bytes, self.salt, self.at, self.expect, left) {
            Ok(header) => header,
            Err(why) => return Ok(Step::Bad(why)),
        };
        let Ok(frame_bytes) = usize::try_from(header.frame_bytes()) else {
            return Ok(Step::Bad("the frame is longer than memory"));
        };
        if !self.fill(frame_bytes)? {
            return Ok(Step::Bad("the frame is cut short"));
        }
        self.take(header, frame_bytes)
    }

    /// Checks the payload of the frame that is in the buffer, and steps over the frame.
    fn take(&mut self, header: Header, frame_bytes: usize) -> io::Result<Step<'_>> {
        let frame = &self.buffer[self.from..self.from + frame_bytes];
        let payload = match check_payload(&header, frame) {
            Ok(payload) => payload,
            Err(why) => return Ok(Step::Bad(why)),
        };
        let at = self.at;
        self.from += frame_bytes;
        self.at = at.plus(frame_bytes as u64);
        self.expect = header.next();
        Ok(Step::Frame(Frame { at, header, payload }))
    }

    /// Brings at least `wanted` bytes from the walker's place into the buffer. `wanted` is at most
    /// what is left before the end; false when the source ends first.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.to - self.from >= wanted {
            return Ok(true);
        }
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let left = self.end.get() - self.at.get();
        let room = wanted.max(usize::try_from(left).unwrap_or(usize::MAX).min(self.read_bytes));
        if self.buffer.len() < room && !self.grow(room, wanted)? {
            return Ok(false);
        }
        while self.to < wanted {
            let n = (self.source)(&mut self.buffer[self.to..room], self.at.plus(self.to as u64))?;
            if n == 0 {
                return Ok(false);
            }
            self.to += n;
        }
        Ok(true)
    }

    /// Makes the buffer `room` bytes long, but first sees for a large frame that its last byte is
    /// there: a length alone never makes us allocate.
    fn grow(&mut self, room: usize, wanted: usize) -> io::Result<bool> {
        if wanted > BUFFER_BYTES {
            let last = self.at.plus(wanted as u64 - 1);
            if (self.source)(&mut [0], last)? == 0 {
                return Ok(false);
            }
        }
        self.buffer.resize(room, 0);
        Ok(true)
    }
}

/// The header at the beginning of `bytes`, if it is that of the frame that belongs at this place.
/// `left` is how many bytes there are before the end of the segment.
pub(crate) fn check_header(
    bytes: &[u8],
    salt: u64,
    at: Location,
    expect: Offset,
    left: u64,
) -> Result<Header, &'static str> {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>().filter(|_| left >= HEADER_BYTES as u64)
    else {
        return Err("the frame's header is cut short");
    };
    let Some(header) = Header::decode(bytes, salt, at) else {
        return Err(match bytes == &[0; HEADER_BYTES] {
            true => "zeros instead of a frame",
            false => NO_HEADER,
        });
    };
    if header.first != expect && !left_out(LeftOut::CheckNextOffset) {
        return Err("the frame's records are not the next ones");
    }
    if (header.payload_bytes > frame::PAYLOAD_BYTES_MAX || header.frame_bytes() > left)
        && !left_out(LeftOut::CheckFrameLength)
    {
        return Err("the frame is longer than its segment");
    }
    Ok(header)
}

/// The payload of a frame, if it and what follows it are what the header says.
pub(crate) fn check_payload<'a>(
    header: &Header,
    frame: &'a [u8],
) -> Result<&'a [u8], &'static str> {
    let (payload, padding) = frame[HEADER_BYTES..].split_at(header.payload_bytes as usize);
    if crc::crc32c(payload) != header.payload_crc && !left_out(LeftOut::CheckPayload) {
        return Err("the frame's records do not match their checksum");
    }
    if padding.iter().any(|byte| *byte != 0) && !left_out(LeftOut::CheckPadding) {
        return Err("the frame's padding is not zero");
    }
    if !frame::records_add_up(payload, header.records) && !left_out(LeftOut::CheckRecordLengths) {
        return Err("the lengths of the frame's records do not add up");
    }
    Ok(payload)
}

/// What lies behind the place where a walker stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Highest `synced_through` of any frame header found.
    pub(crate) synced_through: Offset,
    /// One past the last byte that is not zero or, where a former life's bytes may lie, one past the
    /// last frame whose header is there; the starting place if there is none.
    pub(crate) end: Location,
}

/// How to tell a segment's own bytes from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    /// Salt of its frames.
    pub(crate) salt: u64,
    /// Its first record. Frames of a former life hold only records before that, so that one whose
    /// checksum fits by accident is still told apart.
    pub(crate) base: Offset,
    /// From here on there are no bytes of a former life.
    pub(crate) stale_end: Location,
}

/// Looks through what was written of `from..end` for headers of frames and for the last byte that means something.
///
/// Between the stretches of `written`, which are in order, there are only zeros. They are not read: a segment's room
/// is reserved ahead, and most of it may be that.
pub(crate) fn search(
    source: &Source<'_>,
    written: &[Range<Location>],
    region: Region,
    from: Location,
    end: Location,
    mut buffer: Vec<u8>,
) -> io::Result<Behind> {
    let mut behind = Behind { synced_through: Offset::ZERO, end: from };
    for stretch in written {
        // A header may end in zeros that were never written.
        let to = stretch.end.plus(HEADER_BYTES as u64).min(end);
        search_through(source, region, stretch.start.max(from)..to, &mut buffer, &mut behind)?;
    }
    behind.end = behind.end.min(end);
    Ok(behind)
}

/// Looks through all of a range as [`search`] does, except that the last frame may be found to end behind it.
pub(crate) fn search_through(
    source: &Source<'_>,
    region: Region,
    range: Range<Location>,
    buffer: &mut Vec<u8>,
    behind: &mut Behind,
) -> io::Result<()> {
    buffer.resize(BUFFER_BYTES.max(buffer.len()), 0);
    let end = range.end;
    let mut at = Location::new(range.start.get() / frame::ALIGN * frame::ALIGN);
    let mut held = 0;
    while at < end {
        let wanted = usize::try_from(end.get() - at.get()).unwrap_or(usize::MAX).min(buffer.len());
        while held < wanted {
            match source(&mut buffer[held..wanted], at.plus(held as u64))? {
                0 => break,
                n => held += n,
            }
        }
        look(&buffer[..held], region, at, behind);
        // The next round sees again the bytes in which a header could begin but not end.
        let step = held.saturating_sub(HEADER_BYTES - 1) / 8 * 8;
        if held < wanted || step == 0 || held as u64 == end.get() - at.get() {
            break;
        }
        buffer.copy_within(step..held, 0);
        held -= step;
        at = at.plus(step as u64);
    }
    Ok(())
}

fn look(bytes: &[u8], region: Region, at: Location, behind: &mut Behind) {
    const STRIDE: usize = 4096;
    for (index, part) in bytes.chunks(STRIDE).enumerate() {
        if part == &[0; STRIDE][..part.len()] {
            continue;
        }
        let start = index * STRIDE;
        let last = part.iter().rposition(|byte| *byte != 0).map_or(0, |last| start + last + 1);
        let last = at.plus(last as u64);
        if last > region.stale_end || left_out(LeftOut::ReadOverStaleBytes) {
            behind.end = behind.end.max(last);
        }
        for place in (start..start + part.len()).step_by(8) {
            let Some(header) = bytes[place..].first_chunk::<HEADER_BYTES>() else { break };
            let here = at.plus(place as u64);
            if header[..4] == frame::MAGIC
                && let Some(header) = Header::decode(header, region.salt, here)
                && header.first >= region.base
            {
                behind.synced_through = behind.synced_through.max(header.synced_through());
                if here < region.stale_end {
                    behind.end = behind.end.max(here.plus(header.frame_bytes()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the walker and the search see every frame, wherever it lies in their buffers, and a
    //! length alone makes nobody allocate. Method: logs in memory, read in pieces of any size.

    use std::cell::Cell;

    use super::*;

    const SALT: u64 = 42;

    fn frame(at: usize, first: u64, unsynced_before: u32, record: &[u8]) -> Vec<u8> {
        let mut payload = u32::try_from(record.len()).unwrap().to_le_bytes().to_vec();
        payload.extend_from_slice(record);
        let header = Header {
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            payload_crc: crc32c::crc32c(&payload),
            records: 1,
            unsynced_before,
            first: Offset::new(first),
            timestamp_ms: 0,
        };
        let mut frame = header.encode(SALT, Location::new(at as u64)).to_vec();
        frame.extend_from_slice(&payload);
        frame.resize(frame.len().next_multiple_of(8), 0);
        frame
    }

    fn read(log: &[u8], to: &mut [u8], at: Location, most: usize) -> usize {
        let rest = log.get(usize::try_from(at.get()).unwrap()..).unwrap_or_default();
        let n = rest.len().min(to.len()).min(most);
        to[..n].copy_from_slice(&rest[..n]);
        n
    }

    #[test]
    fn frames_of_all_sizes_are_walked_however_the_source_cuts_them() {
        let mut log = Vec::new();
        for n in 0..60_u32 {
            let record = vec![1; [0, 1, 1000, 70_000, 1_500_000][n as usize % 5]];
            log.extend(frame(log.len(), u64::from(n), 0, &record));
        }
        for most in [usize::MAX, 1 << 20, 4099] {
            let source = |to: &mut [u8], at| Ok(read(&log, to, at, most));
            let end = Location::new(log.len() as u64);
            let mut walker =
                Walker::new(&source, SALT, Location::new(0), Offset::ZERO, end, Vec::new());
            let mut frames = 0;
            while let Step::Frame(frame) = walker.step().unwrap() {
                assert_eq!(frame.header.first.get(), frames);
                frames += 1;
            }
            assert_eq!((frames, walker.at()), (60, end));
        }
    }

    #[test]
    fn the_search_finds_a_header_wherever_it_lies() {
        for before in
            [0, 8, 4088, 4096, BUFFER_BYTES - 40, BUFFER_BYTES - 32, BUFFER_BYTES - 8, BUFFER_BYTES]
        {
            let mut log = vec![0; before];
            log.extend(frame(before, 100, 7, b"x"));
            let used = before + 40 + 5;
            log.resize(2 * BUFFER_BYTES + 24, 0);
            let source = |to: &mut [u8], at| Ok(read(&log, to, at, usize::MAX));
            let (from, end) = (Location::new(0), Location::new(log.len() as u64));
            let region = Region { salt: SALT, base: Offset::ZERO, stale_end: Location::new(0) };
            let behind = search(&source, &[from..end], region, from, end, Vec::new()).unwrap();
            let want = Behind { synced_through: Offset::new(93), end: Location::new(used as u64) };
            assert_eq!(behind, want, "{before}");
        }
    }

    #[test]
    fn the_search_reads_what_was_written_and_finds_a_header_that_ends_where_that_does() {
        const UNIT: usize = 512;
        // The last bytes of such a header, a time, are zeros, and those may never have been written.
        for at in [0, 512 - 40, 512 - 32, 1024 - 32, 3 * 512 - 8] {
            let own = &frame(at, 100, 7, b"x")[..HEADER_BYTES];
            let mut log = vec![0; 8 * BUFFER_BYTES];
            log[at..at + HEADER_BYTES].copy_from_slice(own);
            let (from, end) = (Location::new(0), Location::new(log.len() as u64));
            let units = log.chunks(UNIT).enumerate();
            let used = units.filter(|(_, unit)| unit.iter().any(|byte| *byte != 0));
            let place = |number: usize| Location::new((number * UNIT) as u64);
            let written: Vec<_> =
                used.map(|(number, _)| place(number)..place(number + 1)).collect();
            let read_bytes = Cell::new(0);
            let source = |to: &mut [u8], at| {
                read_bytes.set(read_bytes.get() + to.len());
                Ok(read(&log, to, at, usize::MAX))
            };
            let region = Region { salt: SALT, base: Offset::ZERO, stale_end: Location::new(0) };
            let behind = search(&source, &written, region, from, end, Vec::new()).unwrap();
            let used = own.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let want =
                Behind { synced_through: Offset::new(93), end: Location::new((at + used) as u64) };
            assert_eq!(behind, want, "{at}");
            assert!(read_bytes.get() < 4 * 512, "{} bytes were read", read_bytes.get());
        }
    }

    #[test]
    fn bytes_of_a_former_life_are_nothing_and_own_frames_among_them_are_something() {
        let mut log = vec![0xaa; 8192];
        let own = frame(4096, 100, 7, b"x");
        log[4096..4096 + own.len()].copy_from_slice(&own);
        log.resize(BUFFER_BYTES, 0);
        let (from, end) = (Location::new(0), Location::new(log.len() as u64));
        let look = |log: &[u8], salt, base, stale_end: u64| {
            let base = Offset::new(base);
            let region = Region { salt, base, stale_end: Location::new(stale_end) };
            let source = |to: &mut [u8], at| Ok(read(log, to, at, usize::MAX));
            let behind = search(&source, &[from..end], region, from, end, Vec::new()).unwrap();
            (behind.synced_through.get(), behind.end.get())
        };
        assert_eq!(look(&log, SALT, 0, 8192), (93, 4096 + own.len() as u64));
        assert_eq!(look(&log, SALT, 100, 8192), (93, 4096 + own.len() as u64));
        // Another salt, or records from before the segment: not its own.
        assert_eq!(look(&log, SALT + 1, 0, 8192), (0, 0));
        assert_eq!(look(&log, SALT, 101, 8192), (0, 0));
        // One byte beyond what the header calls stale.
        assert_eq!(look(&log, SALT + 1, 0, 8191), (0, 8192));
        // A length that goes beyond the file is not believed.
        let large = Header {
            payload_bytes: frame::PAYLOAD_BYTES_MAX,
            payload_crc: 0,
            records: 1,
            unsynced_before: 0,
            first: Offset::new(100),
            timestamp_ms: 0,
        };
        log[4096..4136].copy_from_slice(&large.encode(SALT, Location::new(4096)));
        assert_eq!(look(&log, SALT, 0, 8192), (100, end.get()));
    }

    #[test]
    fn a_length_without_bytes_is_not_believed() {
        let header = Header {
            payload_bytes: frame::PAYLOAD_BYTES_MAX,
            payload_crc: 0,
            records: 1,
            unsynced_before: 0,
            first: Offset::ZERO,
            timestamp_ms: 0,
        };
        let log = header.encode(SALT, Location::new(0));
        let longest = Cell::new(0);
        let source = |to: &mut [u8], at| {
            longest.set(longest.get().max(to.len()));
            Ok(read(&log, to, at, usize::MAX))
        };
        // The segment claims to be long enough; its file is not.
        let end = Location::new(1 << 40);
        let mut walker =
            Walker::new(&source, SALT, Location::new(0), Offset::ZERO, end, Vec::new());
        assert!(matches!(walker.step().unwrap(), Step::Bad(_)));
        assert!(longest.get() <= BUFFER_BYTES);
    }
}
