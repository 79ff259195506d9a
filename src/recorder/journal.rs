//! The loop's end of the recorder: writes records, and tells the scribe when somebody wants them.
//!
//! Two rings: one for what happens, and a small one for answers to the operator, so that one who
//! asks every second does not push the history out.

use super::few::Few;
use super::frame::Body;
use super::kill::Fate;
use super::kill::Kill;
use super::look::Look;
use super::ring::Ring;
use super::ring::Writer;
use super::scribe::answer::Candidates;
use super::scribe::answer::Standing;
use super::scribe::answer::NAMED;
use super::settings::Settings;
use super::status::RingState;
use super::status::Status;
use crate::clock::MonoTime;
use crate::policy::KillReason;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// A checkpoint is due again after this part of the ring.
const CHECKPOINT_PART: u64 = 4;

/// As much memory is resident before it is needed: some 350 looks.
const AHEAD: usize = 64 * 1024;

/// Room for a whole answer: [`Settings`], as many processes as are [`NAMED`], and a [`Status`].
const ANSWER: usize = 16 * 1024;

/// What the scribe wants to be woken for, or what there is. Ordered by how much it takes to be
/// ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    /// Nothing: nobody follows, and no file is kept.
    None = 0,
    /// Every record.
    All = 1,
    /// Kills and what becomes of them.
    Kills = 2,
}

/// The daemon's end, as the loop and the scribe tell each other of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    No = 0,
    /// The loop has written its last record.
    Written = 1,
    /// The scribe has passed on all that those who wanted it could take.
    PassedOn = 2,
}

/// How long the daemon's end waits for the scribe, ms.
const ENDING_MS: i64 = 1000;

/// What the loop and the scribe share.
#[derive(Debug)]
pub(super) struct Shared {
    pub history: Arc<Ring>,
    pub answers: Arc<Ring>,
    interest: AtomicU8,
    status_wanted: AtomicBool,
    file_wanted: AtomicBool,
    /// How far the end has come: see [`Ending`].
    ending: AtomicU8,
    /// Counts turns in which records of kills were written.
    kills: AtomicU32,
    /// Rung by the loop for the scribe.
    bell: OwnedFd,
    /// Rung by the scribe for the loop.
    call: OwnedFd,
}

impl Shared {
    /// From now on the bell is rung for these. What it was rung for before.
    pub fn want(&self, interest: Interest) -> Interest {
        match self.interest.swap(interest as u8, Ordering::SeqCst) {
            0 => Interest::None,
            1 => Interest::All,
            _ => Interest::Kills,
        }
    }

    /// Asks the loop for a status.
    pub fn ask_status(&self) {
        self.status_wanted.store(true, Ordering::SeqCst);
        ring(&self.call);
    }

    /// Another number whenever records of kills were written.
    pub fn kills(&self) -> u32 {
        self.kills.load(Ordering::SeqCst)
    }

    /// Whether a file was asked for since this was last called.
    pub fn take_file_wanted(&self) -> bool {
        self.file_wanted.swap(false, Ordering::SeqCst)
    }

    /// All that there was when this is called has been passed on.
    pub fn passed_on(&self, ending: bool) {
        if ending {
            self.ending.store(Ending::PassedOn as u8, Ordering::SeqCst);
            ring(&self.call);
        }
    }

    /// Whether the loop has written its last record. To be asked before what is there is passed on.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst) == Ending::Written as u8
    }

    /// Readable when the bell was rung.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Makes the bell silent again.
    pub fn silence(&self) {
        silence(&self.bell);
    }
}

/// The loop's end. Writing allocates nothing and makes no system call.
#[derive(Debug)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    history: Writer,
    pub(super) answers: Writer,
    /// The scribe would want to be woken at the end of this turn, if it wants this.
    news: Interest,
    /// Bytes written at the last checkpoint.
    checkpoint: u64,
    kills: [(KillReason, u32); REASONS.len()],
}

/// What kills are counted by; a vendor's reasons are one.
const REASONS: [KillReason; 13] = [
    KillReason::PressureAfterKill,
    KillReason::NotResponding,
    KillReason::LowSwapAndThrashing,
    KillReason::LowMemAndSwap,
    KillReason::LowMemAndThrashing,
    KillReason::DirectReclaimAndThrashing,
    KillReason::LowMemAndSwapUtil,
    KillReason::LowFilecacheAfterThrashing,
    KillReason::LowMem,
    KillReason::DirectReclaimStuck,
    KillReason::Vendor(0),
    KillReason::Minfree,
    KillReason::Watchdog,
];

