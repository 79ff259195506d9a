//! Each reason once, with the sentence that the kill line gives.

use super::*;
use crate::kernel::ReclaimEvents;

fn killed(machine: &mut Machine, trigger: Trigger) -> (i32, i32, String) {
    let (reason, min_adj, why) = machine.kill(10_100, trigger);
    (reason.number(), min_adj, why)
}

#[test]
fn reason_0_pressure_after_kill() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_050, Trigger::Poll);
    machine.sample.meminfo.free = Pages(999);
    let why = "right after a kill, free memory 3996kB < min watermark 4000kB";
    assert_eq!(killed(&mut machine, Trigger::Poll), (0, 0, why.into()));
}

#[test]
fn reason_1_not_responding() {
    let mut machine = Machine::new(Tunables::default());
    let why = "a critical pressure event (all tasks stalled 700ms of 1000ms)";
    let event = Trigger::Event(Level::Critical);
    assert_eq!(killed(&mut machine, event), (1, 0, why.into()));
}

#[test]
fn reason_2_low_swap_and_thrashing() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.swap_total = Pages(10_000);
    machine.sample.meminfo.swap_free = Pages(999);
    machine.sample.vmstat.refault = 10_100;
    let why = "free swap 3996kB < 4000kB, thrashing 101% > 100%";
    assert_eq!(killed(&mut machine, Trigger::Poll), (2, 201, why.into()));
}

#[test]
fn reason_3_low_mem_and_swap() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.swap_total = Pages(10_000);
    machine.sample.meminfo.swap_free = Pages(999);
    machine.sample.meminfo.free = Pages(1999);
    let why = "free swap 3996kB < 4000kB, free memory 7996kB < low watermark 8000kB";
    assert_eq!(killed(&mut machine, Trigger::Poll), (3, 201, why.into()));
}

#[test]
fn reason_4_low_mem_and_thrashing() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.sample.vmstat.refault = 10_100;
    let why = "free memory 7996kB < low watermark 8000kB, thrashing 101% > 100%";
    assert_eq!(killed(&mut machine, Trigger::Poll), (4, 201, why.into()));
}

#[test]
fn reason_5_direct_reclaim_and_thrashing() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.vmstat.pgscan_direct = 1;
    machine.sample.vmstat.refault = 10_100;
    let why = "in direct reclaim, thrashing 101% > 100%";
    assert_eq!(killed(&mut machine, Trigger::Poll), (5, 201, why.into()));
}

#[test]
fn reason_6_low_mem_and_swap_util() {
    let mut machine = Machine::new(Tunables { swap_util_max: 50, ..Tunables::default() });
    machine.sample.meminfo.free = Pages(1999);
    machine.sample.meminfo.inactive_file = Pages(9999);
    machine.sample.meminfo.swap_total = Pages(10_000);
    machine.sample.meminfo.swap_free = Pages(5000);
    machine.sample.meminfo.active_anon = Pages(4803);
    let why = "free memory 7996kB < low watermark 8000kB, swap utilisation 51% > 50%";
    assert_eq!(killed(&mut machine, Trigger::Poll), (6, 0, why.into()));
}

#[test]
fn reason_7_low_filecache_after_thrashing() {
    let mut machine = Machine::new(Tunables { filecache_min_kb: 39_997, ..Tunables::default() });
    machine.sample.vmstat.pgscan_direct = 1;
    machine.sample.vmstat.refault = 10_100;
    machine.look(10_050, Trigger::Poll);
    let why = "after thrashing, file cache 39996kB < 39997kB";
    assert_eq!(killed(&mut machine, Trigger::Poll), (7, 201, why.into()));
}

#[test]
fn reason_8_low_mem() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    let why = "free memory 7996kB < low watermark 8000kB, lowmem_min_oom_score 701 <= 1000";
    assert_eq!(killed(&mut machine, Trigger::Poll), (8, 701, why.into()));
}

#[test]
fn reason_9_direct_reclaim_stuck() {
    let t = Tunables { direct_reclaim_threshold_ms: 50, ..Tunables::default() };
    let mut machine = Machine::new(t);
    let since = Some(MonoTime::from_millis(10_049));
    machine.sample.reclaim = Some(ReclaimEvents { direct_since: since, kswapd_awake: true });
    let why = "in direct reclaim, direct reclaim for 51ms > 50ms";
    assert_eq!(killed(&mut machine, Trigger::Poll), (9, 0, why.into()));
}

#[test]
fn a_vendor_kill_has_its_own_number() {
    let mut machine = Machine::new(Tunables::default());
    let trigger = Trigger::Vendor { reason: 7, min_adj: 900 };
    let why = "the vendor's kernel asks (7)";
    assert_eq!(killed(&mut machine, trigger), (1007, 900, why.into()));
}

#[test]
fn a_minfree_level_has_no_number() {
    let mut machine = Machine::new(Tunables { use_minfree_levels: true, ..Tunables::default() });
    machine.policy.set_minfree(MinfreeTable::from_pairs([(3001, -5), (1, 900)]));
    machine.sample.meminfo.cached = Pages(100);
    let why = "free memory 12000kB and file cache 400kB are below a minfree level";
    assert_eq!(killed(&mut machine, Trigger::Poll), (-1, 0, why.into()));
}

#[test]
fn nothing_left_to_reclaim_and_a_stall_are_named_too() {
    let mut machine = Machine::new(Tunables { stall_limit_critical: 80, ..Tunables::default() });
    machine.sample.meminfo.free = Pages(1999);
    machine.sample.vmstat.nr_active_file = 0;
    machine.sample.vmstat.nr_inactive_file = 10;
    machine.sample.stall = Some(Stall { full_avg10_centi: 8507 });
    let why = "free memory 7996kB < low watermark 8000kB, lowmem_min_oom_score 701 <= 1000, \
               nothing left to reclaim (file cache 40kB + free swap 0kB < high watermark 12000kB), \
               all tasks stalled 85.07% of 10s > 80%";
    assert_eq!(killed(&mut machine, Trigger::KswapdWake), (8, 0, why.into()));
}
