//! What holds for every input, however absurd: 64-bit numbers of any size, in any order.
#![allow(missing_docs, clippy::unwrap_used)]

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Meminfo;
use lmkd::kernel::ReclaimEvents;
use lmkd::kernel::Sample;
use lmkd::kernel::Stall;
use lmkd::kernel::Vmstat;
use lmkd::kernel::Watermarks;
use lmkd::policy::Admission;
use lmkd::policy::Level;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Policy;
use lmkd::policy::PollRequest;
use lmkd::policy::Poller;
use lmkd::policy::Trigger;
use lmkd::policy::Why;
use lmkd::policy::Wmark;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prelude::Just;
use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;

/// Any number, but often one of those where arithmetic goes wrong.
fn number() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![
        4 => 0_i64..1_000_000,
        2 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]),
    ]
}

fn moment() -> impl Strategy<Value = MonoTime> {
    prop_oneof![
        (0_u64..100_000_000_000).prop_map(MonoTime::from_nanos),
        any::<u64>().prop_map(MonoTime::from_nanos)
    ]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        prop::sample::select(vec![Level::Low, Level::Medium, Level::Critical])
            .prop_map(Trigger::Event),
        Just(Trigger::Poll),
        Just(Trigger::KswapdWake),
        (any::<i32>(), any::<i32>())
            .prop_map(|(reason, min_adj)| Trigger::Vendor { reason, min_adj }),
        (0..1100, -1100..1100).prop_map(|(reason, min_adj)| Trigger::Vendor { reason, min_adj }),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        moment(),
        vec(number(), 8),
        vec(number(), 21),
        option::of(vec(number(), 4)),
        option::of(number()),
        option::of((option::of(moment()), any::<bool>())),
        option::of(number()),
    )
        .prop_map(|(now, v, m, marks, stall, reclaim, boost)| {
            let page = |i: usize| Pages(m[i]);
            Sample {
                now,
                vmstat: Vmstat {
                    nr_free_pages: v[0],
                    nr_inactive_file: v[1],
                    nr_active_file: v[2],
                    refault: v[3],
                    pgscan_kswapd: v[4],
                    pgscan_direct: v[5],
                    pgscan_direct_throttle: v[6],
                    pgrefill: v[7],
                },
                meminfo: Meminfo {
                    total: page(0),
                    free: page(1),
                    cached: page(2),
                    swap_cached: page(3),
                    buffers: page(4),
                    shmem: page(5),
                    unevictable: page(6),
                    swap_total: page(7),
                    swap_free: page(8),
                    active_anon: page(9),
                    inactive_anon: page(10),
                    active_file: page(11),
                    inactive_file: page(12),
                    cma_free: page(13),
                    dirty: page(14),
                    ..Meminfo::default()
                },
                watermarks: marks.map(|marks| Watermarks {
                    min: Pages(marks[0]),
                    low: Pages(marks[1]),
                    high: Pages(marks[2]),
                    total_reserve: Pages(marks[3]),
                }),
                stall: stall.map(|full_avg10_centi| Stall { full_avg10_centi }),
                reclaim: reclaim.map(|(direct_since, kswapd_awake)| ReclaimEvents {
                    direct_since,
                    kswapd_awake,
                }),
                boost: boost.map(Pages),
            }
        })
}

