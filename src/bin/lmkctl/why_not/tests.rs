use super::*;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Meminfo;
use lmkd::kernel::Sample;
use lmkd::kernel::Watermarks;
use lmkd::policy::Signals;
use lmkd::policy::Verdict;
use lmkd::recorder::few::Few;
use lmkd::recorder::few::Text;
use lmkd::recorder::Entry;
use lmkd::recorder::Header;
use lmkd::recorder::Next;
use lmkd::recorder::Process;
use lmkd::recorder::Record;
use lmkd::recorder::Seen;
use lmkd::recorder::Settings;
use lmkd::recorder::Sources;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use lmkd::units::Pages;

/// How things stand in a test: a daemon at ease, with one candidate at 100.
struct Scene {
    header: Header,
    tunables: Tunables,
    signals: Signals,
    meminfo: Meminfo,
    status: Status,
    outlook: Outlook,
}

fn candidate(adj: i32) -> Next {
    let adj = OomScoreAdj::new(adj).unwrap();
    Next { process: Process { pid: 1, uid: 0, adj }, rss: Kib(1), name: Text::default() }
}

impl Scene {
    fn new() -> Self {
        let pressure = Pressure::Monitors {
            window_ms: 1000,
            medium: true,
            critical: true,
            unprivileged: false,
        };
        Self {
            header: Header {
                version: Text::default(),
                kernel: Text::default(),
                page: PageSize::SMALL,
                boot: Text::default(),
                pid: 1,
                started: MonoTime::ZERO,
                wall_ns: 0,
                dry_run: false,
                adopt: false,
            },
            tunables: Tunables::default(),
            signals: Signals {
                free: Pages(5000),
                watermarks: Watermarks {
                    min: Pages(1000),
                    low: Pages(2000),
                    high: Pages(3000),
                    total_reserve: Pages(500),
                },
                file_cache: Pages(8000),
                thrashing_limit: 100,
                ..Signals::default()
            },
            meminfo: Meminfo { free: Pages(5500), cached: Pages(8000), ..Meminfo::default() },
            status: Status {
                sources: Sources { pressure, reclaim: Reclaims::Counters },
                registered: 1,
                next: [candidate(100)].into_iter().collect(),
                ..Status::default()
            },
            outlook: Outlook::default(),
        }
    }

    fn history(self) -> History {
        let at = MonoTime::from_millis(20_000);
        let mut history = History::new(self.header, MonoTime::ZERO);
        let settings = Box::new(Settings { tunables: self.tunables });
        history.take(Entry { seq: 1, at, record: Record::Settings(settings) });
        let sample = Sample { meminfo: self.meminfo, ..Sample::default() };
        let verdict = Verdict { signals: Some(self.signals), cause: None };
        let status = Status {
            seen: Some(Seen { sample, verdict }),
            outlook: Some(self.outlook),
            ..self.status
        };
        history.take(Entry { seq: 2, at, record: Record::Status(Box::new(status)) });
        history
    }

    /// What stands before the rules, and the rules or levels.
    fn told(self) -> (Vec<String>, Vec<String>) {
        let history = self.history();
        let looked = history.looked.as_ref().unwrap();
        let facts = looked.facts(history.page()).unwrap();
        let view = View { history: &history, looked, facts };
        (view.notes(), view.lines())
    }
}

/// The line of a rule and those that go with it.
fn of<'a>(rule: &str, lines: &'a [String]) -> Vec<&'a str> {
    let mut lines = lines.iter().skip_while(|line| !line.starts_with(&format!("{rule} ")));
    let first = lines.next().unwrap();
    let more = lines.take_while(|line| line.starts_with(' '));
    std::iter::once(first).chain(more).map(|line| line.trim()).collect()
}

