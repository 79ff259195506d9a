//! What is remembered between two looks, and the order of the steps of one.

use super::exhaustion::Exhaustion;
use super::exhaustion::Vigil;
use super::poller::LONG_MS;
use super::poller::SHORT_MS;
use super::reclaim::ReclaimCounters;
use super::swap;
use super::swap::Swap;
use super::thrashing::Thrashing;
use super::verdict::vendor_cause;
use super::wakeup::Wakeups;
use super::watermark;
use super::watermark::Remembered;
use super::watermark::Unboosted;
use super::window::Polls;
use super::window::Window;
use super::Admission;
use super::Cause;
use super::Facts;
use super::KillReason;
use super::Level;
use super::MinfreeTable;
use super::PollPlan;
use super::PollRequest;
use super::Reclaim;
use super::Rule;
use super::Signals;
use super::Trigger;
use super::Verdict;
use super::WakeupInfo;
use super::RULES;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::config::Tunables;
use crate::kernel::Sample;
use crate::kernel::Watermarks;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::PageSize;
use crate::units::Pages;

/// The decision, with what it remembers from one look to the next.
///
/// For each trigger the caller asks [`Self::admit`]; if that says so takes a sample and asks
/// [`Self::evaluate`] (or, if the kernel's files could not be read, tells [`Self::read_failed`]);
/// after a kill tells [`Self::note_kill`]; and at last asks [`Self::poll_plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    page: PageSize,
    prev_level: Level,
    reclaim: ReclaimCounters,
    prev_refault: i64,
    /// None before the first look.
    thrashing: Option<Thrashing>,
    watermarks: Remembered,
    watch_filecache: bool,
    /// A victim was signalled, and no look has been taken since.
    killing: bool,
    ever_killed: bool,
    minfree: MinfreeTable,
    wakeups: Wakeups,
    pub(super) last_pressure: Option<MonoTime>,
    pub(super) polls: Polls,
    vigil: Vigil,
    pub(super) look: Look,
    /// None in a recording of a daemon that did not tell boosted watermarks from others.
    pub(super) unboosted: Option<Unboosted>,
    /// None in a recording of a daemon that took the window to begin at events alone.
    pub(super) window: Option<Window>,
    /// None in a recording of a daemon that judged pressure by boosted watermarks too.
    steady: Option<Unboosted>,
}

/// What a checkpoint holds beside the coded form of [`Policy`], which had no place for it at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Added {
    unboosted: Option<Unboosted>,
    window: Option<Window>,
    steady: Option<Unboosted>,
}

coded_struct!(Added { unboosted } at_end { window, steady });

/// How the latest look ended, as far as polling depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Ignored,
    Skipped,
    Failed,
    Taken { reclaim: Reclaim, hurry: bool, watch: bool },
}

coded_struct!(Policy {
    page,
    prev_level,
    reclaim,
    prev_refault,
    thrashing,
    watermarks,
    watch_filecache,
    killing,
    ever_killed,
    minfree,
    wakeups,
    last_pressure,
    polls,
    vigil,
    look,
} without { unboosted, window, steady });
coded_enum!(Look, "end of a look" {
    0 => Ignored,
    1 => Skipped,
    2 => Failed,
    3 => Taken { reclaim, hurry, watch },
});

impl Policy {
    /// The state of a daemon that has just started, on a kernel with this page size.
    #[must_use]
    pub fn new(page: PageSize) -> Self {
        Self {
            page,
            prev_level: Level::Low,
            reclaim: ReclaimCounters::default(),
            prev_refault: 0,
            thrashing: None,
            watermarks: Remembered::default(),
            watch_filecache: false,
            killing: false,
            ever_killed: false,
            minfree: MinfreeTable::default(),
            wakeups: Wakeups::default(),
            last_pressure: None,
            polls: Polls::Window,
            vigil: Vigil::default(),
            look: Look::Ignored,
            unboosted: Some(Unboosted::default()),
            window: Some(Window::default()),
            steady: Some(Unboosted::default()),
        }
    }