impl Journal {
    /// A journal that keeps about this many bytes.
    ///
    /// # Errors
    ///
    /// EMFILE when descriptors run out, ENOMEM when memory does.
    pub fn new(bytes: usize) -> Result<Self, Errno> {
        let (history_ring, history) = Ring::new(bytes)?;
        let (answers_ring, answers) = Ring::new(ANSWER)?;
        let eventfd = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            history: history_ring,
            answers: answers_ring,
            interest: AtomicU8::new(Interest::None as u8),
            status_wanted: AtomicBool::new(false),
            file_wanted: AtomicBool::new(false),
            ending: AtomicU8::new(Ending::No as u8),
            kills: AtomicU32::new(0),
            bell: eventfd()?,
            call: eventfd()?,
        });
        let kills = REASONS.map(|reason| (reason, 0));
        let mut new = Self { shared, history, answers, news: Interest::None, checkpoint: 0, kills };
        new.prepare();
        Ok(new)
    }

    /// Writes a record and returns its number.
    pub fn write<B: Body>(&mut self, at: MonoTime, body: &B) -> u64 {
        let is_kill = B::KIND == Kill::KIND || B::KIND == Fate::KIND;
        self.news = self.news.max(if is_kill { Interest::Kills } else { Interest::All });
        self.history.write(at, body)
    }

    /// Writes the record of a kill, and counts it.
    pub fn write_kill(&mut self, at: MonoTime, kill: &Kill) {
        let kind = std::mem::discriminant(&kill.cause.reason);
        let same = |(reason, _): &&mut (KillReason, u32)| std::mem::discriminant(reason) == kind;
        if let Some((_, count)) = self.kills.iter_mut().find(same) {
            *count = count.saturating_add(1);
        }
        self.write(at, kill);
    }

    /// Goes the way of these records without leaving any, so that its code is in memory.
    pub fn warm_up(&mut self, look: &Look, kill: &Kill, fate: &Fate) {
        self.history.warm_up(look);
        self.history.warm_up(kill);
        self.history.warm_up(fate);
    }

    /// There is time: makes sure that none is lost on memory when records come thick and fast.
    pub fn prepare(&mut self) {
        self.history.touch_ahead(AHEAD);
    }

    /// Whether so much was written since the last checkpoint that another is due.
    #[must_use]
    pub fn checkpoint_is_due(&self) -> bool {
        let since = self.history.written().saturating_sub(self.checkpoint);
        since > self.shared.history.size() / CHECKPOINT_PART
    }

    /// Everything that a checkpoint consists of was written.
    pub fn checkpoint_is_made(&mut self) {
        self.checkpoint = self.history.written();
    }

    /// How many bytes of the ring a list of the registered processes may take.
    #[must_use]
    pub fn room_for_registered(&self) -> u64 {
        self.shared.history.size() / (2 * CHECKPOINT_PART)
    }

    /// Whether an operator waits for the status.
    #[must_use]
    pub fn status_is_wanted(&self) -> bool {
        self.shared.status_wanted.load(Ordering::SeqCst)
    }

    /// Answers the operator, by way of the scribe, which finds out who of these is next. The status
    /// stands last: with it the answer is whole.
    pub(crate) fn answer(
        &mut self,
        at: MonoTime,
        settings: &Settings,
        registered: impl Iterator<Item = Standing>,
        status: &Status,
    ) {
        self.shared.status_wanted.store(false, Ordering::SeqCst);
        self.answers.write(at, settings);
        let mut registered = registered.take(NAMED);
        loop {
            let processes: Few<_, 64> = registered.by_ref().take(64).collect();
            if processes.is_empty() {
                break;
            }
            self.answers.write(at, &Candidates { processes });
        }
        self.answers.write(at, status);
        ring(&self.shared.bell);
    }

    /// The daemon ends: gives the scribe a second to pass on what was written, if anybody wants it.
    pub fn finish(&self) {
        if self.shared.interest.load(Ordering::SeqCst) == Interest::None as u8 {
            return;
        }
        let deadline = MonoTime::now().plus_millis(ENDING_MS);
        self.shared.ending.store(Ending::Written as u8, Ordering::SeqCst);
        ring(&self.shared.bell);
        while self.shared.ending.load(Ordering::SeqCst) != Ending::PassedOn as u8 {
            let left = i64::try_from(deadline.micros_since(MonoTime::now())).unwrap_or(0);
            let limit = Timespec { tv_sec: left / 1_000_000, tv_nsec: left % 1_000_000 * 1000 };
            let mut called = [PollFd::new(&self.shared.call, PollFlags::IN)];
            if left == 0 || !matches!(rustix::event::poll(&mut called, Some(&limit)), Ok(1)) {
                return;
            }
            silence(&self.shared.call);
        }
    }

    /// Has the scribe write a file.
    pub fn ask_file(&self) {
        self.shared.file_wanted.store(true, Ordering::SeqCst);
        ring(&self.shared.bell);
    }

    /// Readable when the scribe has called. Call [`Self::heard`] then.
    #[must_use]
    pub fn call(&self) -> BorrowedFd<'_> {
        self.shared.call.as_fd()
    }

    /// The call was heard.
    pub fn heard(&self) {
        silence(&self.shared.call);
    }

    /// The loop is about to wait: wakes the scribe if something was written that it wants.
    pub fn end_turn(&mut self) {
        let news = std::mem::replace(&mut self.news, Interest::None);
        let wanted = self.shared.interest.load(Ordering::SeqCst);
        if news == Interest::Kills {
            self.shared.kills.fetch_add(1, Ordering::SeqCst);
        }
        let wake = match news {
            Interest::None => false,
            Interest::All => wanted == Interest::All as u8,
            Interest::Kills => wanted != Interest::None as u8,
        };
        if wake {
            ring(&self.shared.bell);
        }
    }

    /// Kills so far, by reason; reasons without any are left out.
    #[must_use]
    pub fn kills_by_reason(&self) -> Few<(KillReason, u32), 16> {
        self.kills.iter().copied().filter(|(_, count)| *count > 0).collect()
    }

    /// How full the ring is.
    pub fn state(&mut self) -> RingState {
        RingState {
            size: self.shared.history.size(),
            written: self.history.written(),
            records: self.history.records(),
            oldest: self.history.oldest().unwrap_or_default(),
        }
    }
}

