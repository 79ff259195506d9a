//! Against the running kernel: its verifier, its ring, its tracepoints. Without the right to use
//! bpf(2) they say so and pass.
#![allow(clippy::unwrap_used)]

use super::error::OpenError;
use super::record::Event;
use super::record::Kind;
use super::source;
use super::source::Tracepoint;
use super::source::TRACEPOINTS;
use super::tracker::ReclaimTracker;
use super::MemEvents;
use crate::clock::MonoTime;
use crate::sys::bpf;
use rustix::event::epoll;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

const SPACING_MS: u32 = 60_000;

/// Changes of the zones reach every ring on the machine, so one test at a time makes them, and the
/// tests that count records do without.
static ZONES: Mutex<()> = Mutex::new(());

fn without_zones() -> &'static [Tracepoint] {
    &TRACEPOINTS[..4]
}

/// Our own programs at their tracepoints, and a way to run each by hand.
struct Bench {
    events: MemEvents,
    programs: Vec<(Kind, OwnedFd)>,
}

impl Bench {
    fn open(tracepoints: &[Tracepoint]) -> Option<Self> {
        match source::load_own(SPACING_MS, tracepoints) {
            Ok((events, programs)) => Some(Self { events, programs }),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// Passes a tracepoint by hand; the record carries this thread's id.
    fn run(&self, kind: Kind, args: &[u64]) {
        let (_, program) = self.programs.iter().find(|(of, _)| *of == kind).unwrap();
        bpf::run_raw_tracepoint(program.as_fd(), args).unwrap();
    }

    /// Events that wait, without those of other threads' real reclaim.
    fn drain(&mut self) -> Vec<Event> {
        let me = thread_id();
        let mut all = Vec::new();
        self.events.drain(MonoTime::now(), |event| all.push(event));
        all.retain(|event| match event {
            Event::DirectReclaimBegin { task, .. } | Event::DirectReclaimEnd { task } => {
                task.is_some_and(|task| task.get() == me)
            }
            Event::KswapdWake { node, .. } | Event::KswapdSleep { node } => *node >= FAKE_NODE,
            _ => true,
        });
        all
    }
}

/// More nodes than any machine that runs these tests.
const FAKE_NODE: u32 = 1000;

fn thread_id() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()
}

fn begin_args() -> [u64; 2] {
    [0, 0]
}

fn epoll_on(events: &MemEvents) -> OwnedFd {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(0);
    epoll::add(&set, events, data, epoll::EventFlags::IN).unwrap();
    set
}

/// Whether the set is woken within `millis`.
fn wakes(set: &OwnedFd, millis: i64) -> bool {
    let timeout =
        rustix::time::Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
    let mut list = Vec::with_capacity(1);
    epoll::wait(set, rustix::buffer::spare_capacity(&mut list), Some(&timeout)).unwrap() > 0
}

/// Long enough for any machine; a test that passes never waits it out.
const AT_LAST_MS: i64 = 10_000;

#[test]
fn the_verifier_takes_every_program_and_the_record_comes_through_whole() {
    let _alone = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bench) = Bench::open(&TRACEPOINTS) else { return };
    let before = MonoTime::now();
    bench.run(Kind::DirectReclaimBegin, &begin_args());
    bench.run(Kind::KswapdWake, &[1007, 2, 3]);
    bench.run(Kind::KswapdSleep, &[1007]);
    bench.run(Kind::DirectReclaimEnd, &[32]);
    let after = MonoTime::now();
    let task = std::num::NonZeroU32::new(thread_id());
    let events = bench.drain();
    let [Event::DirectReclaimBegin { task: began, at }, Event::KswapdWake { node: 1007, at: woke }, Event::KswapdSleep { node: 1007 }, Event::DirectReclaimEnd { task: ended }] =
        events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((began, ended), (task, task));
    assert!(before <= at && at <= woke && woke <= after);
    assert_eq!(bench.events.unexpected(), 0);
    assert!(bench.events.is_stamped());
    assert!(bench.drain().is_empty());
}