    /// Whether `trigger` is worth a sample. `pending_since` is the time of the kill whose victim
    /// has not died yet; when this answers `Evaluate`, that victim need not be waited for longer.
    ///
    /// A vendor's request with a reason outside 0..=999 or an adj outside 0..=1000 is ignored.
    pub fn admit(
        &mut self,
        trigger: Trigger,
        now: MonoTime,
        pending_since: Option<MonoTime>,
        t: &Tunables,
    ) -> Admission {
        self.look = Look::Ignored;
        match trigger {
            Trigger::Event(level) if level < self.prev_level => return Admission::Ignored,
            Trigger::Event(level) => {
                self.prev_level = level;
                self.last_pressure = Some(now);
                self.begin_window(now);
            }
            Trigger::Poll => self.prev_level = Level::Low,
            Trigger::KswapdWake => {}
            Trigger::Vendor { .. } if !trigger.is_valid() => return Admission::Ignored,
            Trigger::Vendor { .. } => {}
        }
        let for_scarcity = trigger == Trigger::KswapdWake;
        if !for_scarcity {
            self.wakeups.record(trigger, now);
        }
        let waits = |since| t.kill_timeout_ms == 0 || now.millis_since(since) < t.kill_timeout_ms;
        if pending_since.is_some_and(waits) {
            if !for_scarcity {
                self.wakeups.skip();
            }
            self.look = Look::Skipped;
            return Admission::Skipped;
        }
        // The first kill is decided on fresh watermarks: those read at the start of the daemon are
        // older than the tuning that init and the framework do later. Where scarcity is all there
        // is to see, the kernel may have boosted them (watermark_boost_factor), of whose begin and
        // end no event tells, and with kswapd given up nothing lowers them before memory is gone.
        let watermarks = for_scarcity
            || (self.steady.is_some() && self.follows_kswapd(trigger))
            || !self.ever_killed
            || t.levels_decide()
            || self.watermarks.are_stale(now);
        Admission::Evaluate { watermarks }
    }

    /// Decides on `sample`. If it has no watermarks, those last read serve; if none were ever
    /// read, none counts as breached.
    pub fn evaluate(&mut self, trigger: Trigger, sample: &Sample, t: &Tunables) -> Verdict {
        let for_scarcity = self.follows_kswapd(trigger);
        let (before, killing) = ((self.prev_refault, self.reclaim, self.thrashing), self.killing);
        let Some(signals) = self.observe(trigger, sample, t) else {
            return Verdict::default();
        };
        let cause = self.decide(trigger, &signals, sample, t);
        if for_scarcity && cause.is_none() {
            // Nothing came of it, so the next look at all rules finds what it would have found
            // without it. A timed look has had its turn as the first one after a kill.
            (self.prev_refault, self.reclaim, self.thrashing) = before;
            self.killing = killing && trigger == Trigger::KswapdWake;
        } else if trigger == Trigger::KswapdWake {
            self.wakeups.record(trigger, sample.now);
        }
        Verdict { signals: Some(signals), cause }
    }

    /// What a timed look at `sample` would say, its signals included even if there were nothing to
    /// decide. Nothing is remembered of it.
    #[must_use]
    pub fn survey(&self, sample: &Sample, t: &Tunables) -> Verdict {
        let mut copy = self.clone();
        // Any other number keeps the look from ending early.
        copy.prev_refault = !sample.vmstat.refault;
        copy.evaluate(Trigger::Poll, sample, t)
    }

    /// A sample was due, but a file of the kernel's could not be read. The next event is taken as
    /// the first one, and polling goes on.
    pub fn read_failed(&mut self, _trigger: Trigger) {
        self.prev_level = Level::Low;
        self.look = Look::Failed;
    }

    /// A victim of `cause` was signalled.
    pub fn note_kill(&mut self, cause: &Cause, t: &Tunables) {
        self.killing = true;
        self.ever_killed = true;
        if let (KillReason::Vendor(_), true) = (cause.reason, self.window.is_some()) {
            // Its window begins with the first look after the death, and asks all rules.
            self.polls.follow_event();
        }
        if let Some(thrashing) = &mut self.thrashing {
            thrashing.killed(cause.cut_thrashing_limit, t);
        }
    }

    /// What the look just taken asks of the loop.
    #[must_use]
    pub fn poll_plan(&self, trigger: Trigger, waiting_for_death: bool) -> PollPlan {
        let (reclaim, hurry, watch) = match self.look {
            Look::Ignored => return PollPlan::default(),
            Look::Skipped | Look::Failed => (Reclaim::None, false, false),
            Look::Taken { reclaim, hurry, watch } => (reclaim, hurry, watch),
        };
        if waiting_for_death {
            return PollPlan { request: PollRequest::Pause, interval_ms: None };
        }
        let killing = self.killing && self.look != Look::Failed;
        let start = match trigger {
            Trigger::Event(_) => true,
            // Reclaim by kswapd is everyday work. Only near the end is it worth a closer watch.
            Trigger::KswapdWake if !killing && !watch => return PollPlan::default(),
            _ => killing || watch || reclaim == Reclaim::Direct,
        };
        let interval = if hurry || self.killing { SHORT_MS } else { LONG_MS };
        PollPlan {
            request: if start { PollRequest::Start } else { PollRequest::NoChange },
            interval_ms: Some(interval),
        }
    }

