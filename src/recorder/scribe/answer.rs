//! The state of the daemon, as the loop tells it and the scribe completes it.
//!
//! The loop says what only it knows, and who is registered. Whose turn is next, how large they are
//! and what they are called needs files of `/proc`, one of which is the processes' own memory: a
//! thread that nobody waits for reads those. It searches a copy of the registry, so that an
//! operator's look leaves nothing behind that a search for a victim would believe.

use super::Packet;
use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::kernel::process::ProcDir;
use crate::oom_score_adj::OomScoreAdj;
use crate::processes::Adopter;
use crate::processes::Candidate;
use crate::processes::Pid;
use crate::processes::Record;
use crate::processes::Registry;
use crate::processes::Searcher;
use crate::recorder::few::Few;
use crate::recorder::few::Text;
use crate::recorder::frame;
use crate::recorder::frame::Body;
use crate::recorder::record;
use crate::recorder::record::Entry;
use crate::recorder::record::Header;
use crate::recorder::ring::Cursor;
use crate::recorder::ring::Ring;
use crate::recorder::settings::Settings;
use crate::recorder::status::Next;
use crate::recorder::status::Status;
use crate::recorder::Process;
use crate::units::Pages;
use std::path::Path;

/// How many registered processes the loop names to the scribe, the first in kill order where sizes
/// do not matter: more than an operator is shown, since sizes may put others first.
pub(in crate::recorder) const NAMED: usize = 256;

/// A registered process and since when it has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub process: Process,
    pub since: MonoTime,
}

coded_struct!(Standing { process, since });

/// Some of those registered. From the loop to the scribe alone: no operator gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::recorder) struct Candidates {
    pub processes: Few<Standing, 64>,
}

coded_struct!(Candidates { processes });

impl Body for Candidates {
    const KIND: u8 = 255;
    const MUST_BE_KNOWN: bool = false;
}

/// An answer of the loop: the settings, those registered, and last the state.
pub(super) struct Answer {
    settings: Settings,
    candidates: Vec<Standing>,
    status: Status,
    /// The numbers and the time of its records.
    seqs: (u64, u64),
    at: MonoTime,
}

