//! The way of a kill, gone once at the start without a victim.
//!
//! What a kill touches is then in memory, and locking memory keeps it there: the first kill waits
//! for no page, as the tenth does not.

use super::report;
use super::Daemon;
use crate::clock::MonoTime;
use crate::control::wire::KillNotice;
use crate::kernel::process::Status;
use crate::kernel::process::TaskName;
use crate::kill::ledger::Moments;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::policy::Signals;
use crate::sys::sched;
use crate::units::Kib;
use std::fmt;
use std::fmt::Write;
use std::hint::black_box;

/// More stack than the loop has been seen to use, debug builds included.
const STACK: usize = 128 * 1024;

impl Daemon {
    /// Reads, searches, describes and formats as for a kill. Called before memory is locked.
    pub(super) fn warm_up(&mut self) {
        sched::touch_stack::<STACK>();
        let _ = self.sampler.read(MonoTime::now(), true, &mut self.sample);
        let _ = self.sampler.read_pressure();
        self.searcher.start(OomScoreAdj::FOREGROUND, self.tunables.kill_heaviest_task, Kib::ZERO);
        let _ = self.searcher.next(&mut self.registry, &self.proc);
        self.killer.warm_up();
        self.warm_up_journal();

        let pid = self.own_pid;
        if let Ok(me) = PidFd::open(pid).and_then(|me| me.try_clone()) {
            black_box(me.has_exited());
        }
        let _ = black_box(self.proc.stat(pid));
        let _ = self.proc.threads(pid, |tid| tid == pid);
        let Ok(status) = self.proc.status(pid) else { return };
        let _ = black_box(self.ready.name_now(pid, None, &status));
        let _ = self.proc.memory(pid, &Status { rss: None, ..status });
        let name = self.proc.name(pid).unwrap_or(TaskName::new(b""));
        let (uid, threads, adj) = (status.uid, status.threads, OomScoreAdj::FOREGROUND);
        let (rss, swap) = (status.rss.unwrap_or_default(), status.swap.unwrap_or_default());
        let Status { state, .. } = status;
        let (stat, group) = (None, None);
        let victim = Victim { pid, uid, adj, name, state, rss, swap, threads, stat, group };
        self.say_nothing(&victim);
    }

    /// Formats what is said of a kill.
    fn say_nothing(&self, victim: &Victim) {
        let signals = Signals::default();
        for reason in [KillReason::NotResponding, KillReason::LowMem, KillReason::Minfree] {
            let cause =
                Cause { reason, min_adj: OomScoreAdj::FOREGROUND, cut_thrashing_limit: false };
            let why = self.why(&cause, &signals);
            let _ = write!(Nowhere, "{}", report::KillLine { victim, why: &why });
        }
        let _ = write!(Nowhere, "{}", report::Steps(&Moments::default()));
        black_box(KillNotice { pid: victim.pid, uid: victim.uid, rss_kb: 0 }.encode());
    }
}

/// Text that nobody reads.
struct Nowhere;

impl fmt::Write for Nowhere {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        Ok(())
    }
}
