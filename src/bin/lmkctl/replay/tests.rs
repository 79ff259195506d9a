use super::*;
use crate::timeline::machine::Machine;
use lmkd::policy::KillReason;
use lmkd::recorder::Record;

fn spent(tunables: Tunables) -> Machine {
    let mut machine = Machine::new(tunables);
    assert!(machine.grow(400, 80) >= 2);
    machine
}

fn replayed(machine: &Machine, set: &[&str]) -> (Vec<Outcome>, bool, usize, u64) {
    let recording = machine.recording();
    let timeline = Timeline::new(&recording);
    let settings: Vec<Setting> = set.iter().map(|text| setting(text).unwrap()).collect();
    let change = |tunables: &mut Tunables| settings.iter().for_each(|one| one.apply(tunables));
    let comparison = Comparison::new(&recording, &timeline, &change);
    assert_eq!(comparison.compared(), timeline.looks.len());
    let outcomes = comparison.outcomes.clone();
    (outcomes, comparison.faithful, comparison.differing.len(), comparison.strayed)
}

#[test]
fn the_recorded_settings_give_the_recorded_decisions() {
    let machine = spent(Tunables::default());
    let (outcomes, faithful, differing, strayed) = replayed(&machine, &[]);
    assert!(faithful);
    assert_eq!((differing, strayed), (0, 0));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stays { .. })));
    // A setting that is set to what it is changes nothing.
    assert!(replayed(&machine, &["thrashing_limit=100"]).1);
}

#[test]
fn kills_for_low_memory_go_when_they_are_turned_off() {
    let machine = spent(Tunables::default());
    let (outcomes, faithful, ..) = replayed(&machine, &["lowmem_min_oom_score=1001"]);
    assert!(!faithful);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Goes { .. })), "{outcomes:?}");
}

#[test]
fn kills_come_when_they_are_turned_on_and_one_need_is_one_kill() {
    let off = Tunables { lowmem_min_oom_score: 1001, ..Tunables::default() };
    let mut machine = Machine::new(off);
    machine.grow(400, 45);
    let (outcomes, ..) = replayed(&machine, &["lowmem_min_oom_score=701"]);
    let [Outcome::Comes(to)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(to.cause.reason, KillReason::LowMem);
    assert_eq!(to.victim.map(|victim| victim.pid), Some(120));
    assert!(to.again > 0);
}

#[test]
fn a_kill_for_another_reason_moves() {
    let machine = spent(Tunables::default());
    let (outcomes, ..) = replayed(&machine, &["swap_free_low_percentage=60"]);
    let moved = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Moves { look, to } => Some((*look, to)),
        _ => None,
    });
    let (look, to) = moved.unwrap();
    assert_eq!(look, to.look);
    assert_eq!(to.cause.reason, KillReason::LowMemAndSwap);
}

#[test]
fn a_damaged_decision_is_found() {
    let machine = spent(Tunables::default());
    let mut recording = machine.recording();
    let damaged = recording.entries.iter_mut().rev().find_map(|entry| match &mut entry.record {
        lmkd::recorder::Record::Look(look) => look.seen.as_mut(),
        _ => None,
    });
    damaged.unwrap().sample.meminfo.free = lmkd::units::Pages(1);
    let timeline = Timeline::new(&recording);
    let comparison = Comparison::new(&recording, &timeline, &|_| {});
    assert_eq!(comparison.differing.len(), 1);
    let mut out = Vec::new();
    assert_eq!(faithful(&comparison, &mut out).unwrap(), DIFFERS);
    assert!(String::from_utf8(out).unwrap().contains("1 looks DIFFER"));
}

