use super::*;
use crate::kernel::process::ProcDir;
use crate::pidfd::Exit;
use crate::policy::KillReason;
use crate::testing::Held;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

struct App(Held);

impl App {
    fn start() -> Self {
        Self(Held::sleep())
    }

    /// One that does this once it is told to.
    fn that_will(script: &str) -> Self {
        let script = format!("read -r line; {script}");
        Self(Held::start(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped())))
    }

    fn pid(&self) -> i32 {
        self.0.pid()
    }

    fn pidfd(&self) -> PidFd {
        PidFd::open(self.pid()).unwrap()
    }

    fn victim(&self) -> Victim {
        Victim {
            pid: self.pid(),
            uid: 0,
            adj: OomScoreAdj::FOREGROUND,
            name: TaskName::new(b"app"),
            state: b'S',
            rss: Kib(100),
            swap: Kib(0),
            threads: 1,
            stat: None,
            group: None,
        }
    }

    /// Counted as killed, without a signal: a victim that cannot die.
    fn that_does_not_die(&self, killer: &mut Killer) -> FlightId {
        killer.signalled(self.victim(), self.pidfd(), CAUSE, Moments::default())
    }
}

const CAUSE: Cause = Cause {
    reason: KillReason::LowMem,
    min_adj: OomScoreAdj::FOREGROUND,
    cut_thrashing_limit: false,
};

#[test]
fn a_victim_that_makes_room_for_others_is_known_as_dying_until_it_has_exited() {
    let mut killer = Killer::start();
    let apps: Vec<App> = (0..=reaper::PLACES).map(|_| App::start()).collect();
    let mut first = None;
    for app in &apps {
        assert!(killer.take_evicted().is_none());
        let id = app.that_does_not_die(&mut killer);
        first.get_or_insert(id);
    }
    let (evicted, outcome) = killer.take_evicted().unwrap();
    assert_eq!((evicted.victim.pid, evicted.ticket()), (apps[0].pid(), first.unwrap().ticket));
    assert_eq!(outcome, None);
    assert!(killer.flight(first.unwrap()).is_none());
    killer.let_go(evicted);
    assert!(apps.iter().all(|app| killer.is_dying(app.pid())));
    assert!(apps.iter().all(|app| killer.dying().any(|pid| pid == app.pid())));
    let pid = apps[0].pid();
    let refused = killer.kill(
        Threads::In(&ProcDir::open(Path::new("/proc")).unwrap()),
        apps[0].victim(),
        apps[0].pidfd(),
        CAUSE,
        Moments::default(),
    );
    assert_eq!(refused.map_err(|(_, error)| error), Err(KillError::Dying));
    drop(apps);
    assert!(!killer.is_dying(pid));
}

#[test]
fn a_place_goes_first_to_the_one_whose_victim_has_exited_longest_ago() {
    let mut killer = Killer::start();
    let apps: Vec<App> = (0..reaper::PLACES).map(|_| App::start()).collect();
    let ids: Vec<_> = apps.iter().map(|app| app.that_does_not_die(&mut killer)).collect();
    killer.exited(ids[5], MonoTime::now()).unwrap();
    killer.exited(ids[9], MonoTime::now()).unwrap();
    let one_more = App::start();
    let id = one_more.that_does_not_die(&mut killer);
    assert_eq!(id.place, ids[5].place);
    let (evicted, _) = killer.take_evicted().unwrap();
    assert_eq!(evicted.victim.pid, apps[5].pid());
}

#[test]
fn for_want_of_descriptors_the_one_whose_victim_has_exited_longest_ago_makes_way_and_no_other() {
    let mut killer = Killer::start();
    let apps: Vec<App> = (0..3).map(|_| App::start()).collect();
    let ids: Vec<_> = apps.iter().map(|app| app.that_does_not_die(&mut killer)).collect();
    assert!(killer.take_exited().is_none());
    killer.exited(ids[2], MonoTime::now()).unwrap();
    killer.exited(ids[1], MonoTime::now()).unwrap();
    for victim in [1, 2] {
        let (evicted, _) = killer.take_exited().unwrap();
        assert_eq!(evicted.victim.pid, apps[victim].pid());
    }
    assert!(killer.take_exited().is_none());
    assert!(killer.is_waiting_for(ids[0]));
}

