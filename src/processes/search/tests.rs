use super::*;
use crate::kernel::vmstat::PageCounterFile;
use crate::processes::Record;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A shell that holds memory and takes more on demand.
struct Holder {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Holder {
    fn new(megabytes: u32) -> Self {
        let script = "while read -r mb; do
            [ $mb = 0 ] || x=$x$(head -c ${mb}M /dev/zero | tr '\\0' x); echo; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Self { child, out };
        holder.grow(megabytes);
        holder
    }

    fn grow(&mut self, megabytes: u32) {
        // What the shell needed to get there is free again once it has begun with the next line.
        for megabytes in [megabytes, 0] {
            writeln!(self.child.stdin.as_mut().unwrap(), "{megabytes}").unwrap();
            self.out.read_line(&mut String::new()).unwrap();
        }
    }

    fn pid(&self) -> Pid {
        Pid::new(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// So that adoption can find it among all processes of the machine.
    fn at(self, adj: i32) -> Self {
        std::fs::write(format!("/proc/{}/oom_score_adj", self.pid()), adj.to_string()).unwrap();
        self
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn adj(value: i32) -> OomScoreAdj {
    OomScoreAdj::new(value).unwrap()
}

fn proc() -> ProcDir {
    ProcDir::open(Path::new("/proc")).unwrap()
}

fn register(registry: &mut Registry, pid: Pid, at: i32, now: MonoTime) -> RecordId {
    registry.insert(Record::new(pid, 0, adj(at), now))
}

fn searcher(adopter: Option<Adopter>) -> Searcher {
    Searcher::with(adopter, PageSize::of_this_kernel(), 100)
}

/// A machine that lets the test wait does not decide what is the heaviest.
fn start(searcher: &mut Searcher, min_adj: OomScoreAdj, by_size: bool, swap_used: Kib) {
    searcher.start(min_adj, by_size, swap_used);
    searcher.scale.deadline = Some(MonoTime::now().plus_millis(60_000));
}

fn all(searcher: &mut Searcher, registry: &mut Registry) -> Vec<Pid> {
    searcher.first(registry, &proc(), usize::MAX).iter().map(|found| found.pid).collect()
}

#[test]
fn failures_go_on_with_the_same_adj_down_to_the_lowest_allowed() {
    let mut registry = Registry::with_capacity(8);
    let pid = |n| Pid::new(4_000_000 + n).unwrap();
    for (n, at) in [(1, 900), (2, 900), (3, 1000), (4, 500), (5, 499), (6, 900), (7, -1)] {
        register(&mut registry, pid(n), at, MonoTime::ZERO);
    }
    let mut searcher = searcher(None);
    start(&mut searcher, adj(500), false, Kib::ZERO);
    assert_eq!(all(&mut searcher, &mut registry), [3, 1, 2, 6, 4].map(pid));
    // A new search begins at the top again; a record that was removed is not missed.
    start(&mut searcher, adj(-1000), false, Kib::ZERO);
    let proc = proc();
    let first = searcher.next(&mut registry, &proc).unwrap();
    assert_eq!((first.pid, first.adj), (pid(3), adj(1000)));
    let Who::Registered(id) = first.who else { panic!() };
    registry.remove(id);
    assert_eq!(all(&mut searcher, &mut registry), [1, 2, 6, 4, 5].map(pid));
}

#[test]
fn where_the_user_would_notice_the_heaviest_goes_first() {
    let holders = [Holder::new(4), Holder::new(40), Holder::new(12)];
    let [light, heavy, middle] = [0, 1, 2].map(|n: usize| holders[n].pid());
    for (at, by_size) in [(200, false), (0, false), (201, true)] {
        for swap_used in [Kib::ZERO, Kib(1024), Kib(1 << 30)] {
            let mut registry = Registry::with_capacity(8);
            for holder in &holders {
                register(&mut registry, holder.pid(), at, MonoTime::ZERO);
            }
            let mut searcher = searcher(None);
            start(&mut searcher, adj(0), by_size, swap_used);
            assert_eq!(all(&mut searcher, &mut registry), [heavy, middle, light]);
            start(&mut searcher, adj(0), by_size, swap_used);
            assert_eq!(all(&mut searcher, &mut registry), [heavy, middle, light]);
        }
    }
    let mut registry = Registry::with_capacity(8);
    for holder in &holders {
        register(&mut registry, holder.pid(), 201, MonoTime::ZERO);
    }
    let mut searcher = searcher(None);
    start(&mut searcher, adj(0), false, Kib::ZERO);
    assert_eq!(all(&mut searcher, &mut registry), [light, heavy, middle]);
}

#[test]
fn a_size_known_from_before_does_not_hide_growth() {
    let mut holders = [Holder::new(30), Holder::new(1)];
    let mut registry = Registry::with_capacity(100);
    let mut searcher = searcher(None);
    let proc = proc();
    for holder in &holders {
        let id = register(&mut registry, holder.pid(), 0, MonoTime::ZERO);
        searcher.hold_size(&mut registry, &proc, id, false);
    }
    assert_eq!(registry.held_statm(), 2);
    let mut counters = PageCounterFile::open();
    let mut heaviest = || {
        searcher.know(counters.read());
        start(&mut searcher, adj(0), false, Kib::ZERO);
        searcher.next(&mut registry, &proc).unwrap().pid
    };
    assert_eq!(heaviest(), holders[0].pid());
    assert_eq!(heaviest(), holders[0].pid());
    holders[1].grow(60);
    assert_eq!(heaviest(), holders[1].pid());
}

#[test]
fn sizes_read_ahead_tell_who_is_likely_to_be_next() {
    let holders = [Holder::new(2), Holder::new(40), Holder::new(12)];
    let mut registry = Registry::with_capacity(8);
    let ids =
        [0, 1, 2].map(|n: usize| register(&mut registry, holders[n].pid(), 0, MonoTime::ZERO));
    register(&mut registry, Pid::new(4_000_000).unwrap(), 900, MonoTime::ZERO);
    let mut searcher = searcher(None);
    let proc = proc();
    assert!(!searcher.is_reading_ahead());
    let mut pass = |registry: &mut Registry| {
        searcher.read_ahead(registry, false);
        while searcher.is_reading_ahead() {
            searcher.read_some_ahead(registry, &proc);
        }
        searcher.likely_heaviest()
    };
    assert_eq!(pass(&mut registry), Some(ids[1]));
    assert!(registry.get(ids[1]).unwrap().size.unwrap().exact);
    registry.remove(ids[1]);
    assert_eq!(pass(&mut registry), Some(ids[2]));
    searcher.guess_heaviest(&registry, false);
    assert_eq!(searcher.likely_heaviest(), Some(ids[2]));
}

#[test]
fn a_process_that_is_gone_comes_last_and_ends_nothing() {
    let mut holders = [Holder::new(8), Holder::new(1), Holder::new(2)];
    let mut registry = Registry::with_capacity(8);
    let mut searcher = searcher(None);
    for holder in &holders {
        let id = register(&mut registry, holder.pid(), 100, MonoTime::ZERO);
        searcher.hold_size(&mut registry, &proc(), id, false);
    }
    holders[0].end();
    start(&mut searcher, adj(0), false, Kib::ZERO);
    let order = [2, 1, 0].map(|n: usize| holders[n].pid());
    assert_eq!(all(&mut searcher, &mut registry), order);
}

#[test]
fn size_files_are_held_only_where_sizes_decide_and_within_the_budget() {
    let holders = [Holder::new(1), Holder::new(1), Holder::new(1)];
    let mut registry = Registry::with_capacity(8);
    let searcher = Searcher::with(None, PageSize::of_this_kernel(), 1);
    let ids = [201, 200, 0].map(|at| {
        let place = usize::from(at < 201) + usize::from(at < 200);
        let id = register(&mut registry, holders[place].pid(), at, MonoTime::ZERO);
        searcher.hold_size(&mut registry, &proc(), id, false);
        id
    });
    let held = ids.map(|id| registry.get(id).unwrap().statm.is_some());
    assert_eq!(held, [false, true, false]);
    registry.remove(ids[1]);
    assert_eq!(registry.held_statm(), 0);
    searcher.hold_size(&mut registry, &proc(), ids[2], false);
    assert_eq!(registry.held_statm(), 1);
}

#[test]
fn some_descriptors_are_never_given_to_registered_processes() {
    assert_eq!(size::first_spare_descriptor(1024), 912);
    assert_eq!(size::first_spare_descriptor(41), 20);
    assert_eq!(size::first_spare_descriptor(u64::MAX), i32::MAX);
    let holder = Holder::new(1);
    let mut registry = Registry::with_capacity(1);
    let searcher = Searcher { first_spare: 0, ..searcher(None) };
    let id = register(&mut registry, holder.pid(), 0, MonoTime::ZERO);
    searcher.hold_size(&mut registry, &proc(), id, false);
    assert_eq!(registry.held_statm(), 0);
}

#[test]
fn registered_and_adopted_processes_share_one_order() {
    let young = Holder::new(1).at(973);
    let low = Holder::new(1).at(972);
    let mine = [young.pid(), low.pid()];
    let registered = Pid::new(4_000_001).unwrap();
    let order = |at, since| {
        let mut registry = Registry::with_capacity(8);
        register(&mut registry, registered, at, since);
        let mut searcher = searcher(Some(Adopter::new().unwrap()));
        start(&mut searcher, adj(970), false, Kib::ZERO);
        let mut found = all(&mut searcher, &mut registry);
        found.retain(|pid| mine.contains(pid) || *pid == registered);
        found
    };
    let [young, low] = mine;
    assert_eq!(order(974, MonoTime::now()), [registered, young, low]);
    assert_eq!(order(973, MonoTime::ZERO), [registered, young, low]);
    assert_eq!(order(973, MonoTime::now().plus_millis(1000)), [young, registered, low]);
    assert_eq!(order(971, MonoTime::ZERO), [young, low, registered]);
    assert_eq!(order(969, MonoTime::ZERO), [young, low]);
}

#[test]
fn a_registered_process_is_not_adopted_as_well() {
    let holder = Holder::new(1).at(967);
    let mut registry = Registry::with_capacity(8);
    register(&mut registry, holder.pid(), 5, MonoTime::ZERO);
    let mut searcher = searcher(Some(Adopter::new().unwrap()));
    start(&mut searcher, adj(960), false, Kib::ZERO);
    assert!(!all(&mut searcher, &mut registry).contains(&holder.pid()));
}

#[test]
fn the_longest_running_are_adopted_first_also_beyond_what_one_walk_keeps() {
    let holders: Vec<_> = (0..40).map(|_| Holder::new(0).at(963)).collect();
    let mut searcher = searcher(Some(Adopter::new().unwrap()));
    start(&mut searcher, adj(963), false, Kib::ZERO);
    let mut found = all(&mut searcher, &mut Registry::with_capacity(0));
    found.retain(|pid| holders.iter().any(|holder| holder.pid() == *pid));
    assert_eq!(found.len(), holders.len());
    let started = |pid: &Pid| proc().stat(pid.get()).unwrap().start_time;
    assert!(found.is_sorted_by_key(started));
}

#[test]
fn the_daemon_its_ancestors_init_kernel_threads_and_the_empty_are_spared() {
    let mut zombie = Command::new("true").spawn().unwrap();
    let zombie_pid = i32::try_from(zombie.id()).unwrap();
    let pidfd = crate::pidfd::PidFd::open(zombie_pid).unwrap();
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
    let heavy = Holder::new(20);
    let light = Holder::new(1);
    let mut searcher = searcher(Some(Adopter::new().unwrap()));
    start(&mut searcher, adj(0), false, Kib::ZERO);
    let proc = proc();
    let found = searcher.first(&mut Registry::with_capacity(0), &proc, usize::MAX);
    let place = |pid: i32| found.iter().position(|candidate| candidate.pid.get() == pid);
    let mut pid = i32::try_from(std::process::id()).unwrap();
    while pid > 0 {
        assert_eq!(place(pid), None, "{pid}");
        pid = proc.stat(pid).unwrap().ppid;
    }
    assert_eq!(place(1), None);
    assert_eq!(place(zombie_pid), None);
    assert!(found.iter().all(|c| !proc.stat(c.pid.get()).is_ok_and(|s| s.is_kernel_thread())));
    assert!(place(heavy.pid().get()).unwrap() < place(light.pid().get()).unwrap());
    let heavy = found[place(heavy.pid().get()).unwrap()];
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((heavy.adj.get() >= 0, heavy.uid), (true, me));
    let stat = proc.stat(heavy.pid.get()).unwrap();
    assert_eq!(heavy.who, Who::Adopted { start_time: stat.start_time });
    zombie.wait().unwrap();
}

#[test]
fn a_process_whose_leader_has_left_weighs_what_its_threads_hold() {
    // exit(2) for the leader alone; Debian's base system has a perl with threads.
    let number = libc::SYS_exit;
    let script = format!(
        "use threads; $| = 1; my $x = 'x' x (32 << 20); \
         threads->create(sub {{ print \"ready\\n\"; <STDIN>; exit }}); syscall({number}, 0);"
    );
    let child = Command::new("perl")
        .args(["-e", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: no perl");
        return;
    };
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let headless = Holder { child, out };
    if line != "ready\n" {
        eprintln!("skipped: perl without threads");
        return;
    }
    let proc = proc();
    // The thread may be ready before the leader has left.
    while proc.stat(headless.pid().get()).unwrap().state != b'Z' {
        std::thread::yield_now();
    }
    assert_eq!(proc.rss(headless.pid().get()), Ok(Pages::ZERO));
    let headless = headless.at(951);
    let other = Holder::new(8);
    for swap_used in [Kib::ZERO, Kib(1 << 20)] {
        let mut registry = Registry::with_capacity(2);
        let mut searcher = searcher(None);
        for pid in [headless.pid(), other.pid()] {
            let id = register(&mut registry, pid, 0, MonoTime::ZERO);
            searcher.hold_size(&mut registry, &proc, id, false);
        }
        start(&mut searcher, adj(0), false, swap_used);
        assert_eq!(all(&mut searcher, &mut registry), [headless.pid(), other.pid()]);
    }
    let mut searcher = searcher(Some(Adopter::new().unwrap()));
    start(&mut searcher, adj(951), false, Kib::ZERO);
    assert!(all(&mut searcher, &mut Registry::with_capacity(0)).contains(&headless.pid()));
}

/// A file system like /proc, with one process for each (resident, swapped) kB, from id 2 on.
struct FakeProc(std::path::PathBuf);

impl FakeProc {
    fn new(name: &str, sizes: &[(i64, i64)]) -> Self {
        let root = std::env::temp_dir().join(format!("lmkd-{name}-{}", std::process::id()));
        let page = PageSize::of_this_kernel();
        for (n, &(rss, swap)) in sizes.iter().enumerate() {
            let dir = root.join((n + 2).to_string());
            std::fs::create_dir_all(&dir).unwrap();
            let pages = Kib(rss).to_pages(page).get();
            std::fs::write(dir.join("statm"), format!("9 {pages} 0 0 0 0 0\n")).unwrap();
            let status = format!(
                "Name:\ta\nState:\tS (sleeping)\nTgid:\t{0}\nPid:\t{0}\nUid:\t0\t0\t0\t0\n\
                 VmRSS:\t{rss} kB\nVmSwap:\t{swap} kB\nThreads:\t1\n",
                n + 2
            );
            std::fs::write(dir.join("status"), status).unwrap();
        }
        Self(root)
    }

    fn open(&self) -> ProcDir {
        ProcDir::open(&self.0).unwrap()
    }
}

impl Drop for FakeProc {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_swapped_out_decides_who_is_heaviest() {
    // Resident memory alone would put them the other way round.
    let fake = FakeProc::new("swap-decides", &[(4096, 0), (1024, 2048), (512, 8192)]);
    let proc = fake.open();
    let mut registry = Registry::with_capacity(8);
    for n in 2..=4 {
        register(&mut registry, Pid::new(n).unwrap(), 100, MonoTime::ZERO);
    }
    let mut searcher = searcher(None);
    let mut order = |swap_used| {
        start(&mut searcher, adj(0), false, swap_used);
        let found = searcher.first(&mut registry, &proc, usize::MAX);
        found.iter().map(|found| found.pid.get()).collect::<Vec<_>>()
    };
    assert_eq!(order(Kib(10_240)), [4, 2, 3]);
    assert_eq!(order(Kib::ZERO), [2, 3, 4], "with no swap in use nobody is asked for his");
}
