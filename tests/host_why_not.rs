//! `lmkctl why-not` on the real daemon: what keeps it from killing, and from looking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::units::Pages;
use operator::json_lines;
use operator::run;
use serde_json::Value;

fn why_not(daemon: &Daemon) -> String {
    let (code, text, error) = run(&["why-not", "--socket", daemon.socket.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    text
}

fn as_json(daemon: &Daemon) -> Value {
    let (_, text, _) = run(&["why-not", "--json", "--socket", daemon.socket.to_str().unwrap()]);
    json_lines(&text).remove(0)
}

#[test]
fn floors_stand_against_the_highest_candidate() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.visible");
    let mut client = daemon.client();
    client.register_all(&[app.at(100)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    // One is due while kswapd is awake, whoever has woken it.
    let text = host::until("no look to be due", || {
        Some(why_not(&daemon))
            .filter(|text| text.contains("No look is due: no pressure monitor is armed"))
    });
    assert!(text.contains("no candidate at or above 701; highest is 100\n"), "{text}");
    assert!(!text.contains("at or above 0") && !text.contains("--dry-run"), "{text}");
    let told = as_json(&daemon);
    assert_eq!(
        (&told["highest_candidate"], &told["floors"]["LOW_MEM"]),
        (&100.into(), &701.into())
    );
}

#[test]
fn levels_stand_beside_memory_and_a_daemon_that_waits_or_only_tries_says_so() {
    let daemon = Daemon::start(&[
        "--dry-run",
        "--set=use_minfree_levels=true",
        "--set=delay_monitors_until_boot=1",
        "--set=sys.boot_completed=0",
    ]);
    let text = why_not(&daemon);
    assert!(text.contains("--dry-run: it never kills"), "{text}");
    assert!(text.contains("wait for the end of boot (delay_monitors_until_boot)"), "{text}");
    assert!(text.contains("no client has sent levels: nobody is killed"), "{text}");
    let mut client = daemon.client();
    let level = |minfree: i32, adj| Target {
        minfree: Pages(minfree.into()),
        adj: OomScoreAdj::new(adj).unwrap(),
    };
    let levels = [level(1, 0), level(i32::MAX, 900)];
    client.set_targets(&Targets::new(&levels).unwrap()).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let told = as_json(&daemon);
    let [first, last] = [0, 1].map(|index| &told["minfree"]["levels"][index]);
    assert_eq!((&first["chosen"], &last["chosen"]), (&false.into(), &true.into()), "{told}");
    let text = why_not(&daemon);
    assert!(text.contains("level 1 of oom_score_adj 0    free memory "), "{text}");
    assert!(text.contains("level 2147483647 of oom_score_adj 900  CHOSEN: "), "{text}");
}

#[test]
fn the_latest_pressure_event_is_named_once_polling_has_ended() {
    let test = "the_latest_pressure_event_is_named_once_polling_has_ended";
    let Some(mut pressure) = Pressure::prepare(test) else { return };
    let mut args = pressure.args();
    args.push("--dry-run".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    assert!(as_json(&daemon)["last_pressure_event"].is_null());
    pressure.rise();
    let event = host::until("an event", || {
        as_json(&daemon)["last_pressure_event"].as_str().map(str::to_owned)
    });
    pressure.fall();
    let text = host::until("the end of polling", || {
        Some(why_not(&daemon)).filter(|text| text.contains("and polling has ended"))
    });
    let day = event.split('T').next().unwrap();
    assert!(text.contains(&format!("No look is due: no pressure event since {day}T")), "{text}");
}