#[test]
fn a_full_ring_is_reported_once_and_the_next_events_are_whole_again() {
    let Some(mut bench) = Bench::open(without_zones()) else { return };
    let mut tracker = ReclaimTracker::new();
    bench.run(Kind::DirectReclaimBegin, &begin_args());
    for _ in 0..1000 {
        bench.run(Kind::KswapdSleep, &[1001]);
    }
    bench.run(Kind::DirectReclaimEnd, &[0]);
    let events = bench.drain();
    assert_eq!(events.last(), Some(&Event::Lost));
    assert!((600..=683).contains(&events.len()), "{}", events.len());
    events.iter().for_each(|event| tracker.apply(event));
    assert_eq!(tracker.at(MonoTime::now()).direct_since, None);
    assert_eq!(bench.events.lost(), 1);
    // Around the ring a few times more: records wrap at every place.
    for round in 0..40 {
        for _ in 0..50 + round {
            bench.run(Kind::KswapdSleep, &[1002]);
        }
        let events = bench.drain();
        assert_eq!(events, vec![Event::KswapdSleep { node: 1002 }; 50 + round]);
    }
    assert_eq!((bench.events.lost(), bench.events.unexpected()), (1, 0));
}

#[test]
fn a_ring_that_fills_up_while_it_is_read_is_noticed_without_a_count_of_losses() {
    let Some(bench) = Bench::open(without_zones()) else { return };
    let Bench { mut events, programs } = bench;
    let (_, sleep) = programs.iter().find(|(of, _)| *of == Kind::KswapdSleep).unwrap();
    let pass = || bpf::run_raw_tracepoint(sleep.as_fd(), &[1001]).unwrap();
    events.shared = None;
    pass();
    let (mut heard, mut lost) = (0, 0);
    events.drain(MonoTime::now(), |event| {
        if heard == 0 {
            (0..1000).for_each(|_| pass());
        }
        heard += 1;
        lost += u32::from(event == Event::Lost);
    });
    assert_eq!((lost, events.lost()), (1, 1));
    (0..600).for_each(|_| pass());
    events.drain(MonoTime::now(), |event| assert_ne!(event, Event::Lost));
}

#[test]
fn only_what_matters_wakes_and_only_once_per_spacing() {
    let Some(mut bench) = Bench::open(without_zones()) else { return };
    let set = epoll_on(&bench.events);
    assert!(!wakes(&set, 0));
    bench.run(Kind::DirectReclaimEnd, &[0]);
    bench.run(Kind::KswapdSleep, &[1001]);
    assert!(!wakes(&set, 20), "the end of reclaim wakes nobody");
    bench.run(Kind::KswapdWake, &[1001, 0, 0]);
    assert!(wakes(&set, AT_LAST_MS), "scarcity wakes, whatever lies unread before it");
    assert_eq!(bench.drain().len(), 3);
    assert!(!wakes(&set, 0));
    bench.run(Kind::KswapdWake, &[1001, 0, 0]);
    assert!(!wakes(&set, 20), "not twice within the spacing");
    bench.run(Kind::DirectReclaimBegin, &begin_args());
    assert!(wakes(&set, AT_LAST_MS), "direct reclaim has a spacing of its own");
    assert_eq!(bench.drain().len(), 2);
    for _ in 0..400 {
        bench.run(Kind::KswapdSleep, &[1001]);
    }
    assert!(wakes(&set, AT_LAST_MS), "so does a ring that is half full");
    assert_eq!(bench.drain().len(), 400);
}

/// Has the kernel compute its reserves again, from the same settings. False if not permitted.
fn recompute_zone_reserves() -> bool {
    let path = "/proc/sys/vm/watermark_scale_factor";
    let written = fs::read(path).and_then(|same| fs::write(path, same));
    if let Err(error) = &written {
        eprintln!("skipped: {path}: {error}");
    }
    written.is_ok()
}

