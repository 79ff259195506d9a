//! The watchdog: when one handler of the loop does not come to its end, a thread of its own kills
//! the next victim in the loop's stead.
//!
//! ```text
//! loop:     began = now, handler, began = 0, wait ...      next victims: pidfds in slots
//! watchdog: sleeps on a timer; still the same handler after 2 s? takes a pidfd out, kills
//! loop:     once it is back: counts the kill, tells clients
//! ```
//!
//! The two share atomics only. A pidfd belongs to whoever took it out of its slot, so the watchdog
//! never touches what the loop may free. The loop arms the timer at most once in 2 s, when it has
//! something to do; while it waits nobody arms it and the watchdog sleeps.

use super::look::open_registered;
use super::report;
use super::Daemon;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::kernel::process::Status;
use crate::kernel::Meminfo;
use crate::kernel::PressureInfo;
use crate::kill::ledger::Moments;
use crate::kill::raise;
use crate::kill::raise::Threads;
use crate::kill::refused;
use crate::kill::KillError;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::policy::WakeupInfo;
use crate::processes::Heads;
use crate::processes::RecordId;
use crate::processes::Registry;
use crate::processes::READY;
use crate::recorder::Removal;
use crate::report::EventLog;
use crate::report::KillInfo;
use crate::report::TraceMarker;
use crate::sys::fd_slot::FdSlot;
use crate::sys::sched;
use crate::units::Kib;
use crate::units::PageSize;
use rustix::time::Itimerspec;
use rustix::time::TimerfdClockId;
use rustix::time::TimerfdFlags;
use rustix::time::TimerfdTimerFlags;
use rustix::time::Timespec;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::Arc;

/// A handler that runs longer is stuck, and each such time costs one victim, ms. AOSP's number.
const LIMIT_MS: u64 = 2000;

/// How long a handler that looks stuck may take to show that it is not, ms: a daemon that was
/// stopped as a whole (a debugger, a freezer) goes on at once when it is let go.
const DOUBT_MS: u64 = 50;

/// The loop's end of it.
pub(super) struct Watchdog {
    shared: Option<Arc<Shared>>,
    heads: Heads,
    kills: Receiver<Kill>,
}

struct Shared {
    /// When the handler at work began, ns on CLOCK_MONOTONIC; 0 while the loop waits.
    began: AtomicU64,
    /// Whether the timer will fire.
    armed: AtomicBool,
    timer: OwnedFd,
    /// Who is next, in kill order; see [`Head`]. Enough for 16 s of being stuck.
    next: [FdSlot; READY],
}

/// What stands beside a pidfd in its slot: pid and adj in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    pid: i32,
    adj: OomScoreAdj,
}

impl Head {
    const ADJ_BITS: u32 = 10;

    /// None for what cannot be a victim: adj below 0, or no process id.
    fn pack(self) -> Option<u32> {
        let adj = u32::try_from(self.adj.get()).ok()?;
        let pid = u32::try_from(self.pid).ok().filter(|pid| *pid < 1 << (32 - Self::ADJ_BITS))?;
        Some(pid << Self::ADJ_BITS | adj)
    }

    fn unpack(packed: u32) -> Option<Self> {
        let pid = i32::try_from(packed >> Self::ADJ_BITS).ok()?;
        let adj = i32::try_from(packed & ((1 << Self::ADJ_BITS) - 1)).ok()?;
        Some(Self { pid, adj: OomScoreAdj::new(adj)? })
    }
}

/// A kill that the loop has yet to count and to tell of.
struct Kill {
    victim: Victim,
    pidfd: PidFd,
    moments: Moments,
}

impl Watchdog {
    /// Starts the thread, which takes a real-time class of its own where permitted.
    pub(super) fn start(event_log: EventLog, page: PageSize, dry_run: bool) -> Self {
        let (sender, kills) = mpsc::sync_channel(READY);
        let shared = match Shared::start(sender, event_log, page, dry_run) {
            Ok(shared) => Some(shared),
            Err(error) => {
                log::warn!("no watchdog ({error}): nobody kills while a handler is stuck");
                None
            }
        };
        Self { shared, heads: [None; READY], kills }
    }

