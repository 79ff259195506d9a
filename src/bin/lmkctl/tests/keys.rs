//! JSON has the fields that README documents, no other and none less.

use super::killed_for;
use super::look;
use super::ms;
use super::one_kill;
use super::signals;
use super::with_state;
use lmkd::config::Tunables;
use lmkd::policy::KillReason;
use lmkd::policy::Level;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Trigger;
use lmkd::recorder::Act;
use lmkd::recorder::Input;
use lmkd::recorder::Lost;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

const README: &str = include_str!("../../../../README.md");

type Keys = BTreeSet<String>;

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// What README's tables say of each object: fields are in backticks, what is in brackets is about them.
struct Documented(BTreeMap<String, Keys>);

impl Documented {
    fn read() -> Self {
        let (_, tables) = README.split_once("\n**JSON.**").unwrap();
        let (tables, _) = tables.split_once("\n**").unwrap();
        let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
        let row = |row: &str| {
            let (name, fields) = row.split_once("` | ").unwrap();
            let mut outside = String::new();
            let mut depth = 0;
            for letter in fields.chars() {
                depth += i32::from(letter == '(');
                outside.extend((depth == 0).then_some(letter));
                depth -= i32::from(letter == ')');
            }
            (name.to_owned(), quoted(&outside).collect())
        };
        Self(rows.map(row).collect())
    }

    /// The fields of these objects together.
    fn of(&self, names: &[&str]) -> Keys {
        names.iter().flat_map(|name| self.0[*name].clone()).collect()
    }

    #[track_caller]
    fn check(&self, value: &Value, names: &[&str], more: &[&str]) {
        let found: Keys = value.as_object().expect("an object").keys().cloned().collect();
        let mut expected = self.of(names);
        expected.extend(more.iter().map(|name| (*name).to_owned()));
        let missing: Vec<_> = expected.difference(&found).collect();
        let unknown: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{names:?}: README has {missing:?}, which are not printed; {unknown:?} are printed"
        );
    }

    #[track_caller]
    fn check_event(&self, event: &Value) {
        let name = event["event"].as_str().unwrap();
        self.check(event, &["events", name], &[]);
        if let Some(moments) = event.get("moments") {
            self.check(moments, &["moments"], &[]);
        }
    }

    #[track_caller]
    fn check_facts(&self, facts: &Value) {
        self.check(&facts["signals"], &["signals"], &[]);
        for rule in facts["rules"].as_array().unwrap() {
            self.check(rule, &["rules"], &[]);
            for condition in rule["conditions"].as_array().unwrap() {
                self.check(condition, &["condition"], &[]);
            }
        }
    }

    #[track_caller]
    fn check_trigger(&self, trigger: &Value) {
        let own: &[&str] = match trigger["kind"].as_str().unwrap() {
            "pressure" => &["kind", "level"],
            "vendor" => &["kind", "reason", "min_adj"],
            _ => &["kind"],
        };
        self.check(trigger, &[], own);
        assert!(own.iter().all(|name| self.0["trigger"].contains(*name)));
    }
}

#[test]
fn events_have_the_documented_fields() {
    let documented = Documented::read();
    let mut file = one_kill();
    file.put(ms(5000), &Lost { records: 3 });
    let events = file.json(&["events", "--json"]);
    let mut seen = Keys::new();
    for event in &events {
        documented.check_event(event);
        seen.insert(event["event"].as_str().unwrap().to_owned());
    }
    let all = ["fate", "kill", "level", "lost", "sources"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

#[test]
fn explanations_have_the_documented_fields() {
    let documented = Documented::read();
    let kill = &one_kill().json(&["explain", "--json"])[0];
    documented.check(kill, &["explain", "kill"], &[]);
    documented.check(&kill["moments"], &["moments"], &[]);
    kill["fates"].as_array().unwrap().iter().for_each(|fate| documented.check_event(fate));
    documented.check(&kill["next"][0], &["process"], &[]);
    documented.check(&kill["look"], &["look"], &[]);
    documented.check_facts(&kill["look"]);
    documented.check_trigger(&kill["look"]["trigger"]);
    documented.check(&kill["look"]["passed_over"][0], &["process"], &["obstacle"]);
    // Without the look the fields are the same.
    let kill =
        &killed_for(KillReason::Watchdog, Tunables::default()).json(&["explain", "--json"])[0];
    documented.check(kill, &["explain", "kill"], &[]);
    assert!(kill["look"].is_null());
}

#[test]
fn states_have_the_documented_fields() {
    let documented = Documented::read();
    let state = &with_state().json(&["status", "--json"])[0];
    documented.check(state, &["status"], &[]);
    documented.check(&state["sources"], &["sources"], &[]);
    documented.check_facts(state);
    documented.check(&state["next"][0], &["process"], &["rss_kb", "name"]);
    documented.check(&state["latency_us"], &["latency_us"], &[]);
    for spread in state["latency_us"].as_object().unwrap().values() {
        documented.check(spread, &["spread"], &[]);
    }
    documented.check(&state["daemon"], &["daemon"], &[]);
    documented.check(&state["ring"], &["ring"], &[]);
}

#[test]
fn what_keeps_rules_from_killing_has_the_documented_fields() {
    let documented = Documented::read();
    for trigger in [
        Trigger::Event(Level::Critical),
        Trigger::Poll,
        Trigger::KswapdWake,
        Trigger::Vendor { reason: 7, min_adj: 900 },
    ] {
        let mut file = one_kill();
        file.put(ms(2400), &Input::Minfree(MinfreeTable::from_pairs([(4000, 900), (8000, 950)])));
        file.put(ms(2500), &look(trigger, ms(2500), signals(), None, Act::Nothing));
        let told = &file.json(&["why-not", "--json"])[0];
        documented.check(told, &["why-not"], &[]);
        documented.check(&told["minfree"], &["minfree"], &[]);
        for level in told["minfree"]["levels"].as_array().unwrap() {
            documented.check(level, &["minfree_level"], &[]);
        }
        documented.check_trigger(&told["trigger"]);
        documented.check_facts(told);
    }
}

#[test]
fn the_help_names_the_fields_too() {
    let documented = Documented::read();
    for (name, objects) in [
        ("events", &["events", "kill", "fate", "level", "sources", "lost", "moments"][..]),
        ("status", &["status", "latency_us", "spread", "daemon", "ring"]),
    ] {
        let mut command = crate::command();
        let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        let words: Keys = help
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .map(str::to_owned)
            .collect();
        let missing: Vec<_> = documented.of(objects).difference(&words).cloned().collect();
        assert!(missing.is_empty(), "{name} --help lacks {missing:?}");
    }
}
