//! Memory events under real exhaustion of the machine's memory: only for a machine that is there
//! to be exhausted.
#![allow(clippy::unwrap_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::memevents::pin_programs;
use lmkd::kernel::memevents::Event;
use lmkd::kernel::memevents::MemEvents;
use lmkd::kernel::memevents::ReclaimTracker;
use rustix::event::epoll;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Set by whoever runs this where the kernel's OOM killer may act.
const MAY_EXHAUST: &str = "LMKD_TEST_MAY_EXHAUST_MEMORY";
/// A directory on a bpf file system: programs are pinned there first, as at a device's boot.
const PIN_UNDER: &str = "LMKD_TEST_PIN_PROGRAMS_UNDER";
/// Bytes in the ring that AOSP's programs come with.
const AOSP_RING_SIZE: u32 = 4096;
/// Set in the process that takes all the memory.
const GLUTTON: &str = "LMKD_TEST_GLUTTON";

fn allocstalls() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap();
    let stalls = vmstat.lines().filter(|line| line.starts_with("allocstall"));
    stalls.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn eat_until_killed() {
    fs::write("/proc/self/oom_score_adj", "1000").unwrap();
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![0x5a_u8; 1 << 20]);
    }
}

#[derive(Default, Debug)]
struct Heard {
    wake_ups: u32,
    begins: u64,
    ends: u64,
    kswapd_wakes: u64,
    kswapd_sleeps: u64,
    losses: u64,
    longest_ms: i64,
}

#[test]
fn direct_reclaim_events_match_the_kernels_own_counters() {
    if std::env::var_os(GLUTTON).is_some() {
        return eat_until_killed();
    }
    if std::env::var_os(MAY_EXHAUST).is_none() {
        return eprintln!("skipped: set {MAY_EXHAUST} on a machine whose memory may be exhausted");
    }
    if let Some(dir) = std::env::var_os(PIN_UNDER) {
        fs::create_dir_all(&dir).unwrap();
        pin_programs(Path::new(&dir), AOSP_RING_SIZE).unwrap();
    }
    let mut events = match MemEvents::open(100) {
        Ok(events) => events,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&set, &events, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
    let mut tracker = ReclaimTracker::new();
    let mut heard = Heard::default();
    let stalls_before = allocstalls();
    let mut glutton = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "direct_reclaim_events_match_the_kernels_own_counters"])
        .env(GLUTTON, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut done = false;
    while !done {
        done = glutton.try_wait().unwrap().is_some();
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut list = Vec::with_capacity(1);
        let woken =
            epoll::wait(&set, rustix::buffer::spare_capacity(&mut list), Some(&timeout)).unwrap();
        heard.wake_ups += u32::from(woken > 0);
        let now = MonoTime::now();
        events.drain(now, |event| {
            tracker.apply(&event);
            match event {
                Event::DirectReclaimBegin { .. } => heard.begins += 1,
                Event::DirectReclaimEnd { .. } => heard.ends += 1,
                Event::KswapdWake { .. } => heard.kswapd_wakes += 1,
                Event::KswapdSleep { .. } => heard.kswapd_sleeps += 1,
                Event::Lost => heard.losses += 1,
                _ => {}
            }
        });
        if let Some(since) = tracker.at(now).direct_since {
            heard.longest_ms = heard.longest_ms.max(now.millis_since(since));
        }
    }
    let stalls = allocstalls() - stalls_before;
    glutton.wait().unwrap();
    println!("{heard:?}, allocstall {stalls}, stamped {}", events.is_stamped());
    // A kswapd that found nothing to reclaim the last time is not woken again.
    assert!(heard.kswapd_wakes > 0 || heard.begins > 0, "memory is exhausted");
    assert!(heard.wake_ups > 0, "and that is worth waking up for");
    assert_eq!(events.unexpected(), 0);
    // Our own ring has room for all of it. AOSP's holds 42 records, and then none can be counted.
    assert!(heard.losses == 0 || !events.is_stamped(), "{heard:?}");
    if heard.losses == 0 {
        assert_eq!(heard.begins, heard.ends);
        assert_eq!(heard.begins, stalls);
        assert_eq!(tracker.at(MonoTime::now()).direct_since, None);
    }
}