    /// The loop begins with a handler.
    pub(super) fn begin(&self, now: MonoTime) {
        let Some(shared) = &self.shared else { return };
        shared.began.store(now.as_nanos().max(1), Ordering::SeqCst);
        shared.arm(LIMIT_MS);
    }

    /// The loop is about to wait.
    pub(super) fn rest(&self) {
        if let Some(shared) = &self.shared {
            shared.began.store(0, Ordering::SeqCst);
        }
    }

    /// Makes the next victims known. Costs system calls only for those that were not among them.
    pub(super) fn publish(&mut self, heads: &Heads, registry: &Registry, proc: &ProcDir) {
        let Some(shared) = &self.shared else { return };
        if *heads == self.heads {
            return;
        }
        let mut held: [Option<(RecordId, OwnedFd)>; READY] = Default::default();
        for ((held, head), slot) in held.iter_mut().zip(self.heads).zip(&shared.next) {
            *held = slot.take().and_then(|(fd, _)| Some((head?.0, fd)));
        }
        for (head, slot) in heads.iter().zip(&shared.next) {
            let Some((id, adj)) = *head else { continue };
            let Some(record) = registry.get(id) else { continue };
            let Some(packed) = (Head { pid: record.pid().get(), adj }).pack() else { continue };
            let kept = held.iter_mut().find(|held| held.as_ref().is_some_and(|held| held.0 == id));
            let fd = match kept.and_then(Option::take) {
                Some((_, fd)) => Some(fd),
                None => {
                    let opened = match &record.pidfd {
                        Some(pidfd) => pidfd.try_clone().ok(),
                        None => open_registered(proc, record).ok(),
                    };
                    // One that cannot be had is passed over.
                    opened.map(OwnedFd::from)
                }
            };
            if let Some(fd) = fd {
                slot.put(fd, packed);
            }
        }
        self.heads = *heads;
    }
}

impl Shared {
    fn start(
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
        });
        let proc = ProcDir::open(std::path::Path::new("/proc"))?;
        let theirs = Arc::clone(&shared);
        let guard = Guard { shared: theirs, proc, event_log, trace: None, page, dry_run, kills };
        std::thread::Builder::new().name("lmkd_watchdog".to_owned()).spawn(move || guard.run())?;
        Ok(shared)
    }

    /// Sets the timer, unless it is set.
    fn arm(&self, after_ms: u64) {
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
    event_log: EventLog,
    trace: Option<TraceMarker>,
    page: PageSize,
    dry_run: bool,
    kills: SyncSender<Kill>,
}

