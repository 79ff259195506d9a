//! Records of any content, from a seed.

use super::super::few::Few;
use super::super::few::Text;
use super::super::*;
use crate::clock::MonoTime;
use crate::config::Kind;
use crate::config::Tunables;
use crate::config::TABLE;
use crate::kernel::Meminfo;
use crate::kernel::ReclaimEvents;
use crate::kernel::Sample;
use crate::kernel::Stall;
use crate::kernel::Vmstat;
use crate::kernel::Watermarks;
use crate::kill::ledger::Moments;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::Exit;
use crate::policy::Admission;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::policy::Level;
use crate::policy::MinfreeTable;
use crate::policy::Policy;
use crate::policy::PollPlan;
use crate::policy::PollRequest;
use crate::policy::Poller;
use crate::policy::Reclaim;
use crate::policy::Signals;
use crate::policy::Trigger;
use crate::policy::Verdict;
use crate::policy::Wmark;
use crate::units::Kib;
use crate::units::PageSize;
use crate::units::Pages;

/// splitmix64.
pub struct Dice {
    state: u64,
    /// Whether numbers are as long as they can be and lists full.
    pub extreme: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, extreme: false }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub trait Roll {
    fn roll(dice: &mut Dice) -> Self;
}

impl Roll for u64 {
    fn roll(dice: &mut Dice) -> Self {
        let shift = if dice.extreme { 0 } else { dice.below(64) };
        dice.next() >> shift
    }
}

impl Roll for i64 {
    fn roll(dice: &mut Dice) -> Self {
        u64::roll(dice).cast_signed()
    }
}

impl Roll for u32 {
    fn roll(dice: &mut Dice) -> Self {
        u32::try_from(u64::roll(dice) & u64::from(u32::MAX)).unwrap()
    }
}

impl Roll for i32 {
    fn roll(dice: &mut Dice) -> Self {
        u32::roll(dice).cast_signed()
    }
}

impl Roll for bool {
    fn roll(dice: &mut Dice) -> Self {
        dice.next() & 1 == 0
    }
}

impl<T: Roll> Roll for Option<T> {
    fn roll(dice: &mut Dice) -> Self {
        (dice.extreme || bool::roll(dice)).then(|| T::roll(dice))
    }
}

impl<T: Roll + Copy, const N: usize> Roll for Few<T, N> {
    fn roll(dice: &mut Dice) -> Self {
        let len = if dice.extreme { N } else { dice.below(N + 1) };
        (0..len).map(|_| T::roll(dice)).collect()
    }
}

impl<const N: usize> Roll for Text<N> {
    fn roll(dice: &mut Dice) -> Self {
        let len = if dice.extreme { N } else { dice.below(N + 1) };
        let bytes: Vec<u8> = (0..len).map(|_| dice.next().to_le_bytes()[0]).collect();
        Self::new(&bytes)
    }
}

macro_rules! roll {
    ($($type:ident { $($field:ident),* $(,)? })*) => {
        $(impl Roll for $type {
            fn roll(dice: &mut Dice) -> Self {
                Self { $($field: Roll::roll(dice)),* }
            }
        })*
    };
}

macro_rules! choose {
    ($($type:ty: |$dice:ident| [$($choice:expr),* $(,)?])*) => {
        $(impl Roll for $type {
            fn roll($dice: &mut Dice) -> Self {
                let all = [$($choice),*];
                let which = $dice.below(all.len());
                all[which].clone()
            }
        })*
    };
}

impl Roll for MonoTime {
    fn roll(dice: &mut Dice) -> Self {
        Self::from_nanos(u64::roll(dice))
    }
}

impl Roll for Pages {
    fn roll(dice: &mut Dice) -> Self {
        Self(i64::roll(dice))
    }
}

impl Roll for Kib {
    fn roll(dice: &mut Dice) -> Self {
        Self(i64::roll(dice))
    }
}

impl Roll for OomScoreAdj {
    fn roll(dice: &mut Dice) -> Self {
        Self::saturating(i64::try_from(dice.below(2001)).unwrap() - 1000)
    }
}

