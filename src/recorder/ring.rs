//! The ring of records: one thread writes, others read, and nobody waits for anybody.
//!
//! Positions count 64-bit words from the start of the daemon and never wrap; a position's place is
//! its remainder by the size. Between `tail` and `head` stand whole frames. The writer moves `tail`
//! over the frames that it is about to overwrite before it touches them, and `head` over what it
//! has written after. A reader copies first and looks at `tail` again: what `tail` has passed by
//! then may be half overwritten and is thrown away. Each word is an atomic, so that such a copy is
//! garbage at worst and never undefined.

use super::frame;
use super::frame::Body;
use crate::clock::MonoTime;
use crate::sys::words::Words;
use rustix::io::Errno;
use std::sync::atomic::fence;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const WORD: usize = 8;

/// Words of the smallest page there is.
const PAGE_WORDS: usize = 4096 / WORD;

/// How often a reader that the writer overtakes begins anew, each time further from the writer,
/// before it says so.
const TRIES: u64 = 16;

/// Places in the ring from which a reader may begin who has no time for the oldest records.
const MARKS: usize = 16;

/// The memory that both sides share.
#[derive(Debug)]
pub struct Ring {
    words: Words,
    head: AtomicU64,
    tail: AtomicU64,
    /// Where frames begin, about evenly spread; those that the tail has passed are of no use.
    marks: [AtomicU64; MARKS],
}

/// A reader's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    position: u64,
    /// The number of the last record read; 0 if any may come next.
    seq: u64,
}

impl Cursor {
    /// Whether this one stands at or behind the other.
    #[must_use]
    pub const fn reaches(&self, other: &Self) -> bool {
        self.position >= other.position
    }
}

/// What one reading gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// How many bytes of whole frames.
    pub len: usize,
    /// How many records before them were overwritten unread.
    pub lost: u64,
}

/// The end that writes.
#[derive(Debug)]
pub struct Writer {
    ring: Arc<Ring>,
    buffer: Box<[u8; frame::LONGEST]>,
    seq: u64,
    /// Words that are resident.
    touched: usize,
    /// The mark that is set next, once the head has come so far.
    mark: (usize, u64),
}

impl Ring {
    /// The smallest ring, in bytes: two of the longest records.
    pub const SMALLEST: usize = 2 * frame::LONGEST;

    /// A ring of `bytes` bytes and its writer.
    ///
    /// # Errors
    ///
    /// There is not so much memory.
    pub fn new(bytes: usize) -> Result<(Arc<Self>, Writer), Errno> {
        let words = Words::new(bytes.max(Self::SMALLEST).div_ceil(WORD))?;
        let ring = Arc::new(Self {
            words,
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            marks: Default::default(),
        });
        let buffer = Box::new([u8::MAX; frame::LONGEST]);
        Ok((Arc::clone(&ring), Writer { ring, buffer, seq: 0, touched: 0, mark: (0, 0) }))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.capacity().saturating_mul(8)
    }

    /// The place after the newest record.
    #[must_use]
    pub fn end(&self) -> Cursor {
        Cursor { position: self.head.load(Ordering::Acquire), seq: 0 }
    }

    /// Whether there is something to read from here on.
    #[must_use]
    pub fn has_more(&self, cursor: &Cursor) -> bool {
        self.head.load(Ordering::Acquire) > cursor.position
    }

