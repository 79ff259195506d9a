//! From the trigger to SIGKILL and to what is said about it, the heap is never touched: here it
//! ends the test. The pieces are the real ones, in the order of the loop; so are the victims.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::control::wire::KillNotice;
use lmkd::control::wire::KillStat;
use lmkd::kernel::process::ProcDir;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::kill::ledger::Moments;
use lmkd::kill::ledger::Outcome;
use lmkd::kill::FlightId;
use lmkd::kill::Killer;
use lmkd::kill::Victim;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::pidfd::PidFd;
use lmkd::policy::Admission;
use lmkd::policy::Policy;
use lmkd::policy::Trigger;
use lmkd::policy::Why;
use lmkd::processes::Pid;
use lmkd::processes::Record;
use lmkd::processes::Registry;
use lmkd::processes::Searcher;
use lmkd::processes::Who;
use lmkd::report::EventLog;
use lmkd::report::KillInfo;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::path::Path;
use std::process::Child;
use std::process::Command;

thread_local! {
    /// Whether this thread may not use the heap; the test harness uses it on others.
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

struct Forbidding;

impl Forbidding {
    fn check(what: &[u8]) {
        if ARMED.get() {
            // SAFETY: `what` is as long as it says. Printing in any other way might allocate.
            unsafe { libc::write(2, what.as_ptr().cast(), what.len()) };
            std::process::abort();
        }
    }
}

// SAFETY: every call goes to the system allocator unchanged or ends the process; the flag is a
// plain thread-local cell without a destructor, which itself never allocates.
unsafe impl GlobalAlloc for Forbidding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(b"memory is allocated on the way to a kill\n");
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::check(b"memory is freed on the way to a kill\n");
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Forbidding = Forbidding;

fn without_the_heap<T>(run: impl FnOnce() -> T) -> T {
    ARMED.set(true);
    let result = run();
    ARMED.set(false);
    result
}

/// The parts of the loop that a kill needs.
struct Loop {
    proc: ProcDir,
    sampler: Sampler,
    sample: Sample,
    tunables: Tunables,
    policy: Policy,
    registry: Registry,
    searcher: Searcher,
    killer: Killer,
    event_log: EventLog,
}

impl Loop {
    fn new(adopt: bool) -> Self {
        lmkd::logging::init(true);
        let page = PageSize::of_this_kernel();
        let psi = Path::new("/proc/pressure/memory");
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        Self {
            proc: ProcDir::open(Path::new("/proc")).unwrap(),
            sampler: Sampler::open(Path::new("/proc"), psi, page),
            sample: Sample::default(),
            tunables: Tunables::default(),
            policy: Policy::new(page),
            registry: Registry::with_capacity(64),
            searcher: Searcher::new(adopt),
            killer: Killer::start(),
            event_log: EventLog::Json(null.into()),
        }
    }

    fn register(&mut self, child: &Child, adj: i32) {
        let pid = Pid::new(child.id().cast_signed()).unwrap();
        let adj = OomScoreAdj::new(adj).unwrap();
        let mut record = Record::new(pid, 10_001, adj, MonoTime::now());
        record.pidfd = Some(PidFd::open(pid.get()).unwrap());
        let id = self.registry.insert(record);
        self.searcher.hold_size(&mut self.registry, &self.proc, id);
    }

    /// A vendor's wish is a trigger that leads to a kill on a machine with memory to spare.
    fn kill(&mut self) -> FlightId {
        let page = PageSize::of_this_kernel();
        let trigger = Trigger::Vendor { reason: 1, min_adj: 0 };
        let woken = MonoTime::now();
        let admission = self.policy.admit(trigger, woken, None, &self.tunables);
        let Admission::Evaluate { watermarks } = admission else { panic!("{admission:?}") };
        self.sampler.read(woken, watermarks, &mut self.sample).unwrap();
        let verdict = self.policy.evaluate(trigger, &self.sample, &self.tunables);
        let cause = verdict.cause.unwrap();
        let decided = MonoTime::now();

        self.searcher.start(cause.min_adj, false, Kib::ZERO);
        // Nobody may be killed but children of the test.
        let (candidate, record) = loop {
            let candidate = self.searcher.next(&mut self.registry, &self.proc).unwrap();
            if let Who::Registered(id) = candidate.who {
                break (candidate, id);
            }
        };
        let record = self.registry.remove(record).unwrap();
        let pidfd = record.pidfd.as_ref().unwrap().try_clone().unwrap();
        let pid = candidate.pid.get();
        let status = self.proc.status(pid).unwrap();
        let name = self.proc.name(pid).unwrap();
        let (rss, swap) = (status.rss.unwrap(), status.swap.unwrap_or_default());
        let stat = self.proc.stat(pid).ok();
        let (uid, adj, threads) = (candidate.uid, candidate.adj, status.threads);
        let victim = Victim { pid, uid, adj, name, rss, swap, threads, stat };
        let moments = Moments { woken, decided, ..Moments::default() };
        let id = self.killer.kill(&self.proc, victim, pidfd, cause, moments).unwrap();
        self.policy.note_kill(&cause, &self.tunables);

        let signals = verdict.signals.unwrap_or_default();
        let (tunables, sample) = (&self.tunables, &self.sample);
        let why = Why { cause: &cause, signals: &signals, tunables, sample, page };
        log::info!("Kill '{name}' ({pid}); reason: {why}");
        let info = KillInfo {
            pid,
            uid: candidate.uid,
            adj: candidate.adj,
            min_adj: cause.min_adj,
            rss,
            swap,
            reason: Some(cause.reason),
            meminfo: sample.meminfo,
            page,
            wakeup: self.policy.wakeups(),
            gpu: Kib::ZERO,
            thrashing: signals.thrashing,
            max_thrashing: signals.max_thrashing,
            pressure: self.sampler.read_pressure(),
        };
        self.event_log.write(&info).unwrap();
        let packet = KillStat { uid: candidate.uid, ..KillStat::default() }.encode(name.as_bytes());
        assert!(!packet.as_bytes().is_empty());
        let notice = KillNotice { pid, uid: candidate.uid, rss_kb: 1 }.encode();
        assert_eq!(notice.len(), 16);
        id
    }

    /// Once the victim has exited.
    fn prove(&mut self, id: FlightId) -> Option<Outcome> {
        let now = MonoTime::now();
        self.killer.exited(id, now).expect("the first time");
        self.killer.prove(id, now).and_then(|(_, outcome)| outcome)
    }
}

fn children(count: usize) -> Vec<Child> {
    (0..count).map(|_| Command::new("sleep").arg("600").spawn().unwrap()).collect()
}

/// Kills all children, and ends those whose turn did not come.
fn kill_all(mut parts: Loop, adjs: &[i32]) {
    let mut children = children(adjs.len());
    for (child, adj) in children.iter().zip(adjs) {
        parts.register(child, *adj);
    }
    for _ in adjs {
        let id = without_the_heap(|| parts.kill());
        let pid = parts.killer.flight(id).unwrap().victim.pid;
        let at = children.iter().position(|child| child.id().cast_signed() == pid).unwrap();
        children.swap_remove(at).wait().unwrap();
        let outcome = without_the_heap(|| parts.prove(id));
        assert!(matches!(outcome, None | Some(Outcome::Killed)), "{outcome:?}");
    }
    assert_eq!(usize::try_from(parts.killer.ledger.total()).unwrap(), adjs.len());
}

#[test]
fn a_kill_in_the_order_of_registration_never_touches_the_heap() {
    kill_all(Loop::new(false), &[900, 950, 900, 800, 700]);
}

#[test]
fn a_kill_by_size_never_touches_the_heap() {
    kill_all(Loop::new(false), &[200, 100, 200, 0, 0]);
}

#[test]
fn a_kill_among_all_processes_of_the_machine_never_touches_the_heap() {
    kill_all(Loop::new(true), &[1000; 4]);
}