choose! {
    PageSize: |dice| [Self::SMALL, Self::from_bytes(16384), Self::from_bytes(65536)]
    Level: |dice| [Self::Low, Self::Medium, Self::Critical]
    Wmark: |dice| [Self::Min, Self::Low, Self::High, Self::None]
    Reclaim: |dice| [Self::None, Self::Kswapd, Self::Direct]
    PollRequest: |dice| [Self::NoChange, Self::Start, Self::Pause]
    Trigger: |dice| [
        Self::Event(Level::roll(dice)),
        Self::Poll,
        Self::KswapdWake,
        Self::Vendor { reason: i32::roll(dice), min_adj: i32::roll(dice) },
    ]
    Admission: |dice| [
        Self::Ignored,
        Self::Skipped,
        Self::Evaluate { watermarks: bool::roll(dice) },
    ]
    KillReason: |dice| [
        Self::PressureAfterKill,
        Self::NotResponding,
        Self::LowSwapAndThrashing,
        Self::LowMemAndSwap,
        Self::LowMemAndThrashing,
        Self::DirectReclaimAndThrashing,
        Self::LowMemAndSwapUtil,
        Self::LowFilecacheAfterThrashing,
        Self::LowMem,
        Self::DirectReclaimStuck,
        Self::Vendor(u16::try_from(dice.below(1000)).unwrap()),
        Self::Minfree,
        Self::Watchdog,
    ]
    Exit: |dice| [Self::Signal(i32::roll(dice)), Self::Status(i32::roll(dice))]
    Step: |dice| [
        Self::TimedOut { memory_back: bool::roll(dice) },
        Self::Exited,
        Self::Proven,
        Self::Otherwise(Exit::roll(dice)),
        Self::Untold,
    ]
    Act: |dice| [
        Self::Nothing,
        Self::Killed { pid: i32::roll(dice), ticket: u32::roll(dice) },
        Self::Spared { pid: i32::roll(dice) },
        Self::Nobody,
    ]
    Obstacle: |dice| [Self::Gone, Self::Dying, Self::Refused(i32::roll(dice))]
    Input: |dice| [
        Self::WatermarksChanged,
        Self::WatermarkChangesAreTold(bool::roll(dice)),
        Self::PressureIsSampled(bool::roll(dice)),
        Self::Minfree(MinfreeTable::from_pairs((0..6).map(|_| (i32::roll(dice), i32::roll(dice))))),
    ]
    Removal: |dice| [Self::Exited, Self::Killed, Self::Asked, Self::PassedOver]
    Change: |dice| [
        Self::Added(Process::roll(dice)),
        Self::Moved(Process::roll(dice)),
        Self::Removed { pid: i32::roll(dice), why: Removal::roll(dice) },
    ]
    Pressure: |dice| [
        Self::Waiting,
        Self::Monitors {
            window_ms: i64::roll(dice),
            medium: bool::roll(dice),
            critical: bool::roll(dice),
            unprivileged: bool::roll(dice),
        },
        Self::Sampling { every_ms: i64::roll(dice) },
    ]
    Reclaims: |dice| [Self::Counters, Self::OwnPrograms, Self::AndroidPrograms]
}

roll! {
    Header { version, kernel, page, boot, pid, started, wall_ns, dry_run, adopt }
    Seen { sample, verdict }
    Tried { process, obstacle }
    Process { pid, uid, adj }
    Verdict { signals, cause }
    Cause { reason, min_adj, cut_thrashing_limit }
    PollPlan { request, interval_ms }
    Stall { full_avg10_centi }
    Watermarks { min, low, high, total_reserve }
    ReclaimEvents { direct_since, kswapd_awake }
    Vmstat {
        nr_free_pages, nr_inactive_file, nr_active_file, refault, pgscan_kswapd, pgscan_direct,
        pgscan_direct_throttle, pgrefill,
    }
    Meminfo {
        total, free, cached, swap_cached, buffers, shmem, unevictable, swap_total, swap_free,
        active_anon, inactive_anon, active_file, inactive_file, sreclaimable, sunreclaim,
        kernel_stack, page_tables, ion_heap, ion_heap_pool, cma_free, dirty,
    }
    Signals {
        free, watermarks, wmark, reclaim, direct_reclaim_ms, free_swap, swap_low_threshold,
        swap_is_low, thrashing, max_thrashing, thrashing_limit, swap_util, file_cache,
        critical_stall, critical_event, after_kill, watch_filecache, exhausted,
    }
    Kill {
        ticket, look, pid, uid, adj, name, rss, swap, threads, cause, moments, next,
    }
    Moments { woken, decided, raised, signalled, released, exited, proven }
    Fate { ticket, pid, step, moments }
    Registered { first, last, processes }
    Sources { pressure, reclaim }
    Status {
        sources, seen, polling, waiting_for, registered, clients, next, kills, by_reason, exits,
        proven, timeouts, owed, to_signal, to_release, to_exit, lost_events, rss, descriptors,
        tells_exit, ring, outlook, steps,
    }
    Outlook { next_look_ms, watermarks_alone, last_pressure, minfree }
    Next { process, rss, name }
    Steps { to_decision, to_raise }
    Spread { count, p50, p90, p99, max }
    RingState { size, written, records, oldest }
    Lost { records }
    End { records }
    Refused { why }
    Checkpoint { policy, poller }
}

