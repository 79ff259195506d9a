//! The watchdog's thread: sleeps on its timer, and kills who is next once one handler of the loop has
//! run for too long. [`super::watchdog`] is the loop's end of it.

use super::facts::Facts;
use super::teller;
use super::teller::News;
use super::teller::Stuck;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::kernel::process::ProcError;
use crate::kernel::process::Status;
use crate::kernel::process::TaskName;
use crate::kill::ledger::Moments;
use crate::kill::raise;
use crate::kill::raise::Threads;
use crate::kill::refused;
use crate::kill::KillError;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::processes::READY;
use crate::report::EventLog;
use crate::sys::fd_slot::FdSlot;
use crate::sys::sched;
use crate::units::PageSize;
use rustix::time::Itimerspec;
use rustix::time::TimerfdClockId;
use rustix::time::TimerfdFlags;
use rustix::time::TimerfdTimerFlags;
use rustix::time::Timespec;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::Arc;

/// A handler that runs longer is stuck, and each such time costs one victim, ms. AOSP's number.
pub(super) const LIMIT_MS: u64 = 2000;

/// How long a handler that looks stuck may take to show that it is not, ms: a daemon that was
/// stopped as a whole (a debugger, a freezer) goes on at once when it is let go.
const DOUBT_MS: u64 = 50;

pub(super) struct Shared {
    /// When the handler at work began, ns on CLOCK_MONOTONIC; 0 while the loop waits.
    pub(super) began: AtomicU64,
    /// Whether the timer will fire.
    pub(super) armed: AtomicBool,
    pub(super) timer: OwnedFd,
    /// Who is next, in kill order; see [`Head`]. Enough for 16 s of being stuck.
    pub(super) next: [FdSlot; READY],
    /// What is said of each.
    pub(super) facts: [Facts; READY],
}

/// What stands beside a pidfd in its slot: pid and adj in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) pid: i32,
    pub(super) adj: OomScoreAdj,
}

impl Head {
    const ADJ_BITS: u32 = 10;

    /// None for what cannot be a victim: adj below 0, or no process id.
    pub(super) fn pack(self) -> Option<u32> {
        let adj = u32::try_from(self.adj.get()).ok()?;
        let pid = u32::try_from(self.pid).ok().filter(|pid| *pid < 1 << (32 - Self::ADJ_BITS))?;
        Some(pid << Self::ADJ_BITS | adj)
    }

    pub(super) fn unpack(packed: u32) -> Option<Self> {
        let pid = i32::try_from(packed >> Self::ADJ_BITS).ok()?;
        let adj = i32::try_from(packed & ((1 << Self::ADJ_BITS) - 1)).ok()?;
        Some(Self { pid, adj: OomScoreAdj::new(adj)? })
    }
}

/// A kill that the loop has yet to count and to tell of.
pub(super) struct Kill {
    pub(super) victim: Victim,
    pub(super) pidfd: PidFd,
    pub(super) moments: Moments,
}

impl Shared {
    pub(super) fn start(
        kills: SyncSender<Kill>,
        event_log: EventLog,
        page: PageSize,
        dry_run: bool,
    ) -> std::io::Result<Arc<Self>> {
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let shared = Arc::new(Self {
            began: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            timer,
            next: Default::default(),
            facts: Default::default(),
        });
        let news = teller::start(event_log, page)?;
        let proc = ProcDir::open(Path::new("/proc"))?;
        let theirs = Arc::clone(&shared);
        let guard = Guard { shared: theirs, proc, news, dry_run, kills };
        std::thread::Builder::new().name("lmkd_watchdog".to_owned()).spawn(move || guard.run())?;
        Ok(shared)
    }

    /// Sets the timer, unless it is set.
    pub(super) fn arm(&self, after_ms: u64) {
        if self.armed.load(Ordering::SeqCst) || self.armed.swap(true, Ordering::SeqCst) {
            return;
        }
        let secs = i64::try_from(after_ms / 1000).unwrap_or(i64::MAX);
        let nanos = i64::try_from(after_ms % 1000).unwrap_or(0).saturating_mul(1_000_000);
        let when = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: secs, tv_nsec: nanos.max(1) },
        };
        // Its errors are those of wrong arguments.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &when);
    }

    /// Sleeps until the timer has fired; false if it cannot.
    fn sleep(&self) -> bool {
        let mut fired = [0_u8; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.timer, &mut fired)).is_ok()
    }
}

/// The thread's end of it.
struct Guard {
    shared: Arc<Shared>,
    proc: ProcDir,
    news: SyncSender<News>,
    dry_run: bool,
    kills: SyncSender<Kill>,
}