fn tunables() -> impl Strategy<Value = Tunables> {
    (vec(number(), 14), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(n, relaxed, minfree)| Tunables {
            kill_timeout_ms: n[0],
            pressure_after_kill_min_score: n[1],
            swap_free_low_percentage: n[2],
            psi_window_size_ms: n[3],
            thrashing_limit: n[4],
            thrashing_limit_decay: n[5],
            thrashing_limit_critical: n[6],
            swap_util_max: n[7],
            filecache_min_kb: n[8],
            stall_limit_critical: n[9],
            direct_reclaim_threshold_ms: n[10],
            swap_compression_ratio: n[11],
            swap_compression_ratio_div: n[12],
            lowmem_min_oom_score: n[13],
            relaxed_available_memory: relaxed,
            use_minfree_levels: minfree,
            ..Tunables::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_in_any_order_is_answered_within_bounds(
        t in tunables(),
        levels in vec(any::<(i32, i32)>(), 0..8),
        page in prop::sample::select(vec![0_usize, 4096, 16384, 65536]),
        steps in vec(
            (trigger(), sample(), option::of(moment()), any::<bool>(), any::<bool>(), any::<bool>()),
            1..24,
        ),
    ) {
        let page = PageSize::from_bytes(page);
        let mut policy = Policy::new(page);
        policy.set_minfree(MinfreeTable::from_pairs(levels));
        let mut twin = policy.clone();
        let mut poller = Poller::new();
        let mut killed = false;
        for (trigger, sample, pending, unreadable, waiting, freed) in steps {
            let now = sample.now;
            let admission = policy.admit(trigger, now, pending, &t);
            prop_assert_eq!(twin.admit(trigger, now, pending, &t), admission);
            let mut short = false;
            if let Admission::Evaluate { .. } = admission {
                if unreadable {
                    policy.read_failed(trigger);
                    twin.read_failed(trigger);
                } else {
                    let verdict = policy.evaluate(trigger, &sample, &t);
                    prop_assert_eq!(twin.evaluate(trigger, &sample, &t), verdict);
                    short = verdict.signals.is_some_and(|signals| signals.wmark < Wmark::High);
                    if let Some(cause) = verdict.cause {
                        prop_assert!(cause.min_adj.get() >= 0, "below 0: {cause:?}");
                        let signals = verdict.signals.unwrap();
                        let (tunables, sample) = (&t, &sample);
                        let why = Why { cause: &cause, signals: &signals, tunables, sample, page };
                        prop_assert!(!why.to_string().is_empty());
                        if freed {
                            killed = true;
                            policy.note_kill(&cause, &t);
                            twin.note_kill(&cause, &t);
                        }
                    }
                }
            }
            let plan = policy.poll_plan(trigger, waiting);
            if trigger == Trigger::KswapdWake && plan.request == PollRequest::Start {
                // Everyday reclaim is none of a window's business.
                prop_assert!(killed || short, "{plan:?}");
            }
            if waiting && admission != Admission::Ignored {
                prop_assert_eq!(plan.request, PollRequest::Pause);
            }
            prop_assert!(plan.interval_ms.is_none_or(|ms| ms == 10 || ms == 100));
            poller.polled(now);
            poller.apply(plan, now, t.psi_window_size_ms);
            let next = poller.next_poll_in(now);
            prop_assert_eq!(next.is_some(), poller.is_polling());
            prop_assert!(next.is_none_or(|ms| (0..=100).contains(&ms)));
            prop_assert_eq!(&twin, &policy, "the same inputs lead to the same state");
        }
    }

    #[test]
    fn nothing_happening_ends_polling_within_a_window(
        first in sample(),
        t in tunables(),
        start in 1_u64..1_000_000,
        wakes in vec(prop::bool::weighted(0.2), 1100),
    ) {
        // In its range, as the loader leaves it.
        let window = t.psi_window_size_ms.clamp(500, 10_000);
        let t = Tunables { psi_window_size_ms: window, ..t };
        let mut policy = Policy::new(PageSize::SMALL);
        let mut poller = Poller::new();
        let mut sample = Sample { now: MonoTime::from_millis(start), reclaim: None, ..first };
        let free = first.meminfo.free - first.meminfo.cma_free;
        let plenty = first.watermarks.is_none() && free >= Pages::ZERO;
        let looks = [Trigger::Event(Level::Medium)].into_iter().chain([Trigger::Poll; 1100]);
        for (round, trigger) in looks.enumerate() {
            if round > 0 && wakes[round - 1] && plenty {
                // With no watermark breached kswapd's work opens nothing.
                policy.admit(Trigger::KswapdWake, sample.now, None, &t);
                policy.evaluate(Trigger::KswapdWake, &sample, &t);
                let plan = policy.poll_plan(Trigger::KswapdWake, false);
                prop_assert_eq!(plan.request, PollRequest::NoChange);
            }
            policy.admit(trigger, sample.now, None, &t);
            // Nobody can be killed, and no counter moves.
            policy.evaluate(trigger, &sample, &t);
            let plan = policy.poll_plan(trigger, false);
            if round > 1 {
                prop_assert_eq!(plan.request, PollRequest::NoChange);
            }
            poller.polled(sample.now);
            poller.apply(plan, sample.now, t.psi_window_size_ms);
            match poller.next_poll_in(sample.now) {
                Some(ms) => sample.now = sample.now.plus_millis(ms),
                None => return Ok(()),
            }
        }
        prop_assert!(false, "still polling after 1100 looks");
    }
}