    /// Copies whole frames from the cursor's place on, as many as there are and fit, and moves the
    /// cursor behind them. A cursor that was overtaken goes on at the oldest record.
    pub fn read(&self, cursor: &mut Cursor, out: &mut [u8]) -> Chunk {
        for attempt in 0..TRIES {
            let oldest = cursor.position.max(self.tail.load(Ordering::Acquire));
            let head = self.head.load(Ordering::Acquire);
            let start = if attempt == 0 { oldest } else { self.mark(oldest, head, attempt) };
            let len = self.copy(start, head, out);
            // Pairs with the writer's fence: if a word above came from after its fence, the tail
            // that the writer moved before it is seen here.
            fence(Ordering::Acquire);
            if self.tail.load(Ordering::Relaxed) > start {
                continue;
            }
            let mut chunk = Chunk { len, lost: 0 };
            let mut rest = out.get(..len).unwrap_or(&[]);
            while let Ok(frame) = frame::first(rest) {
                let missing = frame.seq.saturating_sub(cursor.seq).saturating_sub(1);
                if cursor.seq != 0 {
                    chunk.lost = chunk.lost.saturating_add(missing);
                }
                cursor.seq = frame.seq;
                rest = rest.get(frame.bytes.len()..).unwrap_or(&[]);
            }
            let words = u64::try_from(len / WORD).unwrap_or(0);
            cursor.position = start.saturating_add(words);
            return chunk;
        }
        Chunk::default()
    }

    /// The first mark that leaves the writer further behind with each attempt; the head if there is
    /// none.
    fn mark(&self, oldest: u64, head: u64, attempt: u64) -> u64 {
        let lead = self.capacity().saturating_mul(attempt) / TRIES;
        let from = oldest.saturating_add(lead);
        let marks = self.marks.iter().map(|mark| mark.load(Ordering::Acquire));
        marks.filter(|mark| (from..head).contains(mark)).min().unwrap_or(head)
    }

    /// Copies whole frames between two positions; returns how many bytes. What it copies may be
    /// overwritten meanwhile, so nothing here relies on it.
    fn copy(&self, start: u64, head: u64, out: &mut [u8]) -> usize {
        let mut position = start;
        let mut len: usize = 0;
        while position < head {
            let bytes = frame::length(self.word(position).to_le_bytes());
            let Some(place) = out.get_mut(len..len.saturating_add(bytes)) else { break };
            let words = u64::try_from(bytes / WORD).unwrap_or(0);
            for (index, chunk) in (0..words).zip(place.chunks_exact_mut(WORD)) {
                chunk.copy_from_slice(&self.word(position.saturating_add(index)).to_le_bytes());
            }
            position = position.saturating_add(words);
            len = len.saturating_add(bytes);
        }
        len
    }

    fn capacity(&self) -> u64 {
        u64::try_from(self.words.as_slice().len()).unwrap_or(u64::MAX)
    }

    fn place(&self, position: u64) -> usize {
        let place = position.checked_rem(self.capacity()).unwrap_or(0);
        usize::try_from(place).unwrap_or(0)
    }