    /// Milliseconds to a look that is due although the kernel may tell of nothing: kswapd has given
    /// up. A [`Trigger::KswapdWake`] is what to look with. None at all other times.
    #[must_use]
    pub fn vigil_ms(&self) -> Option<i64> {
        self.vigil.next_look_ms()
    }

    /// The latest pressure event that was not weaker than the one before it.
    #[must_use]
    pub const fn last_pressure(&self) -> Option<MonoTime> {
        self.last_pressure
    }

    /// How the daemon came to look, for the record of a kill.
    #[must_use]
    pub fn wakeups(&self) -> WakeupInfo {
        self.wakeups.info()
    }

    /// The levels that a client sent last.
    #[must_use]
    pub const fn minfree(&self) -> &MinfreeTable {
        &self.minfree
    }

    /// Takes the levels that a client sent; they decide if `use_minfree_levels` is set.
    pub fn set_minfree(&mut self, table: MinfreeTable) {
        self.minfree = table;
    }

    /// Whether every change of the zones' watermarks will be told by [`Self::watermarks_changed`];
    /// if not, they are read again when they are a minute old.
    pub fn watermark_changes_are_told(&mut self, told: bool) {
        self.watermarks.will_be_told(told);
    }

    /// The zones' watermarks have changed, or may have.
    pub fn watermarks_changed(&mut self) {
        self.watermarks.have_changed();
        for learned in [&mut self.unboosted, &mut self.steady].into_iter().flatten() {
            learned.forget();
        }
    }

    /// What a checkpoint holds beside the coded form of this.
    pub(crate) const fn added(&self) -> Added {
        Added { unboosted: self.unboosted, window: self.window, steady: self.steady }
    }

    /// Takes [`Self::added`] back from a checkpoint.
    pub(crate) fn add(&mut self, added: Added) {
        let Added { unboosted, window, steady } = added;
        (self.unboosted, self.window, self.steady) = (unboosted, window, steady);
    }

    /// Derives the signals. None if nothing was reclaimed or refaulted since the last look, so
    /// that there is nothing to decide.
    fn observe(&mut self, trigger: Trigger, sample: &Sample, t: &Tunables) -> Option<Signals> {
        let Sample { now, vmstat, meminfo, .. } = sample;
        let now = *now;
        let after_kill = std::mem::take(&mut self.killing);
        let may_rest = self.may_rest(trigger, t);
        let (reclaim, direct_reclaim_ms) = self.reclaim.look(now, vmstat, sample.reclaim.as_ref());
        self.follow_window(trigger, now, after_kill || reclaim == Reclaim::Direct, t);
        let thrashing = self.thrashing.get_or_insert_with(|| Thrashing::first(now, vmstat, t));
        if after_kill {
            thrashing.restart(now, vmstat, 0);
        }
        let swap = Swap::look(meminfo, t);
        // Levels are looked at 10 ms apart: so AOSP does.
        let hurry = swap.is_low || t.levels_decide();
        self.look = Look::Taken { reclaim, hurry, watch: false };
        self.vigil.look(sample, &self.watermarks.with(sample.watermarks), self.page);
        let quiet = reclaim == Reclaim::None && vmstat.refault == self.prev_refault;
        if quiet && may_rest {
            return None;
        }
        self.prev_refault = vmstat.refault;
        let (percent, max_thrashing) = thrashing.look(now, vmstat, t);
        let thrashing_limit = thrashing.limit();
        let watermarks = self.marks(trigger, sample);
        let free = watermark::free(meminfo);
        let limit = t.stall_limit_critical.saturating_mul(100);
        let mut signals = Signals {
            free,
            watermarks,
            wmark: watermark::breached(free, &watermarks),
            reclaim,
            direct_reclaim_ms,
            free_swap: swap.free,
            swap_low_threshold: swap.low_threshold,
            swap_is_low: swap.is_low,
            thrashing: percent,
            max_thrashing,
            thrashing_limit,
            swap_util: swap::utilisation(meminfo, swap.free),
            file_cache: Pages(vmstat.nr_inactive_file) + Pages(vmstat.nr_active_file),
            critical_stall: sample.stall.is_some_and(|stall| stall.full_avg10_centi > limit),
            critical_event: trigger == Trigger::Event(Level::Critical),
            after_kill,
            watch_filecache: self.watch_filecache,
            exhausted: false,
        };
        self.watch_exhaustion(trigger, now, &mut signals, meminfo.swap_free, t);
        Some(signals)
    }