#[test]
fn a_change_of_the_zones_is_heard() {
    let _alone = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bench) = Bench::open(&TRACEPOINTS) else { return };
    if !bench.events.has_zoneinfo_events() {
        return eprintln!(
            "skipped: no tracepoint mm_calculate_totalreserve_pages before Linux 6.16"
        );
    }
    if recompute_zone_reserves() {
        assert!(bench.drain().contains(&Event::UpdateZoneinfo));
    }
}

#[test]
fn changes_of_the_zones_wait_for_a_reader() {
    let _alone = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bench) = Bench::open(&TRACEPOINTS[5..]) else { return };
    let set = epoll_on(&bench.events);
    for _ in 0..10 {
        if !recompute_zone_reserves() {
            return eprintln!("skipped: the zones cannot be made to change");
        }
    }
    assert!(!wakes(&set, 0), "nobody reads watermarks until there is something to decide");
    if bench.events.has_zoneinfo_events() {
        assert!(bench.drain().contains(&Event::UpdateZoneinfo));
    }
}

/// A small memory cgroup (version 1), removed again at the end.
struct SmallGroup(std::path::PathBuf);

impl SmallGroup {
    fn make(limit: u64) -> std::io::Result<Self> {
        let name = format!("lmkd-memevents-{}-{}", std::process::id(), thread_id());
        let group = Self(Path::new("/sys/fs/cgroup/memory").join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join("memory.limit_in_bytes"), limit.to_string())?;
        Ok(group)
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("memory.force_empty"), "0");
        let _ = fs::remove_dir(&self.0);
    }
}

/// Writes a file, inside a group, that does not fit into its limit.
struct Filler {
    child: Child,
    file: std::path::PathBuf,
}

