//! The watchdog: when one handler of the loop does not come to its end, a thread of its own kills
//! the next victim in the loop's stead.
//!
//! ```text
//! loop:     began = now, handler, began = 0, wait ...      next victims: pidfds in slots
//! watchdog: sleeps on a timer; still the same handler after 2 s? takes a pidfd out, kills
//! teller:   writes the log and the event record
//! loop:     once it is back: counts the kill, tells clients
//! ```
//!
//! The loop and the watchdog share atomics only. A pidfd belongs to whoever took it out of its slot,
//! so the watchdog never touches what the loop may free, and the loop takes out whom it kills
//! itself, and whom a client protects, moves or takes back. Up to its signal the watchdog does nothing
//! that may wait: what is said of the victim was read when it was prepared, and somebody else says
//! it. The loop arms the timer at most once in 2 s, when it has something to do; while it waits nobody
//! arms it and the watchdog sleeps.

use super::guard::described;
use super::guard::Head;
use super::guard::Kill;
use super::guard::Shared;
use super::guard::LIMIT_MS;
use super::look::open_registered;
use super::Daemon;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::kill::KillError;
use crate::kill::Killer;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::processes::Heads;
use crate::processes::Ready;
use crate::processes::RecordId;
use crate::processes::Registry;
use crate::processes::READY;
use crate::recorder::Removal;
use crate::report::EventLog;
use crate::units::PageSize;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::Arc;

/// The loop's end of it.
pub(super) struct Watchdog {
    shared: Option<Arc<Shared>>,
    heads: Heads,
    /// Which of them the watchdog was given.
    given: [bool; READY],
    kills: Receiver<Kill>,
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
        Self { shared, heads: [None; READY], given: [false; READY], kills }
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

    /// Makes the next victims known, but not those that are dying. Costs system calls only for
    /// those that were not among them. Whether they are others than before.
    pub(super) fn publish(
        &mut self,
        heads: &Heads,
        registry: &Registry,
        proc: &ProcDir,
        killer: &Killer,
    ) -> bool {
        let Some(shared) = &self.shared else { return false };
        if *heads == self.heads {
            return false;
        }
        let mut held: [Option<(RecordId, OwnedFd)>; READY] = Default::default();
        for ((held, head), slot) in held.iter_mut().zip(self.heads).zip(&shared.next) {
            *held = slot.take().and_then(|(fd, _)| Some((head?.0, fd)));
        }
        self.given = [false; READY];
        for ((head, slot), given) in heads.iter().zip(&shared.next).zip(&mut self.given) {
            let Some((id, adj)) = *head else { continue };
            let Some(record) = registry.get(id) else { continue };
            if killer.is_dying(record.pid().get()) {
                continue;
            }
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
                *given = true;
            }
        }
        self.heads = *heads;
        true
    }

    /// Makes known what is said of those that are prepared.
    pub(super) fn describe(&self, registry: &Registry, ready: &Ready) {
        let Some(shared) = &self.shared else { return };
        for (head, facts) in self.heads.iter().zip(&shared.facts) {
            let Some((id, adj)) = *head else { continue };
            let (Some(record), Some(prepared)) = (registry.get(id), ready.get(id)) else {
                continue;
            };
            let (status, name) = prepared.seen();
            facts.put(&described(record.pid().get(), record.uid, adj, status, name));
        }
    }

    /// Takes one out that is to be somebody else's or nobody's victim from now on. What the loop
    /// changes in a turn holds for the watchdog in the same turn.
    pub(super) fn take_back(&mut self, id: RecordId) {
        // If the watchdog has it, it is dead, and will be counted.
        let _ = self.withdraw(id);
    }

    /// Takes a victim out that the loop is about to kill. Its descriptor, to be closed after the
    /// signal; an error if the watchdog has taken it.
    pub(super) fn withdraw(&mut self, id: RecordId) -> Result<Option<OwnedFd>, KillError> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let heads = self.heads.iter_mut().zip(&mut self.given).zip(&shared.next);
        for ((head, given), slot) in heads {
            if head.is_some_and(|(of, _)| of == id) {
                let taken = std::mem::take(given).then(|| slot.take().ok_or(KillError::Dying));
                let fd = taken.transpose()?.map(|(fd, _)| fd);
                // The next turn of the loop lays out who is next then.
                *head = None;
                return Ok(fd);
            }
        }
        Ok(None)
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