impl Guard {
    fn run(self) {
        // One above the loop's: a loop that spins leaves no CPU to its equals.
        let _ = sched::set_fifo(0, 2);
        sched::touch_stack::<{ 64 * 1024 }>();
        let mut suspect = 0;
        while self.shared.sleep() {
            // In this order: a handler that begins now either sees that the timer is to be armed,
            // or is seen here.
            self.shared.armed.store(false, Ordering::SeqCst);
            let began = self.shared.began.load(Ordering::SeqCst);
            if began == 0 {
                continue;
            }
            let now = MonoTime::now();
            let ran_ms = now.micros_since(MonoTime::from_nanos(began)) / 1000;
            if ran_ms < LIMIT_MS {
                self.shared.arm(LIMIT_MS.saturating_sub(ran_ms));
            } else if suspect != began {
                suspect = began;
                self.shared.arm(DOUBT_MS);
            } else {
                self.kill_next(now, ran_ms);
                self.shared.arm(LIMIT_MS);
            }
        }
    }

    fn tell(&self, news: News) {
        // One who cannot say it in time does not keep the next victim alive.
        let _ = self.news.try_send(news);
    }

    fn kill_next(&self, now: MonoTime, ran_ms: u64) {
        let why = Stuck { ran_ms, limit_ms: LIMIT_MS };
        let (mut done, mut dying) = (None, None);
        for (slot, facts) in self.shared.next.iter().zip(&self.shared.facts) {
            let Some((fd, packed)) = slot.take() else { continue };
            let Some(head) = Head::unpack(packed) else { continue };
            match self.kill(head, facts, PidFd::from(fd), now) {
                Ok((victim, pidfd)) => {
                    (done, dying) = (Some(victim), pidfd);
                    break;
                }
                Err(KillError::Refused(error)) => self.tell(News::Refused(head.pid, error)),
                Err(KillError::Gone | KillError::Dying) => {}
            }
        }
        self.tell(News::Stuck(why));
        self.tell(match done {
            Some(victim) if self.dry_run => News::WouldKill(victim, why),
            Some(victim) => News::Killed(victim, why),
            None => News::Nobody,
        });
        // Nobody else would take its memory back now. Last, as that may wait.
        if let Some(dying) = dying {
            let _ = dying.mrelease();
        }
    }

    /// Kills one. Who it was, and a descriptor of it.
    fn kill(
        &self,
        head: Head,
        facts: &Facts,
        pidfd: PidFd,
        now: MonoTime,
    ) -> Result<(Victim, Option<PidFd>), KillError> {
        let Head { pid, adj } = head;
        if pidfd.has_exited() {
            return Err(KillError::Gone);
        }
        let victim = facts.of(pid, adj).map_or_else(|| self.look_at(head), Ok)?;
        // What was read is of the process that the pidfd means, if that still has the id.
        if !pidfd.holds_its_pid() {
            return Err(KillError::Gone);
        }
        if self.dry_run {
            return Ok((victim, None));
        }
        // The leader alone: the list of the others would have to be opened.
        let rest = raise::raise_leader(Threads::In(&self.proc), pid, 1);
        let raised = MonoTime::now();
        if let Err(errno) = pidfd.kill() {
            rest.undo(None);
            return Err(refused(errno));
        }
        let signalled = MonoTime::now();
        let moments = Moments { woken: now, decided: now, raised, signalled, ..Moments::default() };
        let dying = pidfd.try_clone().ok();
        // As many fit as slots can be taken; more cannot be had before the loop is back. At once: a
        // loop that is back and knew nothing would choose another.
        let _ = self.kills.try_send(Kill { victim: victim.clone(), pidfd, moments });
        Ok((victim, dying))
    }

    /// What little is read of one that was not prepared. Its command line is not: that is its own
    /// memory, and reading it may wait as long as the loop does.
    fn look_at(&self, head: Head) -> Result<Victim, KillError> {
        let Head { pid, adj } = head;
        let status = match self.proc.status(pid) {
            Err(ProcError::Gone) => return Err(KillError::Gone),
            // It can be killed all the same.
            status => status.unwrap_or_default(),
        };
        Ok(described(pid, status.uid, adj, &status, status.short_name()))
    }
}

pub(super) fn described(
    pid: i32,
    uid: u32,
    adj: OomScoreAdj,
    status: &Status,
    name: TaskName,
) -> Victim {
    let (rss, swap) = (status.rss.unwrap_or_default(), status.swap.unwrap_or_default());
    let Status { state, threads, .. } = *status;
    Victim { pid, uid, adj, name, state, rss, swap, threads, stat: None, group: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_its_slot() {
        for (pid, adj) in [(2, 0), (4_194_303, 1000), (77, 999)] {
            let head = Head { pid, adj: OomScoreAdj::new(adj).unwrap() };
            assert_eq!(head.pack().and_then(Head::unpack), Some(head));
        }
        let protected = Head { pid: 77, adj: OomScoreAdj::SYSTEM };
        assert_eq!(protected.pack(), None);
    }
}
