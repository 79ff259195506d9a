//! Every condition reads as a sentence, met or not; every reason has its own name and number.

use super::*;

#[test]
fn each_rule_names_its_first_failing_condition_with_the_numbers() {
    let mut machine = Machine::new(Tunables::default());
    let verdict = machine.look(10_100, Trigger::Poll);
    let signals = verdict.signals.unwrap();
    let facts = Facts { signals: &signals, tunables: &machine.t, page: PageSize::SMALL };
    let said: Vec<String> = RULES
        .iter()
        .map(|rule| rule.first_failing(&facts).unwrap().said(facts, false).to_string())
        .collect();
    assert_eq!(
        said,
        [
            "not right after a kill",
            "not a critical pressure event (all tasks stalled 700ms of 1000ms)",
            "free swap 0kB >= 0kB",
            "free swap 0kB >= 0kB",
            "free memory 24000kB >= low watermark 8000kB",
            "free memory 24000kB >= low watermark 8000kB",
            "not in direct reclaim",
            "not in direct reclaim",
            "not after thrashing",
            "free memory 24000kB >= low watermark 8000kB",
        ]
    );
}

#[test]
fn the_conditions_that_rarely_fail_first_read_well_too() {
    let t = Tunables { lowmem_min_oom_score: 1001, ..Tunables::default() };
    let on = Tunables { direct_reclaim_threshold_ms: 5, ..t.clone() };
    let signals = Signals { thrashing_limit: 90, ..Signals::default() };
    let said = |condition: Condition, tunables: &Tunables| {
        let facts = Facts { signals: &signals, tunables, page: PageSize::SMALL };
        assert!(!condition.holds(&facts));
        condition.said(facts, false).to_string()
    };
    assert_eq!(said(Condition::LowMemKillsOn, &t), "lowmem_min_oom_score 1001 > 1000");
    assert_eq!(said(Condition::DirectReclaimLong, &t), "direct_reclaim_threshold_ms is 0");
    assert_eq!(said(Condition::DirectReclaimLong, &on), "direct reclaim for 0ms <= 5ms");
    assert_eq!(said(Condition::ThrashingOverLimit, &t), "thrashing 0% <= 90%");
    assert_eq!(said(Condition::ThrashingOverSetLimit, &t), "thrashing 0% <= 100%");
    assert_eq!(said(Condition::SwapUsed, &t), "swap utilisation 0% <= 100%");
    assert_eq!(said(Condition::FilecacheSmall, &t), "file cache 0kB >= 0kB");
}

#[test]
fn the_rules_stand_in_their_order_under_their_numbers_and_names() {
    let listed: Vec<(i32, &str)> =
        RULES.iter().map(|rule| (rule.reason.number(), rule.reason.name())).collect();
    assert_eq!(
        listed,
        [
            (0, "PRESSURE_AFTER_KILL"),
            (1, "NOT_RESPONDING"),
            (2, "LOW_SWAP_AND_THRASHING"),
            (3, "LOW_MEM_AND_SWAP"),
            (6, "LOW_MEM_AND_SWAP_UTIL"),
            (4, "LOW_MEM_AND_THRASHING"),
            (5, "DIRECT_RECL_AND_THRASHING"),
            (9, "DIRECT_RECL_STUCK"),
            (7, "LOW_FILECACHE_AFTER_THRASHING"),
            (8, "LOW_MEM"),
        ]
    );
    assert_eq!((KillReason::Vendor(3).number(), KillReason::Vendor(3).name()), (1003, "VENDOR"));
    assert_eq!((KillReason::Minfree.number(), KillReason::Minfree.name()), (-1, "MINFREE"));
    assert_eq!((KillReason::Watchdog.number(), KillReason::Watchdog.name()), (-1, "WATCHDOG"));
}