/// Lets a test make a handler stick, in debug builds only: for `LMKD_TEST_STUCK_HANDLER_MS`, and no
/// longer than until there is a file `LMKD_TEST_STUCK_UNTIL`.
#[cfg(debug_assertions)]
pub(super) fn stick_for_a_test() {
    let millis = std::env::var("LMKD_TEST_STUCK_HANDLER_MS").ok().and_then(|ms| ms.parse().ok());
    let Some(millis) = millis else { return };
    let until = std::env::var_os("LMKD_TEST_STUCK_UNTIL").map(std::path::PathBuf::from);
    let (start, limit) = (std::time::Instant::now(), std::time::Duration::from_millis(millis));
    while start.elapsed() < limit && !until.as_ref().is_some_and(|file| file.exists()) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Nothing, in the builds that are shipped.
#[cfg(not(debug_assertions))]
pub(super) fn stick_for_a_test() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::process::Status;
    use crate::kernel::process::TaskName;
    use crate::kill::ledger::Moments;
    use crate::kill::Victim;
    use crate::pidfd::PidFd;
    use crate::processes::Pid;
    use crate::processes::Record;
    use crate::sys::fd_slot::FdSlot;
    use crate::testing::Held;
    use std::path::Path;

    struct Sleeper(Held);

    impl Sleeper {
        fn register(registry: &mut Registry, adj: i32) -> (Self, RecordId) {
            let child = Held::sleep();
            let pid = child.pid();
            let adj = OomScoreAdj::new(adj).unwrap();
            let mut record = Record::new(Pid::new(pid).unwrap(), 0, adj, MonoTime::ZERO);
            record.pidfd = Some(PidFd::open(pid).unwrap());
            (Self(child), registry.insert(record))
        }

        fn victim(&self) -> Victim {
            let (pid, adj) = (self.0.pid(), OomScoreAdj::MAX);
            described(pid, 0, adj, &Status::default(), TaskName::new(b"sleep"))
        }
    }

    const CAUSE: Cause = Cause {
        reason: KillReason::LowMem,
        min_adj: OomScoreAdj::FOREGROUND,
        cut_thrashing_limit: false,
    };

    fn laid_out(watchdog: &Watchdog) -> usize {
        // Put back what was taken, with nobody at the other end who could take it meanwhile: a
        // loop that never begins is never stuck.
        let slots = &watchdog.shared.as_ref().unwrap().next;
        let count = |slot: &FdSlot| {
            let taken = slot.take();
            let found = taken.is_some();
            if let Some((fd, number)) = taken {
                slot.put(fd, number);
            }
            usize::from(found)
        };
        slots.iter().map(count).sum()
    }

    #[test]
    fn victims_that_are_dying_are_not_laid_out() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut watchdog = Watchdog::start(EventLog::Off, PageSize::SMALL, true);
        let (mut registry, mut killer) = (Registry::with_capacity(2), Killer::start());
        let (first, _) = Sleeper::register(&mut registry, 900);
        let (_second, _) = Sleeper::register(&mut registry, 800);
        watchdog.publish(&registry.heads(None), &registry, &proc, &killer);
        assert_eq!(laid_out(&watchdog), 2);
        // As one that was killed, did not die, and was registered again.
        let pidfd = PidFd::open(first.victim().pid).unwrap();
        killer.signalled(first.victim(), pidfd, CAUSE, Moments::default());
        let (_third, _) = Sleeper::register(&mut registry, 700);
        watchdog.publish(&registry.heads(None), &registry, &proc, &killer);
        assert_eq!(laid_out(&watchdog), 2);
    }

    #[test]
    fn whom_the_loop_kills_the_watchdog_does_not_and_the_other_way_round() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut watchdog = Watchdog::start(EventLog::Off, PageSize::SMALL, true);
        let (mut registry, killer) = (Registry::with_capacity(2), Killer::start());
        let (_first, first) = Sleeper::register(&mut registry, 900);
        let (_second, second) = Sleeper::register(&mut registry, 800);
        let heads = registry.heads(None);
        watchdog.publish(&heads, &registry, &proc, &killer);
        assert!(watchdog.withdraw(first).unwrap().is_some());
        assert_eq!(laid_out(&watchdog), 1);
        // It was not killed after all.
        watchdog.publish(&heads, &registry, &proc, &killer);
        assert_eq!(laid_out(&watchdog), 2);
        drop(watchdog.shared.as_ref().unwrap().next[1].take());
        assert_eq!(watchdog.withdraw(second).map(|_| ()), Err(KillError::Dying));
        // Until the loop hears of that kill it is still known whose it was.
        assert_eq!(watchdog.heads[1].map(|(id, _)| id), Some(second));
    }
}