impl Filler {
    fn start(group: &SmallGroup) -> Self {
        let name = format!("lmkd-memevents-{}-{}", std::process::id(), thread_id());
        let file = std::env::temp_dir().join(name);
        let child = Command::new("sh")
            .args([
                "-c",
                "echo $$ >\"$1\" && exec dd if=/dev/zero of=\"$2\" bs=1M count=48 status=none",
            ])
            .arg("sh")
            .arg(group.0.join("cgroup.procs"))
            .arg(&file)
            .spawn()
            .unwrap();
        Self { child, file }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// Reclaim inside a cgroup passes tracepoints of its own, with the same arguments as those of
/// direct reclaim; and other than that it can be provoked without exhausting the machine.
const CGROUP_RECLAIM: [Tracepoint; 2] = [
    Tracepoint {
        kind: Kind::DirectReclaimEnd,
        group: "vmscan",
        name: c"mm_vmscan_memcg_reclaim_end",
        optional: false,
    },
    Tracepoint {
        kind: Kind::DirectReclaimBegin,
        group: "vmscan",
        name: c"mm_vmscan_memcg_reclaim_begin",
        optional: false,
    },
];

#[test]
fn real_reclaim_begins_and_ends_in_the_task_that_does_it() {
    let Some(bench) = Bench::open(&CGROUP_RECLAIM) else { return };
    let Ok(group) = SmallGroup::make(8 << 20) else {
        return eprintln!("skipped: no memory cgroup of version 1");
    };
    let before = MonoTime::now();
    let mut filler = Filler::start(&group);
    let pid = filler.child.id();
    let (mut events, mut tracker) = (bench.events, ReclaimTracker::new());
    let (mut begins, mut ends) = (0u32, 0u32);
    let mut longest = 0;
    let set = epoll_on(&events);
    loop {
        let done = filler.child.try_wait().unwrap().is_some();
        let _ = wakes(&set, 5);
        events.drain(MonoTime::now(), |event| match event {
            Event::DirectReclaimBegin { task, at } if task.is_some_and(|t| t.get() == pid) => {
                assert!(at >= before && at <= MonoTime::now());
                tracker.apply(&event);
                begins += 1;
            }
            Event::DirectReclaimEnd { task } if task.is_some_and(|t| t.get() == pid) => {
                let since = tracker.at(MonoTime::now()).direct_since.unwrap();
                longest = longest.max(MonoTime::now().micros_since(since));
                tracker.apply(&event);
                ends += 1;
            }
            Event::Lost => panic!("lost"),
            _ => {}
        });
        if done {
            break;
        }
    }
    eprintln!("{begins} reclaims, longest {longest} us until heard of");
    assert!(begins > 0);
    assert_eq!(begins, ends);
    assert_eq!(tracker.at(MonoTime::now()).direct_since, None);
}

#[test]
fn reclaim_inside_a_cgroup_is_not_the_machines() {
    let Some(bench) = Bench::open(without_zones()) else { return };
    let Ok(group) = SmallGroup::make(8 << 20) else {
        return eprintln!("skipped: no memory cgroup of version 1");
    };
    let mut filler = Filler::start(&group);
    let pid = filler.child.id();
    let status = filler.child.wait().unwrap();
    let failures = fs::read_to_string(group.0.join("memory.failcnt")).unwrap();
    assert!(status.success());
    assert_ne!(failures.trim(), "0", "the group was at its limit");
    let mut events = bench.events;
    events.drain(MonoTime::now(), |event| {
        if let Event::DirectReclaimBegin { task, .. } = event {
            assert_ne!(task.map(std::num::NonZeroU32::get), Some(pid), "it reclaimed its own");
        }
    });
}

#[test]
fn programs_pinned_under_aosps_names_are_found_attached_and_heard() {
    let _alone = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    crate::testing::with_mounts(
        "mount -t bpf bpf /sys/fs/bpf && mount -t tracefs tracefs /sys/kernel/tracing",
        "kernel::memevents::tests::programs_pinned_under_aosps_names_are_found_attached_and_heard",
        listen_to_pinned_programs,
    );
}

fn listen_to_pinned_programs() {
    let dir = Path::new("/sys/fs/bpf/memevents");
    let found = source::open_pinned(&[dir], &[]).map(drop);
    assert_eq!(found, Err(OpenError::NotLoadedYet), "as early in a device's boot");
    fs::create_dir(dir).unwrap();
    if let Err(errno) = super::pin_programs(dir, 64 * 1024) {
        return eprintln!("skipped: pinning programs: {errno}");
    }
    let mut events = MemEvents::open(SPACING_MS).unwrap();
    assert!(!events.is_stamped());
    assert!(!events.has_vendor_kills(), "this kernel has no such tracepoint");
    if !events.has_zoneinfo_events() {
        return eprintln!(
            "skipped: no tracepoint mm_calculate_totalreserve_pages before Linux 6.16"
        );
    }
    let set = epoll_on(&events);
    let mut heard = Vec::new();
    if recompute_zone_reserves() {
        assert!(wakes(&set, AT_LAST_MS));
        events.drain(MonoTime::now(), |event| heard.push(event));
        assert!(heard.contains(&Event::UpdateZoneinfo), "{heard:?}");
        assert_eq!(events.unexpected(), 0);
    }
    // What nobody has read when a reader comes is not news.
    assert!(recompute_zone_reserves());
    drop(events);
    let mut again = MemEvents::open(SPACING_MS).unwrap();
    heard.clear();
    again.drain(MonoTime::now(), |event| heard.push(event));
    assert!(!heard.contains(&Event::UpdateZoneinfo), "{heard:?}");
    // A ring without room for another record may have lost some.
    for _ in 0..800 {
        assert!(recompute_zone_reserves());
    }
    again.drain(MonoTime::now(), |event| heard.push(event));
    assert_eq!(heard.last(), Some(&Event::Lost));
    assert_eq!(again.lost(), 1);
}