#[test]
fn each_rule_says_its_floor_and_whether_anybody_is_there() {
    let (_, lines) = Scene::new().told();
    assert_eq!(
        of("LOW_FILECACHE_AFTER_THRASHING", &lines),
        [
            "LOW_FILECACHE_AFTER_THRASHING not after thrashing; kills down to 201",
            "no candidate at or above 201; highest is 100",
        ]
    );
    let critical =
        "NOT_RESPONDING                not a critical pressure event (all tasks stalled 700ms of \
         1000ms); kills down to 0";
    assert_eq!(of("NOT_RESPONDING", &lines), [critical]);
    let mut scene = Scene::new();
    scene.status.next = [candidate(250), candidate(100)].into_iter().collect();
    let (_, lines) = scene.told();
    assert_eq!(of("LOW_FILECACHE_AFTER_THRASHING", &lines).len(), 1);
    assert!(of("LOW_MEM", &lines)[1].contains("at or above 701; highest is 250"));
}

#[test]
fn without_candidates_that_is_said_once() {
    let mut scene = Scene::new();
    (scene.status.next, scene.status.registered) = (Few::default(), 0);
    let (notes, lines) = scene.told();
    assert_eq!(notes[0], "There is no candidate: no process is registered.");
    assert_eq!(of("NOT_RESPONDING", &lines).len(), 1);
    // All of them below 0; or of those that nobody registered.
    for (registered, adopt) in [(1, false), (0, true)] {
        let mut scene = Scene::new();
        scene.status.next = Few::default();
        (scene.status.registered, scene.header.adopt) = (registered, adopt);
        assert_eq!(scene.told().0[0], "There is no candidate: none is at or above 0.");
    }
}

#[test]
fn a_floor_above_any_adj_kills_nobody_unless_protections_are_lifted() {
    let scene = |critical_stall| {
        let mut scene = Scene::new();
        scene.tunables.pressure_after_kill_min_score = 1001;
        scene.signals.critical_stall = critical_stall;
        scene.told().1
    };
    let lines = scene(false);
    let rule = of("PRESSURE_AFTER_KILL", &lines);
    assert!(rule[0].ends_with("; kills nobody") && rule[1].contains("is as high as"), "{rule:?}");
    let lines = scene(true);
    let rule = of("PRESSURE_AFTER_KILL", &lines);
    assert!(rule[0].ends_with("; kills down to 0") && rule.len() == 1, "{rule:?}");
}

#[test]
fn no_look_is_due_without_a_pressure_event() {
    let notes = |scene: Scene| scene.told().0;
    let never = "No look is due: no pressure event since the daemon started.";
    assert_eq!(notes(Scene::new()), [never]);
    let mut scene = Scene::new();
    scene.outlook.last_pressure = Some(MonoTime::from_millis(5_000));
    scene.status.sources.reclaim = Reclaims::OwnPrograms;
    let ended =
        "No look is due: no pressure event since 1970-01-01T00:00:05.000Z, 15.00s ago, and \
                 polling has ended. A wake-up of kswapd brings one too, at the rules about \
                 watermarks alone.";
    assert_eq!(notes(scene), [ended]);
    let mut deaf = Scene::new();
    deaf.status.sources.pressure =
        Pressure::Monitors { window_ms: 1000, medium: false, critical: false, unprivileged: false };
    assert!(notes(deaf)[0].contains("no pressure monitor is armed"));
}

#[test]
fn a_look_that_is_due_is_not_denied() {
    let mut scene = Scene::new();
    scene.outlook.next_look_ms = Some(40);
    assert!(scene.told().0.is_empty());
    let mut scene = Scene::new();
    scene.status.sources.pressure = Pressure::Sampling { every_ms: 1000 };
    assert!(scene.told().0.is_empty());
}

#[test]
fn a_look_by_kswapds_wake_up_asks_the_rules_about_watermarks_alone() {
    let mut scene = Scene::new();
    (scene.outlook.next_look_ms, scene.outlook.watermarks_alone) = (Some(10), true);
    scene.signals.thrashing = 500;
    scene.signals.reclaim = lmkd::policy::Reclaim::Direct;
    let (notes, lines) = scene.told();
    assert_eq!(
        notes,
        ["A look by a wake-up of kswapd asks the rules about watermarks alone, and those only with \
          nothing left to reclaim: file cache 32000kB + free swap 0kB >= high watermark \
          12000kB."]
    );
    let unasked = "not asked by a look that follows kswapd";
    assert_eq!(of("DIRECT_RECL_AND_THRASHING", &lines)[1], unasked);
    assert!(!of("LOW_MEM_AND_THRASHING", &lines).contains(&unasked));
}