impl<A: Roll, B: Roll> Roll for (A, B) {
    fn roll(dice: &mut Dice) -> Self {
        (A::roll(dice), B::roll(dice))
    }
}

impl Roll for Sample {
    /// Without a boost, which a look keeps and a status does not.
    fn roll(dice: &mut Dice) -> Self {
        Self {
            now: Roll::roll(dice),
            vmstat: Roll::roll(dice),
            meminfo: Roll::roll(dice),
            watermarks: Roll::roll(dice),
            stall: Roll::roll(dice),
            reclaim: Roll::roll(dice),
            boost: None,
        }
    }
}

impl Roll for Look {
    fn roll(dice: &mut Dice) -> Self {
        let mut look = Self {
            trigger: Roll::roll(dice),
            woken: Roll::roll(dice),
            now: Roll::roll(dice),
            pending: Roll::roll(dice),
            admission: Roll::roll(dice),
            seen: Roll::roll(dice),
            act: Roll::roll(dice),
            tried: Roll::roll(dice),
            waiting: Roll::roll(dice),
            plan: Roll::roll(dice),
        };
        if let Some(seen) = &mut look.seen {
            seen.sample.boost = Roll::roll(dice);
        }
        look
    }
}

impl Roll for Settings {
    fn roll(dice: &mut Dice) -> Self {
        let mut tunables = Tunables::default();
        for tunable in TABLE {
            match tunable.kind {
                Kind::Bool(field) => *field(&mut tunables) = bool::roll(dice),
                Kind::Int { field, .. } => *field(&mut tunables) = i64::roll(dice),
                Kind::Choice(field) => *field(&mut tunables) = Option::roll(dice),
                Kind::NoEffect => {}
            }
        }
        Self { tunables }
    }
}

impl Roll for MinfreeTable {
    fn roll(dice: &mut Dice) -> Self {
        let len = if dice.extreme { Self::MAX_LEVELS } else { dice.below(Self::MAX_LEVELS + 1) };
        Self::from_pairs((0..len).map(|_| (i32::roll(dice), i32::roll(dice))))
    }
}

impl Roll for Policy {
    /// What some looks leave behind.
    fn roll(dice: &mut Dice) -> Self {
        let mut policy = Self::new(PageSize::roll(dice));
        let tunables = Settings::roll(dice).tunables;
        policy.set_minfree(MinfreeTable::from_pairs([(i32::roll(dice), i32::roll(dice))]));
        policy.pressure_is_sampled(bool::roll(dice));
        policy.window_lasts(Option::roll(dice));
        for _ in 0..dice.below(6) {
            let (trigger, now) = (Trigger::roll(dice), MonoTime::roll(dice));
            let pending = dice.one(&[None, Some(now)]);
            if policy.admit(trigger, now, pending, &tunables) == Admission::Skipped {
                continue;
            }
            let verdict = policy.evaluate(trigger, &Sample::roll(dice), &tunables);
            if let Some(cause) = verdict.cause {
                policy.note_kill(&cause, &tunables);
            }
        }
        policy
    }
}

impl Roll for Poller {
    fn roll(dice: &mut Dice) -> Self {
        let mut poller = Self::new();
        poller.apply(PollPlan::roll(dice), MonoTime::roll(dice), i64::roll(dice));
        poller
    }
}
