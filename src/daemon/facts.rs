//! What is said of a victim, passed from the loop to the watchdog without a lock.

use crate::kernel::process::TaskName;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Kib;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Numbers, and a name of [`TaskName::LONGEST`] bytes.
const WORDS: usize = NUMBERS + NAME;
const NUMBERS: usize = 4;
const NAME: usize = (TaskName::LONGEST + 1) / 8;

/// One victim's. The loop writes, the watchdog reads; what is written meanwhile is not read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Odd while the words are written.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Facts {
    pub fn put(&self, victim: &Victim) {
        let version = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(version, Ordering::SeqCst);
        let word = |index: usize, value: u64| {
            if let Some(word) = self.words.get(index) {
                word.store(value, Ordering::SeqCst);
            }
        };
        let name = victim.name.as_bytes();
        let len = u64::try_from(name.len()).unwrap_or(0);
        word(0, u64::from(victim.uid) << 32 | u64::from(victim.pid.unsigned_abs()));
        word(1, victim.rss.get().unsigned_abs());
        word(2, victim.swap.get().unsigned_abs());
        word(3, len << 40 | u64::from(victim.state) << 32 | u64::from(victim.threads));
        for (index, chunk) in (NUMBERS..).zip(name.chunks(8)) {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            word(index, u64::from_ne_bytes(bytes));
        }
        self.version.store(version.wrapping_add(1), Ordering::SeqCst);
    }

    /// Those of this process; None if they are another's, or are written just now.
    pub fn of(&self, pid: i32, adj: OomScoreAdj) -> Option<Victim> {
        let version = self.version.load(Ordering::SeqCst);
        let words: [u64; WORDS] = std::array::from_fn(|index| {
            self.words.get(index).map_or(0, |word| word.load(Ordering::SeqCst))
        });
        if version & 1 == 1 || self.version.load(Ordering::SeqCst) != version {
            return None;
        }
        let [ids, rss, swap, rest, name @ ..] = words;
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        if low(ids) != pid.unsigned_abs() {
            return None;
        }
        let mut bytes = [0; NAME * 8];
        for (to, word) in bytes.chunks_mut(8).zip(name) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        let len = usize::try_from(rest >> 40).unwrap_or(0);
        let kib = |word: u64| Kib(i64::try_from(word).unwrap_or(0));
        Some(Victim {
            pid,
            uid: low(ids >> 32),
            adj,
            name: TaskName::new(bytes.get(..len).unwrap_or(&[])),
            state: u8::try_from(rest >> 32 & 0xff).unwrap_or(0),
            rss: kib(rss),
            swap: kib(swap),
            threads: low(rest),
            stat: None,
            group: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn victim(pid: i32, name: &[u8]) -> Victim {
        let (name, adj) = (TaskName::new(name), OomScoreAdj::MAX);
        let (rss, swap, state, threads) = (Kib(1234), Kib(56), b'D', 64);
        let (uid, stat, group) = (4_000_000_000, None, None);
        Victim { pid, uid, adj, name, state, rss, swap, threads, stat, group }
    }

    #[test]
    fn facts_come_out_as_they_went_in_and_only_for_their_process() {
        let facts = Facts::default();
        for name in [&b"com.example"[..], b"", &[b'x'; 200]] {
            let put = victim(4_194_303, name);
            facts.put(&put);
            let got = facts.of(4_194_303, OomScoreAdj::MAX).unwrap();
            assert_eq!(format!("{got:?}"), format!("{put:?}"));
            assert!(facts.of(7, OomScoreAdj::MAX).is_none());
        }
    }

    #[test]
    fn facts_that_are_being_written_are_not_read() {
        let facts = Facts::default();
        facts.put(&victim(7, b"first"));
        facts.version.fetch_add(1, Ordering::SeqCst);
        assert!(facts.of(7, OomScoreAdj::MAX).is_none());
        facts.put(&victim(7, b"second"));
        assert_eq!(facts.of(7, OomScoreAdj::MAX).unwrap().name.as_bytes(), b"second");
    }
}