/// Cannot block: the descriptor would rather drop the ring, and it has been rung then.
fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn silence(bell: &OwnedFd) {
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::MinfreeTable;
    use crate::recorder::Input;
    use rustix::event::PollFd;
    use rustix::event::PollFlags;

    fn is_rung(journal: &Journal) -> bool {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(journal.shared.bell(), PollFlags::IN)];
        let rung = rustix::event::poll(&mut fds, Some(&now)).unwrap() == 1;
        journal.shared.silence();
        rung
    }

    fn write(journal: &mut Journal) {
        journal.write(MonoTime::ZERO, &Input::Minfree(MinfreeTable::default()));
    }

    #[test]
    fn the_scribe_is_woken_only_for_what_it_wants() {
        let mut journal = Journal::new(0).unwrap();
        let lost = Fate {
            ticket: 1,
            pid: 2,
            step: crate::recorder::Step::Exited,
            moments: Default::default(),
        };
        for (wanted, record, kill) in [
            (Interest::None, false, false),
            (Interest::Kills, false, true),
            (Interest::All, true, true),
        ] {
            journal.shared.want(wanted);
            journal.end_turn();
            assert!(!is_rung(&journal), "{wanted:?}");
            write(&mut journal);
            journal.end_turn();
            assert_eq!(is_rung(&journal), record, "{wanted:?}");
            write(&mut journal);
            journal.write(MonoTime::ZERO, &lost);
            write(&mut journal);
            journal.end_turn();
            assert_eq!(is_rung(&journal), kill, "{wanted:?}");
        }
    }

    #[test]
    fn a_checkpoint_is_due_each_quarter_of_the_ring() {
        let mut journal = Journal::new(64 * 1024).unwrap();
        let mut records = 0;
        while !journal.checkpoint_is_due() {
            write(&mut journal);
            records += 1;
        }
        let size = journal.state().written;
        assert!((16 * 1024..17 * 1024).contains(&size), "{size} bytes, {records} records");
        journal.checkpoint_is_made();
        assert!(!journal.checkpoint_is_due());
    }
}