#[test]
fn a_victim_that_had_to_leave_the_watch_is_no_longer_waited_for() {
    let mut killer = Killer::start();
    let apps: Vec<App> = (0..reaper::PLACES + 2).map(|_| App::start()).collect();
    let (all, more) = apps.split_at(reaper::PLACES);
    let ids: Vec<_> = all.iter().map(|app| app.that_does_not_die(&mut killer)).collect();
    assert!(killer.is_waiting_for(ids[0]));
    // The one in its place is.
    let in_its_place = more[0].that_does_not_die(&mut killer);
    assert_eq!(in_its_place.place, ids[0].place);
    assert_eq!(killer.waiting_for().map(Flight::ticket), Some(in_its_place.ticket));
    // One that nobody waits for makes room without a change.
    let in_anothers = more[1].that_does_not_die(&mut killer);
    assert_ne!(in_anothers.place, in_its_place.place);
    assert!(killer.is_waiting_for(in_its_place));
    // And the wait ends with its end.
    killer.exited(in_its_place, MonoTime::now()).unwrap();
    assert!(killer.waiting_for().is_none());
}

#[test]
fn those_that_do_not_die_are_remembered_within_bounds() {
    let mut dying = Dying::new();
    let flight = |app: &App| Flight {
        victim: app.victim(),
        cause: CAUSE,
        moments: Moments::default(),
        pidfd: app.pidfd(),
        ticket: 1,
        timed_out: true,
    };
    let mut apps: Vec<App> = (0..32).map(|_| App::start()).collect();
    apps.iter().for_each(|app| dying.keep(flight(app)));
    let gone = apps.remove(7);
    let pid = gone.pid();
    let unneeded = flight(&gone);
    drop(gone);
    assert!(!dying.has(pid));
    dying.keep(unneeded);
    // It makes way, then the oldest.
    for (kept, forgotten) in [(31, 0), (31, 1)] {
        let app = App::start();
        dying.keep(flight(&app));
        apps.push(app);
        let known = apps.iter().filter(|app| dying.has(app.pid())).count();
        assert_eq!((known, dying.has(apps[0].pid())), (kept + 1, forgotten == 0));
    }
}

#[test]
fn what_victims_past_their_timeout_hold_is_owed_until_they_exit() {
    let mut killer = Killer::start();
    let app = App::start();
    let id = app.that_does_not_die(&mut killer);
    assert_eq!(killer.owed(), Kib::ZERO);
    // It was not signalled, so the reaper cannot have its memory either.
    assert_eq!(killer.give_up_waiting(), Some(id));
    assert!(!killer.release(id).is_some_and(|release| release.is_back()));
    assert_eq!(killer.owed(), Kib(100));
    assert!(killer.give_up_waiting().is_none());
    killer.exited(id, MonoTime::now()).unwrap();
    assert_eq!(killer.owed(), Kib::ZERO);
}

/// Its end comes between the last look at it and the signal, which thus ends nobody.
#[test]
fn an_end_that_is_not_sigkills_is_told_and_not_counted_as_proven() {
    let mut killer = Killer::start();
    if !killer.tells_exit() {
        eprintln!("skipped: this kernel does not tell exit statuses (Linux 6.15)");
        return;
    }
    for (script, exit) in [
        ("exit 3", Some(Exit::Status(3))),
        ("kill -TERM $$", Some(Exit::Signal(libc::SIGTERM))),
        ("kill -KILL $$", None),
    ] {
        let mut app = App::that_will(script);
        let id = app.that_does_not_die(&mut killer);
        drop(app.0.child.stdin.take());
        app.0.child.wait().unwrap();
        killer.exited(id, MonoTime::now()).unwrap();
        assert!(killer.is_over(id));
        let (flight, outcome) = killer.prove(id, MonoTime::now()).unwrap();
        assert!(flight.moments.proven.is_some());
        assert_eq!(outcome, Some(exit.map_or(Outcome::Killed, Outcome::Otherwise)));
        assert_eq!(killer.ledger.proven, u32::from(exit.is_none()));
    }
    assert_eq!(killer.ledger.exits, 3);
}