impl Answer {
    /// The latest answer that stands whole in the ring from the cursor on.
    pub(super) fn find(ring: &Ring, packet: &mut Packet, from: Cursor) -> Option<Self> {
        let mut cursor = from;
        let (mut found, mut settings, mut candidates) = (None, None, Vec::new());
        while packet.fill(ring, &mut cursor) {
            let mut rest = packet.bytes();
            while let Ok(mut frame) = frame::first(rest) {
                rest = rest.get(frame.bytes.len()..).unwrap_or(&[]);
                if frame.kind == Candidates::KIND {
                    if let Ok(some) = crate::codec::Coded::take(&mut frame.fields) {
                        let Candidates { processes } = some;
                        candidates.extend(processes.iter().copied());
                    }
                    continue;
                }
                let Ok(Some(Entry { seq, at, record })) = Entry::read(&frame) else { continue };
                match record {
                    record::Record::Settings(body) => {
                        settings = Some((seq, *body));
                        candidates.clear();
                    }
                    record::Record::Status(status) => {
                        let whole = settings.take().map(|(first, settings)| Self {
                            settings,
                            candidates: std::mem::take(&mut candidates),
                            status: *status,
                            seqs: (first, seq),
                            at,
                        });
                        found = whole.or(found);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// Adds what the loop does not read, and puts all of it into a packet.
    pub(super) fn complete(mut self, header: &Header, packet: &mut Packet) {
        // What cannot be read is left out.
        if let Ok(proc) = ProcDir::open(Path::new("/proc")) {
            self.status.next = self.next(header, &proc);
            let rss = proc.rss(header.pid).unwrap_or(Pages::ZERO);
            self.status.rss = rss.to_kib(header.page);
        }
        self.status.descriptors = open_descriptors();
        let (settings, status) = self.seqs;
        packet.make_room();
        packet.add(settings, self.at, &self.settings);
        packet.add(status, self.at, &self.status);
    }

    fn next(&self, header: &Header, proc: &ProcDir) -> Few<Next, 16> {
        let mut registry = Registry::with_capacity(self.candidates.len());
        for Standing { process: Process { pid, uid, adj }, since } in &self.candidates {
            if let Some(pid) = Pid::new(*pid) {
                registry.insert(Record::new(pid, *uid, *adj, *since));
            }
        }
        let adopter = header.adopt.then(Adopter::new).and_then(Result::ok);
        let mut searcher = Searcher::with(adopter, header.page, 0);
        let meminfo = self.status.seen.as_ref().map(|seen| seen.sample.meminfo);
        let swap_used = meminfo.map(|meminfo| meminfo.swap_total - meminfo.swap_free);
        let swap_used = swap_used.unwrap_or_default().to_kib(header.page);
        let heaviest = self.settings.tunables.kill_heaviest_task;
        searcher.start(OomScoreAdj::FOREGROUND, heaviest, swap_used);
        let next = searcher.first(&mut registry, proc, 16);
        let describe = |Candidate { pid, uid, adj, .. }: Candidate| {
            let pid = pid.get();
            let name = Text::new(proc.name(pid).ok()?.as_bytes());
            let rss = proc.rss(pid).unwrap_or_default().to_kib(header.page);
            Some(Next { process: Process { pid, uid, adj }, rss, name })
        };
        next.into_iter().filter_map(describe).collect()
    }
}

/// How many descriptors this process has open; the kernel counts them since Linux 6.2.
fn open_descriptors() -> Option<u32> {
    let size = rustix::fs::stat("/proc/self/fd").ok()?.st_size;
    u32::try_from(size).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::scribe::tests::header;
    use crate::recorder::Journal;

    /// What an operator gets.
    fn told(packet: &Packet) -> (Option<Settings>, Option<Status>) {
        let (mut settings, mut status) = (None, None);
        let _ = crate::recorder::read_all(packet.bytes(), |entry| match entry.record {
            record::Record::Settings(body) => settings = Some(*body),
            record::Record::Status(body) => status = Some(*body),
            other => panic!("{other:?}"),
        });
        (settings, status)
    }

    #[test]
    fn an_answer_is_whole_or_not_there_yet() {
        let mut journal = Journal::new(0).unwrap();
        let ring = std::sync::Arc::clone(&journal.shared.answers);
        let mut packet = Packet::default();
        let start = ring.end();
        journal.answers.write(MonoTime::ZERO, &Settings::default());
        assert!(Answer::find(&ring, &mut packet, start).is_none());
        let own = header().pid;
        let process = Process { pid: own, uid: 7, adj: OomScoreAdj::new(900).unwrap() };
        let standing = Standing { process, since: MonoTime::ZERO };
        let status = Status { registered: 1, ..Status::default() };
        journal.answer(MonoTime::ZERO, &Settings::default(), [standing].into_iter(), &status);
        let answer = Answer::find(&ring, &mut packet, start).unwrap();
        answer.complete(&header(), &mut packet);
        let (settings, status) = told(&packet);
        assert_eq!(settings, Some(Settings::default()));
        let status = status.unwrap();
        let next: Vec<_> = status.next.iter().collect();
        assert_eq!((next.len(), next[0].process), (1, process));
        assert!(next[0].rss.get() > 0 && !next[0].name.as_bytes().is_empty());
        assert!(status.rss.get() > 0);
    }

    #[test]
    fn an_answer_with_as_many_processes_as_are_named_stands_whole_in_its_ring() {
        let mut journal = Journal::new(0).unwrap();
        let ring = std::sync::Arc::clone(&journal.shared.answers);
        let mut packet = Packet::default();
        let process = Process { pid: i32::MAX, uid: u32::MAX, adj: OomScoreAdj::MAX };
        let standing = Standing { process, since: MonoTime::from_nanos(u64::MAX) };
        for _ in 0..3 {
            let start = ring.end();
            let all = std::iter::repeat_n(standing, 2 * NAMED);
            journal.answer(MonoTime::ZERO, &Settings::default(), all, &Status::default());
            let answer = Answer::find(&ring, &mut packet, start).unwrap();
            assert_eq!(answer.candidates.len(), NAMED);
        }
    }

    #[test]
    fn where_sizes_decide_the_heaviest_is_shown_first() {
        let mut light = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = header().pid;
        let standing = |pid| {
            let process = Process { pid, uid: 0, adj: OomScoreAdj::FOREGROUND };
            Standing { process, since: MonoTime::ZERO }
        };
        let answer = Answer {
            settings: Settings::default(),
            candidates: vec![standing(light.id().cast_signed()), standing(own)],
            status: Status::default(),
            seqs: (1, 2),
            at: MonoTime::ZERO,
        };
        let next = answer.next(&header(), &ProcDir::open(Path::new("/proc")).unwrap());
        light.kill().unwrap();
        light.wait().unwrap();
        assert_eq!(next.iter().next().unwrap().process.pid, own);
        assert_eq!(next.len(), 2);
    }
}
