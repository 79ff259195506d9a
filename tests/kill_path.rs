//! From the trigger to SIGKILL and to what is said about it, the heap is never touched: here it
//! ends the test. The pieces are the real ones, in the order of the loop; so are the victims.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod heap;

use heap::without_the_heap;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::control::wire::KillNotice;
use lmkd::control::wire::KillStat;
use lmkd::kernel::process::ProcDir;
use lmkd::kernel::process::Status;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::kill::ledger::Moments;
use lmkd::kill::ledger::Outcome;
use lmkd::kill::raise::Threads;
use lmkd::kill::FlightId;
use lmkd::kill::Killer;
use lmkd::kill::Victim;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::pidfd::PidFd;
use lmkd::policy::Admission;
use lmkd::policy::Policy;
use lmkd::policy::Trigger;
use lmkd::policy::Why;
use lmkd::processes::Names;
use lmkd::processes::Pid;
use lmkd::processes::Prepared;
use lmkd::processes::Ready;
use lmkd::processes::Record;
use lmkd::processes::Registry;
use lmkd::processes::Searcher;
use lmkd::processes::Who;
use lmkd::recorder::few::Few;
use lmkd::recorder::few::Text;
use lmkd::recorder::Act;
use lmkd::recorder::Journal;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Seen;
use lmkd::report::EventLog;
use lmkd::report::KillInfo;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use std::path::Path;
use std::process::Child;
use std::process::Command;

/// The parts of the loop that a kill needs.
struct Loop {
    proc: ProcDir,
    sampler: Sampler,
    sample: Sample,
    tunables: Tunables,
    policy: Policy,
    registry: Registry,
    searcher: Searcher,
    ready: Ready,
    killer: Killer,
    event_log: EventLog,
    journal: Journal,
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
            ready: Ready::new(Names::start()),
            killer: Killer::start(),
            event_log: EventLog::Json(null.into()),
            journal: Journal::new(0).unwrap(),
        }
    }

    fn register(&mut self, child: &Child, adj: i32) {
        let pid = Pid::new(child.id().cast_signed()).unwrap();
        let adj = OomScoreAdj::new(adj).unwrap();
        let mut record = Record::new(pid, 10_001, adj, MonoTime::now());
        record.pidfd = Some(PidFd::open(pid.get()).unwrap());
        let id = self.registry.insert(record);
        self.searcher.hold_size(&mut self.registry, &self.proc, id, false);
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
        let pid = candidate.pid.get();
        let pidfd = self.registry.get_mut(record).unwrap().pidfd.take().unwrap();
        // Every other one is not prepared, as if it had become next just now.
        let prepared = self.ready.get(record).filter(|_| pid % 2 == 0);
        let status = prepared.map_or_else(|| self.proc.status(pid), Prepared::status).unwrap();
        let name = prepared
            .and_then(|prepared| prepared.name(&status))
            .or_else(|| self.ready.name_now(pid, Some(record), &status))
            .unwrap_or_else(|| status.short_name());
        let (rss, swap) = self.proc.memory(pid, &status).unwrap();
        let stat = prepared.map_or_else(|| self.proc.stat(pid), Prepared::stat).ok();
        let (uid, adj) = (candidate.uid, candidate.adj);
        let Status { state, threads, .. } = status;
        let victim = Victim { pid, uid, adj, name, state, rss, swap, threads, stat, group: None };
        let moments = Moments { woken, decided, ..Moments::default() };
        let threads = prepared.and_then(Prepared::threads);
        let threads = threads.map_or(Threads::In(&self.proc), Threads::Held);
        let id = self.killer.kill(threads, victim, pidfd, cause, moments).unwrap();
        self.registry.remove(record).unwrap();
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
        let seen = Some(Seen { sample: sample.clone(), verdict });
        let act = Act::Killed { pid, ticket: id.ticket };
        let look = Look {
            trigger,
            woken,
            now: woken,
            pending: None,
            admission,
            seen,
            act,
            tried: Few::default(),
            waiting: true,
            plan: self.policy.poll_plan(trigger, true),
        };
        self.journal.write(woken, &look);
        self.record(id);
        id
    }

    fn record(&mut self, id: FlightId) {
        let flight = self.killer.flight(id).unwrap();
        let Victim { pid, uid, adj, name, rss, swap, threads, .. } = flight.victim;
        let kill = Kill {
            ticket: id.ticket,
            look: 1,
            pid,
            uid,
            adj,
            name: Text::new(name.as_bytes()),
            rss,
            swap,
            threads,
            cause: flight.cause,
            moments: flight.moments,
            next: Few::default(),
        };
        self.journal.write_kill(flight.moments.signalled, &kill);
        self.journal.end_turn();
        self.journal.prepare();
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
        let heads = parts.registry.heads(None);
        while parts.ready.prepare_one(&heads, &parts.registry, &parts.proc, None) {}
        parts.ready.take_names();
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