    fn word(&self, position: u64) -> u64 {
        self.words
            .as_slice()
            .get(self.place(position))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

impl Writer {
    /// Appends a record over the oldest ones, and returns its number. One that is too long for any
    /// frame, of which there are none, is left out.
    pub fn write<B: Body>(&mut self, at: MonoTime, body: &B) -> u64 {
        let seq = self.seq.saturating_add(1);
        if let Some(len) = frame::seal(&mut self.buffer, seq, at, body) {
            self.seq = seq;
            self.append(len);
        }
        seq
    }

    /// Makes the bytes of a record and throws them away.
    pub fn warm_up<B: Body>(&mut self, body: &B) {
        std::hint::black_box(frame::seal(&mut self.buffer, 0, MonoTime::ZERO, body));
    }

    /// Makes the memory resident that is written next, up to `bytes` beyond the newest record: who
    /// calls this when there is time waits for no page when there is none.
    pub fn touch_ahead(&mut self, bytes: usize) {
        let words = self.ring.words.as_slice();
        let head = usize::try_from(self.ring.head.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let end = head.saturating_add(bytes / WORD).min(words.len());
        for word in words.get(self.touched..end).unwrap_or(&[]).iter().step_by(PAGE_WORDS) {
            // Only this thread writes; what stands there stays.
            word.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.touched = self.touched.max(end);
    }

    /// How many records were written.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.seq
    }

    /// How many bytes were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.ring.head.load(Ordering::Relaxed).saturating_mul(8)
    }

    /// When the oldest record was made that is still there.
    pub fn oldest(&mut self) -> Option<MonoTime> {
        let mut cursor = Cursor::default();
        let len = self.ring.read(&mut cursor, self.buffer.as_mut_slice()).len;
        frame::first(self.buffer.get(..len)?).ok().map(|frame| frame.at)
    }

    fn append(&mut self, len: usize) {
        let ring = &*self.ring;
        let head = ring.head.load(Ordering::Relaxed);
        let end = head.saturating_add(u64::try_from(len / WORD).unwrap_or(0));
        let mut tail = ring.tail.load(Ordering::Relaxed);
        while end.saturating_sub(tail) > ring.capacity() {
            let oldest = frame::length(ring.word(tail).to_le_bytes()) / WORD;
            tail = tail.saturating_add(u64::try_from(oldest).unwrap_or(u64::MAX)).min(head);
        }
        ring.tail.store(tail, Ordering::Relaxed);
        // No word below is seen before the tail above; see `Ring::read`.
        fence(Ordering::Release);
        let words = ring.words.as_slice();
        let mut place = ring.place(head);
        for chunk in self.buffer.get(..len).unwrap_or(&[]).chunks_exact(WORD) {
            if let (Some(word), Some(bytes)) = (words.get(place), chunk.first_chunk()) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
            place = place.saturating_add(1);
            if place >= words.len() {
                place = 0;
            }
        }
        ring.head.store(end, Ordering::Release);
        let (next, due) = self.mark;
        if head >= due {
            if let Some(mark) = ring.marks.get(next) {
                mark.store(head, Ordering::Release);
            }
            let apart = ring.capacity() / u64::try_from(MARKS).unwrap_or(1);
            self.mark = (next.saturating_add(1) % MARKS, head.saturating_add(apart));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::coded_struct;
    use crate::codec::Coded;
    use std::sync::atomic::AtomicBool;

    /// Numbers that follow from the first: half an old record and half a new one do not fit.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pattern {
        numbers: [u64; 40],
    }
    coded_struct!(Pattern { numbers });
    impl Body for Pattern {
        const KIND: u8 = 210;
        const MUST_BE_KNOWN: bool = false;
    }

    impl Pattern {
        fn of(seq: u64) -> Self {
            // Lengths differ from record to record, so that frames never come to lie in step.
            let wide = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (seq % 60);
            Self { numbers: [wide; 40] }
        }
    }

    fn seqs(bytes: &[u8]) -> Vec<u64> {
        let mut rest = bytes;
        let mut seqs = Vec::new();
        while !rest.is_empty() {
            let mut frame = frame::first(rest).unwrap();
            assert_eq!(Pattern::take(&mut frame.fields), Ok(Pattern::of(frame.seq)));
            seqs.push(frame.seq);
            rest = &rest[frame.bytes.len()..];
        }
        seqs
    }

    fn all(ring: &Ring, cursor: &mut Cursor) -> (Vec<u64>, u64) {
        let mut out = vec![0; 64 * 1024];
        let (mut found, mut lost) = (Vec::new(), 0);
        loop {
            let chunk = ring.read(cursor, &mut out);
            lost += chunk.lost;
            found.extend(seqs(&out[..chunk.len]));
            if !ring.has_more(cursor) {
                return (found, lost);
            }
        }
    }

    #[test]
    fn what_was_written_is_read_in_order_and_once() {
        let (ring, mut writer) = Ring::new(0).unwrap();
        let mut cursor = Cursor::default();
        assert_eq!(all(&ring, &mut cursor), (vec![], 0));
        for seq in 1..=5 {
            assert_eq!(writer.write(MonoTime::from_nanos(seq), &Pattern::of(seq)), seq);
        }
        assert_eq!(all(&ring, &mut cursor), (vec![1, 2, 3, 4, 5], 0));
        assert_eq!(all(&ring, &mut cursor), (vec![], 0));
        assert_eq!(writer.oldest(), Some(MonoTime::from_nanos(1)));
    }

    #[test]
    fn the_oldest_make_way_and_a_reader_is_told_how_many() {
        let (ring, mut writer) = Ring::new(0).unwrap();
        let mut slow = Cursor::default();
        writer.write(MonoTime::ZERO, &Pattern::of(1));
        assert_eq!(all(&ring, &mut slow), (vec![1], 0));
        for seq in 2..=1000 {
            writer.write(MonoTime::from_nanos(seq), &Pattern::of(seq));
        }
        let (found, lost) = all(&ring, &mut slow);
        assert!(found.len() > 20, "{}", found.len());
        let first = found[0];
        assert_eq!(found, (first..=1000).collect::<Vec<_>>());
        assert_eq!(lost, first - 2);
        assert_eq!(writer.oldest(), Some(MonoTime::from_nanos(first)));
        // One who comes only now has lost nothing.
        assert_eq!(all(&ring, &mut Cursor::default()).1, 0);
        assert_eq!(all(&ring, &mut ring.end()).0, Vec::<u64>::new());
    }

    #[test]
    fn a_reader_without_room_for_all_goes_on_where_it_stopped() {
        let (ring, mut writer) = Ring::new(0).unwrap();
        for seq in 1..=12 {
            writer.write(MonoTime::ZERO, &Pattern::of(seq));
        }
        let mut cursor = Cursor::default();
        let mut out = [0; 1000];
        let mut found = Vec::new();
        while ring.has_more(&cursor) {
            let chunk = ring.read(&mut cursor, &mut out);
            found.extend(seqs(&out[..chunk.len]));
        }
        assert_eq!(found, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_the_writer_always_overtakes_begins_further_from_it() {
        let (ring, mut writer) = Ring::new(256 * 1024).unwrap();
        let mut seq = 0;
        let mut write = |count: u64| {
            for _ in 0..count {
                seq += 1;
                writer.write(MonoTime::ZERO, &Pattern::of(seq));
            }
        };
        write(5000);
        let done = AtomicBool::new(false);
        let empty = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    write(100);
                }
            });
            let mut out = vec![0; 256 * 1024];
            // Each is an operator's dump that begins with the oldest record.
            let empty = (0..200)
                .filter(|_| {
                    let now = ring.end();
                    while !ring.has_more(&now) {
                        std::hint::spin_loop();
                    }
                    let chunk = ring.read(&mut Cursor::default(), &mut out);
                    seqs(&out[..chunk.len]).is_empty()
                })
                .count();
            done.store(true, Ordering::Release);
            empty
        });
        // Who is kept from running for long enough may still be overtaken.
        assert!(empty < 50, "{empty} of 200 were told nothing");
    }

    #[test]
    fn readers_that_race_the_writer_see_whole_records_in_order() {
        const RECORDS: u64 = 50_000;
        let (ring, mut writer) = Ring::new(0).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut cursor = Cursor::default();
                        let mut out = [0; 2 * frame::LONGEST];
                        let (mut last, mut seen, mut lost) = (0, 0, 0);
                        loop {
                            let over = done.load(Ordering::Acquire);
                            let chunk = ring.read(&mut cursor, &mut out);
                            for seq in seqs(&out[..chunk.len]) {
                                assert!(seq > last, "{seq} after {last}");
                                if last == 0 {
                                    lost += seq - 1;
                                }
                                last = seq;
                                seen += 1;
                            }
                            lost += chunk.lost;
                            if over && !ring.has_more(&cursor) {
                                assert_eq!((last, seen + lost), (RECORDS, RECORDS));
                                return seen;
                            }
                        }
                    })
                })
                .collect();
            for seq in 1..=RECORDS {
                writer.write(MonoTime::ZERO, &Pattern::of(seq));
            }
            done.store(true, Ordering::Release);
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }
}