impl Guard {
    fn run(mut self) {
        // One above the loop's: a loop that spins leaves no CPU to its equals.
        let _ = sched::set_fifo(0, 2);
        self.trace = TraceMarker::open().ok();
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

    fn kill_next(&mut self, now: MonoTime, ran_ms: u64) {
        log::error!("lmkd watchdog timed out: one handler has been running for {ran_ms}ms");
        let shared = Arc::clone(&self.shared);
        let ready = shared.next.iter().filter_map(FdSlot::take);
        for (fd, packed) in ready {
            let Some(head) = Head::unpack(packed) else { continue };
            match self.kill(head, PidFd::from(fd), now, ran_ms) {
                Ok(()) => return,
                Err(KillError::Refused(error)) => {
                    log::error!("lmkd watchdog cannot kill process {}: {error}", head.pid);
                }
                Err(KillError::Gone | KillError::Dying) => {}
            }
        }
        log::error!("lmkd watchdog has nobody to kill");
    }

    fn kill(
        &mut self,
        head: Head,
        pidfd: PidFd,
        now: MonoTime,
        ran_ms: u64,
    ) -> Result<(), KillError> {
        let Head { pid, adj } = head;
        let status = self.proc.status(pid).map_err(|_| KillError::Gone)?;
        let name = self.proc.name(pid).map_err(|_| KillError::Gone)?;
        let (rss, swap) = self.proc.memory(pid, &status).ok_or(KillError::Gone)?;
        let Status { uid, state, threads, .. } = status;
        let (stat, group) = (None, None);
        let victim = Victim { pid, uid, adj, name, state, rss, swap, threads, stat, group };
        // What was read is of the process that the pidfd means, if that still has the id.
        if !pidfd.holds_its_pid() {
            return Err(KillError::Gone);
        }
        let why = Stuck { ran_ms };
        if self.dry_run {
            log::info!("dry run, would: {}", report::KillLine { victim: &victim, why: &why });
            return Ok(());
        }
        let rest = raise::raise_leader(Threads::In(&self.proc), pid, threads);
        let raised = MonoTime::now();
        pidfd.kill().map_err(refused)?;
        let signalled = MonoTime::now();
        rest.raise();
        // Nobody else would take its memory back now.
        let _ = pidfd.mrelease();
        log::info!("{}", report::KillLine { victim: &victim, why: &why });
        if let Some(trace) = &self.trace {
            trace.kill(pid, None, adj, OomScoreAdj::FOREGROUND, 0);
        }
        self.record(&victim);
        let moments = Moments { woken: now, decided: now, raised, signalled, ..Moments::default() };
        // As many fit as slots can be taken; more cannot be had before the loop is back.
        let _ = self.kills.try_send(Kill { victim, pidfd, moments });
        Ok(())
    }

    fn record(&mut self, victim: &Victim) {
        let info = KillInfo {
            pid: victim.pid,
            uid: victim.uid,
            adj: victim.adj,
            min_adj: OomScoreAdj::FOREGROUND,
            rss: victim.rss,
            swap: victim.swap,
            reason: None,
            // The sample is the loop's.
            meminfo: Meminfo::default(),
            page: self.page,
            wakeup: WakeupInfo::default(),
            gpu: Kib::ZERO,
            thrashing: 0,
            max_thrashing: 0,
            pressure: PressureInfo::default(),
        };
        if let Err(error) = self.event_log.write(&info) {
            log::warn!("the event record of a kill is lost: {error}");
        }
    }
}

/// The reason of a kill line.
struct Stuck {
    ran_ms: u64,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the daemon is stuck, {}ms in one handler > {LIMIT_MS}ms", self.ran_ms)
    }
}

impl Daemon {
    /// The loop begins with a handler: kills of the watchdog's come first, so that nobody is
    /// chosen a second time.
    pub(super) fn begin_handler(&mut self, now: MonoTime) {
        self.watchdog.begin(now);
        while let Ok(kill) = self.watchdog.kills.try_recv() {
            self.count_watchdog_kill(kill);
        }
    }

    fn count_watchdog_kill(&mut self, kill: Kill) {
        let Kill { mut victim, pidfd, moments } = kill;
        if self.killer.is_dying(victim.pid) {
            return;
        }
        let head = self.watchdog.heads.iter().flatten().find(|(id, _)| {
            self.registry.get(*id).is_some_and(|record| record.pid().get() == victim.pid)
        });
        let record = head.and_then(|(id, _)| self.registry.remove(*id));
        let pid = victim.pid;
        let registered = record.is_some();
        if let Some(record) = record {
            victim.uid = record.uid;
            if let Some(pidfd) = &record.pidfd {
                self.reactor.remove(pidfd);
            }
        }
        let cause = Cause {
            reason: KillReason::Watchdog,
            min_adj: OomScoreAdj::FOREGROUND,
            cut_thrashing_limit: false,
        };
        let id = self.killer.signalled(victim, pidfd, cause, moments);
        self.wait_for_exit(id);
        self.tell_clients(id, None);
        self.record_kill(id, 0);
        if registered {
            self.record_removed(pid, Removal::Killed);
        }
    }
}

/// Lets a test make a handler stick: `LMKD_TEST_STUCK_HANDLER_MS`, in debug builds only.
#[cfg(debug_assertions)]
pub(super) fn stick_for_a_test() {
    let millis = std::env::var("LMKD_TEST_STUCK_HANDLER_MS").ok().and_then(|ms| ms.parse().ok());
    if let Some(millis) = millis {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }
}

/// Nothing, in the builds that are shipped.
#[cfg(not(debug_assertions))]
pub(super) fn stick_for_a_test() {}

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