    /// The watermarks that this look is judged by. At a wake-up of kswapd a boost counts for as long
    /// as kswapd is followed; pressure is no shortage just because memory had fragmented before, and
    /// nothing tells when a boost has ended.
    fn marks(&mut self, trigger: Trigger, sample: &Sample) -> Watermarks {
        let for_scarcity = self.follows_kswapd(trigger);
        // Marks that may be boosted leave the next look at pressure to read its own.
        let guessed = for_scarcity && sample.boost.is_none();
        let is_last = self.steady.is_none() || !guessed;
        let read = self.watermarks.refresh(sample.watermarks, sample.now, is_last);
        if let (Some(unboosted), Some(fresh)) = (&mut self.unboosted, &sample.watermarks) {
            unboosted.learn(fresh, sample.boost);
            if let Some(steady) = &mut self.steady {
                // What pressure itself has the daemon read is plain, unless the kernel says otherwise.
                if for_scarcity || sample.boost.is_some() {
                    steady.learn(fresh, sample.boost);
                } else {
                    *steady = Unboosted::from(*fresh);
                }
            }
        }
        match self.steady {
            Some(steady) if !for_scarcity => steady.or(read),
            _ => read,
        }
    }

    /// Whether a look at which nothing was reclaimed or refaulted may end early. Not where the
    /// rules need no reclaim to apply.
    fn may_rest(&self, trigger: Trigger, t: &Tunables) -> bool {
        let vendor = matches!(trigger, Trigger::Vendor { .. });
        !(vendor || self.follows_kswapd(trigger) || t.levels_decide())
    }

    /// The first rule that applies, or who else decides instead of the rules.
    fn decide(
        &mut self,
        trigger: Trigger,
        signals: &Signals,
        sample: &Sample,
        t: &Tunables,
    ) -> Option<Cause> {
        if let Trigger::Vendor { reason, min_adj } = trigger {
            let mut cause = vendor_cause(reason, min_adj)?;
            if signals.critical_stall {
                cause.min_adj = OomScoreAdj::FOREGROUND;
            }
            return Some(cause);
        }
        // Recordings of a daemon that had levels decide at any look are judged as they were.
        let levels_first = self.window.is_none() && t.levels_decide();
        if self.follows_kswapd(trigger) && !levels_first {
            let mut cause = match self.exhaustion(signals, sample.meminfo.swap_free) {
                Exhaustion::Far | Exhaustion::Near => return None,
                Exhaustion::Boosted | Exhaustion::Here => {
                    self.first_match(signals, t, Rule::is_about_watermarks)
                }
            };
            let stalled = signals.critical_stall && self.window.is_some();
            if let (Some(cause), false) = (&mut cause, signals.exhausted || stalled) {
                // No higher: with kswapd gone to sleep the OOM killer comes at the boosted min mark,
                // and did, in an emulator, between two looks 10 ms apart.
                cause.min_adj = OomScoreAdj::ABOVE_PERCEPTIBLE;
            }
            if let (Some(_), Look::Taken { hurry, .. }) = (cause, &mut self.look) {
                // If the kill is made, the next look is near anyway; if nobody could be killed,
                // there is no hurry.
                *hurry = false;
                self.vigil.rest();
            }
            return cause;
        }
        if t.levels_decide() {
            let min_adj = self.minfree.min_adj(&sample.meminfo, &signals.watermarks)?;
            let reason = KillReason::Minfree;
            return Some(Cause { reason, min_adj, cut_thrashing_limit: false });
        }
        self.first_match(signals, t, |_| true)
    }

    /// The first rule among those `admitted` that applies.
    fn first_match(
        &mut self,
        signals: &Signals,
        tunables: &Tunables,
        admitted: impl Fn(&Rule) -> bool,
    ) -> Option<Cause> {
        let facts = Facts { signals, tunables, page: self.page };
        for rule in RULES.iter().filter(|rule| admitted(rule)) {
            if rule.first_failing(&facts).is_none() {
                self.watch_filecache |= rule.watches_filecache();
                return rule.cause(&facts);
            }
            if rule.reason == KillReason::LowFilecacheAfterThrashing {
                // The file cache is large enough again, or was never watched.
                self.watch_filecache = false;
            }
        }
        None
    }
}
