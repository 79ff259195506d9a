//! The subcommands over a recording made here, record by record.

mod keys;

use crate::history::History;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Meminfo;
use lmkd::kernel::Sample;
use lmkd::kernel::Watermarks;
use lmkd::kill::ledger::Moments;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Admission;
use lmkd::policy::Cause;
use lmkd::policy::KillReason;
use lmkd::policy::Level;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Policy;
use lmkd::policy::PollPlan;
use lmkd::policy::Poller;
use lmkd::policy::Signals;
use lmkd::policy::Trigger;
use lmkd::policy::Verdict;
use lmkd::policy::Wmark;
use lmkd::recorder::few::Few;
use lmkd::recorder::few::Text;
use lmkd::recorder::frame;
use lmkd::recorder::frame::Body;
use lmkd::recorder::*;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// 2025-11-23T12:56:24Z
const WALL_NS: u64 = 1_763_902_584_000_000_000;

fn ms(millis: u64) -> MonoTime {
    MonoTime::from_millis(millis)
}

fn adj(value: i32) -> OomScoreAdj {
    OomScoreAdj::new(value).unwrap()
}

/// A file that is gone at the end of the test.
pub(crate) struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    seq: u64,
}

impl File {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lmkctl-{}-{number}.rec", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = Self { path, bytes: MAGIC.to_vec(), seq: 0 };
        let header = Header {
            version: Text::new(b"0.1.0"),
            kernel: Text::new(b"6.18.44"),
            page: PageSize::from_bytes(4096),
            boot: Text::default(),
            pid: 300,
            started: ms(0),
            wall_ns: WALL_NS,
            dry_run: false,
            adopt: false,
        };
        file.put(ms(1000), &header);
        file.seq = 1;
        file.put(ms(1000), &Settings { tunables: Tunables::default() });
        let pressure = Pressure::Monitors {
            window_ms: 1000,
            medium: true,
            critical: true,
            unprivileged: false,
        };
        file.put(ms(1000), &Sources { pressure, reclaim: Reclaims::OwnPrograms });
        file
    }

    fn put(&mut self, at: MonoTime, body: &impl Body) -> u64 {
        let mut buffer = [0; frame::LONGEST];
        let len = frame::seal(&mut buffer, self.seq, at, body).unwrap();
        self.bytes.extend_from_slice(&buffer[..len]);
        self.seq += 1;
        self.seq - 1
    }

    /// What a subcommand prints about it.
    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        std::fs::write(&self.path, &self.bytes).unwrap();
        let path = self.path.to_str().unwrap();
        let words = [&["lmkctl"], arguments, &["--from", path]].concat();
        let matches = super::command().try_get_matches_from(words).unwrap();
        let mut out = Vec::new();
        super::run(&matches, &mut out).map_err(|error| format!("{error:#}"))?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// What it tells.
    pub(crate) fn history(&self) -> History {
        let Recording { header, entries, .. } = Recording::parse(&self.bytes).unwrap();
        History::of(header, entries)
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ask(arguments).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn signals() -> Signals {
    let watermarks =
        Watermarks { min: Pages(2500), low: Pages(3512), high: Pages(5911), ..Default::default() };
    Signals {
        free: Pages(3480),
        watermarks,
        wmark: Wmark::Low,
        free_swap: Pages(5121),
        swap_low_threshold: Pages(512),
        thrashing: 40,
        thrashing_limit: 90,
        ..Signals::default()
    }
}

fn look(trigger: Trigger, at: MonoTime, signals: Signals, cause: Option<Cause>, act: Act) -> Look {
    let meminfo = Meminfo {
        total: Pages(125_000),
        swap_total: Pages(20_480),
        swap_free: Pages(5121),
        ..Meminfo::default()
    };
    let sample = Sample { now: at, meminfo, ..Sample::default() };
    Look {
        trigger,
        woken: at,
        now: at,
        pending: None,
        admission: Admission::Evaluate { watermarks: false },
        seen: Some(Seen { sample, verdict: Verdict { signals: Some(signals), cause } }),
        act,
        tried: Few::default(),
        waiting: false,
        plan: PollPlan::default(),
    }
}

fn moments(at: u64) -> Moments {
    let after = |micros: u64| MonoTime::from_nanos(ms(at).as_nanos() + micros * 1000);
    Moments {
        woken: ms(at),
        decided: after(455),
        raised: after(4022),
        signalled: after(4193),
        ..Moments::default()
    }
}

/// Medium pressure at 2 s, a kill for low memory at 2.1 s.
fn one_kill() -> File {
    let mut file = File::new();
    let event = Trigger::Event(Level::Medium);
    file.put(ms(2000), &look(event, ms(2000), signals(), None, Act::Nothing));
    let reason = KillReason::LowMem;
    let cause = Cause { reason, min_adj: adj(701), cut_thrashing_limit: false };
    let act = Act::Killed { pid: 4711, ticket: 1 };
    let mut decided = look(Trigger::Poll, ms(2100), signals(), Some(cause), act);
    let gone = Process { pid: 4700, uid: 10_001, adj: adj(950) };
    decided.tried.push(Tried { process: gone, obstacle: Obstacle::Gone });
    let seq = file.put(ms(2100), &decided);
    let kill = Kill {
        ticket: 1,
        look: seq,
        pid: 4711,
        uid: 10_012,
        adj: adj(900),
        name: Text::new(b"com.example.hog"),
        rss: Kib(27_184),
        swap: Kib(0),
        threads: 12,
        cause,
        moments: moments(2100),
        next: [Process { pid: 4712, uid: 10_013, adj: adj(800) }].into_iter().collect(),
    };
    file.put(ms(2105), &kill);
    let mut later = moments(2100);
    later.released = Some(ms(2120));
    later.exited = Some(ms(2134));
    let fate = Fate { ticket: 1, pid: 4711, step: Step::Exited, moments: later };
    file.put(ms(2134), &fate);
    later.proven = Some(ms(2135));
    file.put(ms(2135), &Fate { step: Step::Proven, moments: later, ..fate });
    file
}

#[test]
fn the_command_line_is_consistent() {
    super::command().debug_assert();
}

#[test]
fn a_kill_is_explained_from_its_rule_to_its_proof() {
    let expected = "\
2025-11-23T12:56:25.104Z  killed 'com.example.hog' (4711), uid 10012
  oom_score_adj 900, 27184 kB resident, 0 kB in swap, 12 threads

Because of LOW_MEM (8), which kills down to oom_score_adj 701:
  free memory 13920kB < low watermark 14048kB
  lowmem_min_oom_score 701 <= 1000
Looked because: a timed look in the window after an event.
Memory then: 13920 of 500000 kB free, file cache 0 kB, swap 20484 of 81920 kB free,
  thrashing 40%, reclaim by nobody
The rules before it did not apply:
  PRESSURE_AFTER_KILL           not right after a kill
  NOT_RESPONDING                not a critical pressure event (all tasks stalled 700ms of 1000ms)
  LOW_SWAP_AND_THRASHING        free swap 20484kB >= 2048kB
  LOW_MEM_AND_SWAP              free swap 20484kB >= 2048kB
  LOW_MEM_AND_SWAP_UTIL         swap utilisation 0% <= 100%
  LOW_MEM_AND_THRASHING         thrashing 40% <= 90%
  DIRECT_RECL_AND_THRASHING     not in direct reclaim
  DIRECT_RECL_STUCK             not in direct reclaim
  LOW_FILECACHE_AFTER_THRASHING not after thrashing
Victims considered:
  4700 at 950: passed over, it had exited already
  4711 at 900: chosen
  4712 at 800: would have been next
Time line:
        0us  the event came out of the kernel
      455us  decided
     4.02ms  the victim's leader raised
     4.19ms  SIGKILL sent
    20.00ms  its memory is back (process_mrelease)
    34.00ms  exited: the pidfd turned readable
    35.00ms  proven: the kernel says that SIGKILL ended it
";
    let file = one_kill();
    assert_eq!(file.ask(&["explain"]).unwrap(), expected);
    assert_eq!(file.ask(&["explain", "4711"]).unwrap(), expected);
    assert_eq!(file.ask(&["explain", "example.hog"]).unwrap(), expected);
    let error = file.ask(&["explain", "4712"]).unwrap_err();
    assert!(error.contains("no kill of a process 4712"), "{error}");
}

/// A kill for this reason, seen with these settings, of a daemon with these minfree levels.
fn killed_for(reason: KillReason, tunables: Tunables) -> File {
    let mut file = File::new();
    file.put(ms(1500), &Settings { tunables });
    let mut policy = Policy::new(PageSize::SMALL);
    policy.set_minfree(MinfreeTable::from_pairs([(4000, 900)]));
    file.put(ms(1500), &Checkpoint { policy, poller: Poller::new() });
    let cause = Cause { reason, min_adj: adj(900), cut_thrashing_limit: false };
    let act = Act::Killed { pid: 4711, ticket: 1 };
    let decided = look(Trigger::Event(Level::Medium), ms(2100), signals(), Some(cause), act);
    let look = file.put(ms(2100), &decided);
    let look = if reason == KillReason::Watchdog { 0 } else { look };
    let kill = Kill {
        ticket: 1,
        look,
        pid: 4711,
        uid: 10_012,
        adj: adj(900),
        name: Text::new(b"com.example.hog"),
        rss: Kib(27_184),
        swap: Kib(0),
        threads: 12,
        cause,
        moments: moments(2100),
        next: Few::default(),
    };
    file.put(ms(2105), &kill);
    file
}

#[test]
fn a_kill_is_explained_for_whatever_reason_it_was_made() {
    for (reason, said) in [
        (KillReason::PressureAfterKill, "right after a kill\n"),
        (KillReason::NotResponding, "a critical pressure event (all tasks stalled 700ms"),
        (KillReason::LowSwapAndThrashing, "thrashing 40% > 100%\n"),
        (KillReason::LowMemAndSwap, "free memory 13920kB < low watermark 14048kB\n"),
        (KillReason::LowMemAndThrashing, "thrashing 40% > 90%"),
        (KillReason::DirectReclaimAndThrashing, "in direct reclaim\n"),
        (KillReason::LowMemAndSwapUtil, "swap utilisation 0% > 100%"),
        (KillReason::LowFilecacheAfterThrashing, "after thrashing\n"),
        (KillReason::LowMem, "lowmem_min_oom_score 701 <= 1000\n"),
        (KillReason::DirectReclaimStuck, "direct reclaim"),
        (KillReason::Vendor(7), "the vendor's kernel asks (7)\n"),
        (KillReason::Minfree, "the level of oom_score_adj 900 is 4000 pages = 16000 kB\n"),
        (KillReason::Watchdog, "Because a handler of the daemon was stuck. Nothing was decided.\n"),
    ] {
        let text = killed_for(reason, Tunables::default()).ask(&["explain"]).unwrap();
        assert!(text.contains(said), "{reason:?}: {text}");
        let decided = format!("Because of {} ({}), which", reason.name(), reason.number());
        assert_eq!(text.contains(&decided), reason != KillReason::Watchdog, "{text}");
        assert_eq!(text.contains("us  decided"), reason != KillReason::Watchdog, "{text}");
        assert_eq!(text.contains("the level of"), reason == KillReason::Minfree, "{text}");
        assert!(text.contains("4711 at 900: chosen") && text.contains("SIGKILL sent"), "{text}");
    }
}

#[test]
fn on_a_low_ram_device_the_rules_decide_whatever_is_set() {
    for (low_ram, by_minfree) in [(false, true), (true, false)] {
        let tunables = Tunables { use_minfree_levels: true, low_ram, ..Tunables::default() };
        let file = killed_for(KillReason::LowMem, tunables);
        assert_eq!(file.json(&["why-not", "--json"])[0]["by_minfree"], by_minfree);
    }
}

#[test]
fn the_explanation_has_the_same_facts_as_json() {
    let kill = &one_kill().json(&["explain", "--json"])[0];
    assert_eq!(kill["reason"], "LOW_MEM");
    assert_eq!(kill["look"]["signals"]["free_kb"], 13_920);
    assert_eq!(kill["look"]["rules"][0]["conditions"][0]["holds"], false);
    assert_eq!(kill["look"]["passed_over"][0]["obstacle"], "gone");
    assert_eq!(kill["fates"][1]["moments"]["proven_us"], 35_000);
}

#[test]
fn why_not_shows_the_first_failing_condition_of_each_rule() {
    let text = one_kill().ask(&["why-not"]).unwrap();
    assert!(text.contains("  LOW_MEM_AND_THRASHING         thrashing 40% <= 90%; kills"), "{text}");
    assert!(
        text.contains("  LOW_MEM                       HOLDS: free memory 13920kB < "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 11, "{text}");
}

#[test]
fn events_are_kills_and_changes_of_the_level() {
    let mut file = one_kill();
    file.put(ms(5000), &Lost { records: 3 });
    let events = file.json(&["events", "--json"]);
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["sources", "level", "kill", "fate", "fate", "level", "lost"]);
    assert_eq!((&events[1]["level"], &events[1]["before"]), (&"medium".into(), &"none".into()));
    // A window after the event, not when the next record was made.
    assert_eq!(events[5]["level"], "none");
    assert_eq!(events[5]["time"], "2025-11-23T12:56:26.000Z");
    assert!(events.iter().all(|event| event["schema"] == 1));
    assert_eq!(file.ask(&["events"]).unwrap().lines().count(), names.len());
}

#[test]
fn sources_that_were_told_with_the_state_are_no_event() {
    let mut file = one_kill();
    let pressure = Pressure::Sampling { every_ms: 1000 };
    let sources = Sources { pressure, reclaim: Reclaims::Counters };
    file.put(ms(3000), &Status { sources, ..Status::default() });
    file.put(ms(3100), &sources);
    let events = file.json(&["events", "--json"]);
    assert_eq!(events.iter().filter(|event| event["event"] == "sources").count(), 1);
}

#[test]
fn a_torn_file_is_explained_up_to_the_tear() {
    let mut file = one_kill();
    file.bytes.truncate(file.bytes.len() - 5);
    let text = file.ask(&["explain"]).unwrap();
    assert!(text.contains("exited: the pidfd turned readable"), "{text}");
    assert!(!text.contains("proven"), "{text}");
    file.bytes[7] = 9;
    let error = file.ask(&["explain"]).unwrap_err();
    assert!(error.contains("version 9"), "{error}");
}

/// The state of a daemon after [`one_kill`].
fn state() -> Status {
    let verdict = Verdict { signals: Some(signals()), cause: None };
    let spread = Spread { count: 1, p50: 4193, p90: 4193, p99: 4193, max: 4193 };
    let process = Process { pid: 4712, uid: 10_013, adj: adj(800) };
    Status {
        seen: Some(Seen { sample: Sample::default(), verdict }),
        registered: 7,
        next: [Next { process, rss: Kib(512), name: Text::new(b"a\"b") }].into_iter().collect(),
        kills: 1,
        by_reason: [(KillReason::LowMem, 1), (KillReason::Minfree, 0)].into_iter().collect(),
        to_signal: spread,
        ..Status::default()
    }
}

/// With [`state`] at its end.
pub(crate) fn with_state() -> File {
    let mut file = one_kill();
    let to_raise = Spread { count: 1, p50: 107, p90: 107, p99: 107, max: 107 };
    let steps = Some(Steps { to_raise, ..Steps::default() });
    file.put(ms(3000), &Status { steps, ..state() });
    file
}

#[test]
fn the_state_is_told_for_people_programs_and_collectors() {
    let mut file = one_kill();
    assert!(file.ask(&["status"]).is_err());
    // Of a daemon that does not know the steps yet.
    file.put(ms(3000), &state());
    let text = file.ask(&["status"]).unwrap();
    assert!(text.contains("kills       1: LOW_MEM 1\n"), "{text}");
    assert!(text.contains("  + free memory 13920kB < low watermark 14048kB\n"), "{text}");
    let json = &file.json(&["status", "--json"])[0];
    assert_eq!(json["latency_us"]["to_signal"]["p99"], 4193);
    assert_eq!(json["latency_us"]["to_raise"], Value::Null);
    assert_eq!(json["kills_by_reason"]["LOW_MEM"], 1);
    let metrics = file.ask(&["status", "--openmetrics"]).unwrap();
    assert!(metrics.contains("lmkd_kills_total{reason=\"LOW_MEM\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("lmkd_kill_signal_seconds{quantile=\"0.99\"} 0.004193\n"),
        "{metrics}"
    );
    assert!(!metrics.contains("lmkd_kill_raise"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    let file = with_state();
    let text = file.ask(&["status"]).unwrap();
    assert!(text.contains("  raised           1     107us "), "{text}");
    assert_eq!(file.json(&["status", "--json"])[0]["latency_us"]["to_raise"]["max"], 107);
    let metrics = file.ask(&["status", "--openmetrics"]).unwrap();
    let line = "lmkd_kill_raise_seconds{quantile=\"1.0\"} 0.000107\n";
    assert!(metrics.contains(line), "{metrics}");
}