#[test]
fn a_recording_whose_settings_were_overwritten_is_replayed_from_the_next_checkpoint_on() {
    let machine = spent(Tunables { thrashing_limit: 77, ..Tunables::default() });
    let whole = machine.recording();
    let mut recording = whole.clone();
    // The ring's oldest record is now a checkpoint, and the second part is as the daemon left it.
    recording.entries.retain(|entry| !matches!(entry.record, Record::Settings(_)));
    for entry in &mut recording.entries {
        if let Record::Checkpoint(checkpoint) = &mut entry.record {
            checkpoint.policy.watermark_changes_are_told(true);
        }
    }
    recording.entries.extend_from_slice(whole.entries.get(1..).unwrap());
    let timeline = Timeline::new(&recording);
    let comparison = Comparison::new(&recording, &timeline, &|_| {});
    assert_eq!((comparison.strayed, comparison.differing.len()), (0, 0));
    assert_eq!(2 * comparison.compared(), timeline.looks.len());
}

#[test]
fn settings_from_before_a_loss_decide_nothing_after_it() {
    let machine = spent(Tunables::default());
    let mut recording = machine.recording();
    let first = recording.entries.iter().position(|e| matches!(e.record, Record::Look(_)));
    let checkpoint = recording.entries.iter().find(|e| matches!(e.record, Record::Checkpoint(_)));
    let checkpoint = checkpoint.unwrap().clone();
    let lost = lmkd::recorder::Lost { records: 9 };
    let lost = lmkd::recorder::Entry { record: Record::Lost(lost.into()), ..checkpoint };
    recording.entries.splice(first.unwrap()..first.unwrap(), [lost, checkpoint]);
    let timeline = Timeline::new(&recording);
    assert_eq!(Comparison::new(&recording, &timeline, &|_| {}).compared(), 0);
}

#[test]
fn a_replay_of_nothing_is_no_success() {
    let machine = Machine::new(Tunables::default());
    let file = std::env::temp_dir().join(format!("lmkctl-nothing-{}.rec", std::process::id()));
    std::fs::write(&file, machine.bytes()).unwrap();
    let words = ["lmkctl", "replay", file.to_str().unwrap()];
    let matches = crate::command().try_get_matches_from(words).unwrap();
    let mut out = Vec::new();
    let status = crate::run(&matches, &mut out).unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("NOTHING was replayed: the recording holds no looks."), "{text}");
    assert_eq!(status, NOTHING);
}

#[test]
fn time_begins_with_the_first_record_not_with_the_dump() {
    let machine = spent(Tunables::default());
    let recording = machine.recording();
    let timeline = Timeline::new(&recording);
    assert_eq!(timeline.looks.first().map(|look| look.at), Some(0.1));
    assert!(timeline.end() > 8.0);
}

#[test]
fn settings_are_checked_by_name_and_range() {
    assert!(setting("thrashing_limit=30").is_ok());
    assert!(setting("ro.lmk.thrashing_limit=30").is_ok());
    assert!(setting("use_psi=false").is_ok());
    for wrong in
        ["thrashing_limit", "thrashing_limit=x", "no_such=1", "use_psi=2", "swap_util_max=101"]
    {
        assert!(setting(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_page_shows_both_tellings() {
    let mut machine = spent(Tunables::default());
    machine.rest(60_000);
    machine.grow(400, 20);
    // For a look at it by a person.
    if let Some(file) = std::env::var_os("LMKD_TEST_KEEP_RECORDING") {
        std::fs::write(file, machine.bytes()).unwrap();
    }
    let recording = machine.recording();
    let timeline = Timeline::new(&recording);
    let change = |tunables: &mut Tunables| tunables.lowmem_min_oom_score = 1001;
    let comparison = Comparison::new(&recording, &timeline, &change);
    let page = page::page(std::path::Path::new("kills.rec"), &comparison);
    let html = page.html().unwrap();
    assert!(html.contains("Recorded, 0.0 s to"));
    assert!(html.contains("Replayed, 0.0 s to"));
    assert!(html.contains("kill that goes"));
    assert!(html.contains("lowmem_min_oom_score: 701 recorded, 1001 replayed."));
    assert_eq!(html.matches("class=\"pair\"").count(), 2);
}