#[test]
fn a_dry_run_never_kills_and_monitors_may_wait_for_the_end_of_boot() {
    let mut scene = Scene::new();
    scene.header.dry_run = true;
    scene.status.sources.pressure = Pressure::Waiting;
    let (notes, _) = scene.told();
    assert_eq!(notes[0], "The daemon runs with --dry-run: it never kills.");
    assert!(notes[1].contains("wait for the end of boot (delay_monitors_until_boot)"), "{notes:?}");
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_victim_that_is_waited_for_comes_before_all_rules() {
    let mut scene = Scene::new();
    scene.status.waiting_for = Some(77);
    let (notes, _) = scene.told();
    assert_eq!(notes, ["No rule is asked before process 77, which was killed, has exited."]);
}

/// Free memory above the reserve is 20000 kB, file cache 32000 kB.
fn with_levels(levels: &[(i32, i32)]) -> (Vec<String>, Vec<String>) {
    let mut scene = Scene::new();
    scene.tunables.use_minfree_levels = true;
    scene.outlook.next_look_ms = Some(10);
    scene.outlook.minfree = MinfreeTable::from_pairs(levels.iter().copied());
    scene.told()
}

#[test]
fn with_levels_each_stands_beside_memory_and_the_chosen_one_is_named() {
    let (notes, lines) = with_levels(&[(4000, 0), (6000, 100), (9000, 900), (9500, 950)]);
    assert_eq!(
        notes,
        ["use_minfree_levels is on: the levels of clients decide in place of the rules."]
    );
    assert_eq!(
        lines,
        [
            "free memory above the reserve 20000kB, file cache 32000kB",
            "level 4000 of oom_score_adj 0    free memory 20000kB >= 16000kB",
            "level 6000 of oom_score_adj 100  file cache 32000kB >= 24000kB",
            "level 9000 of oom_score_adj 900  CHOSEN: free memory 20000kB < 36000kB, file cache \
             32000kB < 36000kB; kills down to 900",
            "level 9500 of oom_score_adj 950  not reached: an earlier one is chosen",
            "no candidate at or above 900; highest is 100",
        ]
    );
    let (_, lines) = with_levels(&[(4000, 0)]);
    assert_eq!(lines.last().unwrap(), "no level is chosen: nobody is killed");
    let (_, lines) = with_levels(&[]);
    assert_eq!(lines.last().unwrap(), "no client has sent levels: nobody is killed");
}

#[test]
fn with_levels_a_wake_up_of_kswapd_asks_the_rules_about_watermarks() {
    let mut scene = Scene::new();
    scene.tunables.use_minfree_levels = true;
    scene.status.sources.reclaim = Reclaims::OwnPrograms;
    let (notes, _) = scene.told();
    assert!(notes[0].ends_with(", at the rules about watermarks alone."), "{notes:?}");
    let mut scene = Scene::new();
    scene.tunables.use_minfree_levels = true;
    (scene.outlook.next_look_ms, scene.outlook.watermarks_alone) = (Some(10), true);
    let (notes, lines) = scene.told();
    assert!(notes[0].starts_with("A look by a wake-up of kswapd asks the rules"), "{notes:?}");
    assert!(!of("LOW_MEM", &lines).is_empty());
}

#[test]
fn the_state_of_an_older_daemon_says_nothing_of_looks_and_levels() {
    let mut scene = Scene::new();
    scene.tunables.use_minfree_levels = true;
    let mut history = scene.history();
    history.status.as_mut().unwrap().outlook = None;
    let looked = history.looked.as_ref().unwrap();
    let facts = looked.facts(history.page()).unwrap();
    let view = View { history: &history, looked, facts };
    assert_eq!(view.notes().len(), 1);
    assert!(levels::lines(view.minfree().as_ref(), &view)[0].contains("not known"));
}
