//! The decision table: hand-written sequences of inputs with the answers they must get
//! (`tests/data/decisions`), on both sides of each comparison.
#![allow(missing_docs, clippy::unwrap_used)]

mod policy_support;

use std::fs;
use std::path::Path;

use lmkd::clock::MonoTime;
use lmkd::kernel::ReclaimEvents;
use lmkd::policy::Admission;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Policy;
use lmkd::policy::PollRequest;
use lmkd::policy::Trigger;
use lmkd::policy::Verdict;
use lmkd::policy::Wmark;
use lmkd::units::PageSize;
use policy_support::Files;
use serde_json::json;
use serde_json::Value;

/// The answers of one step under the names that `expect` uses.
fn run(
    policy: &mut Policy,
    files: &mut Files,
    sequence: &Value,
    page: PageSize,
    step: &Value,
) -> Value {
    files.update(step);
    let t = policy_support::tunables(&sequence["tunables"]);
    let trigger = policy_support::trigger(step);
    let mut sample = files.sample(step, page);
    let events = step["reclaim"].as_object();
    sample.reclaim = events.map(|events| ReclaimEvents {
        direct_since: events["direct_since_ms"].as_u64().map(MonoTime::from_millis),
        kswapd_awake: events["kswapd_awake"].as_bool().unwrap(),
    });
    let pending = policy_support::time(step, "pending_since");
    let admission = policy.admit(trigger, sample.now, pending, &t);
    let mut verdict = Verdict::default();
    let mut reads_watermarks = None;
    if let Admission::Evaluate { watermarks } = admission {
        reads_watermarks = Some(watermarks);
        if step.get("unreadable").is_some() {
            policy.read_failed(trigger);
        } else {
            sample.watermarks = watermarks.then(|| files.watermarks());
            verdict = policy.evaluate(trigger, &sample, &t);
        }
    }
    if let (Some(cause), true) = (verdict.cause, step["freed"].as_bool().unwrap_or(true)) {
        policy.note_kill(&cause, &t);
    }
    let plan = policy.poll_plan(trigger, step["waiting"].as_bool().unwrap_or(false));
    let signals = verdict.signals;
    json!({
        "ignored": admission == Admission::Ignored,
        "skipped": admission == Admission::Skipped,
        "reads_watermarks": reads_watermarks,
        "reason": verdict.cause.map(|cause| cause.reason.number()),
        "min_adj": verdict.cause.map(|cause| cause.min_adj.get()),
        "thrashing": signals.map(|signals| signals.thrashing),
        "max_thrashing": signals.map(|signals| signals.max_thrashing),
        "limit": signals.map(|signals| signals.thrashing_limit),
        "exhausted": signals.map(|signals| signals.exhausted),
        "wmark": signals.map(|signals| match signals.wmark {
            Wmark::Min => "min",
            Wmark::Low => "low",
            Wmark::High => "high",
            Wmark::None => "none",
        }),
        "polling": match plan.request {
            PollRequest::NoChange => "none",
            PollRequest::Start => "start",
            PollRequest::Pause => "pause",
        },
        "interval_ms": plan.interval_ms,
        "vigil_ms": policy.vigil_ms(),
        "since_event_ms": policy.wakeups().since_event_ms,
    })
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_sequence_of_the_table_is_decided_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decisions");
    let base = read(&directory.join("base.json"));
    let (mut sequences, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("base.json") || path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        for sequence in read(&path).as_array().unwrap() {
            sequences += 1;
            let kib = usize::try_from(sequence["page_kb"].as_u64().unwrap_or(4)).unwrap();
            let page = PageSize::from_bytes(kib * 1024);
            let mut policy = Policy::new(page);
            let levels = sequence["minfree"].as_array().into_iter().flatten();
            let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
            policy.set_minfree(MinfreeTable::from_pairs(
                levels.map(|level| (number(&level[0]), number(&level[1]))),
            ));
            if sequence["sampled"].as_bool().unwrap_or(false) {
                policy.pressure_is_sampled(true);
            }
            let mut files = Files::default();
            files.update(&base);
            if !sequence["cold"].as_bool().unwrap_or(false) {
                // A first look at plenty of memory, from which counters and windows start.
                let t = policy_support::tunables(&json!({}));
                let first = files.sample(&json!({"t_ms": 10_000}), page);
                policy.admit(Trigger::Poll, first.now, None, &t);
                assert_eq!(policy.evaluate(Trigger::Poll, &first, &t).cause, None);
            }
            for (index, step) in sequence["steps"].as_array().unwrap().iter().enumerate() {
                let mut step = step.clone();
                if step.get("psi_full_avg10").is_none() {
                    step["psi_full_avg10"] = base["psi_full_avg10"].clone();
                }
                let answer = run(&mut policy, &mut files, sequence, page, &step);
                for (name, want) in step["expect"].as_object().unwrap() {
                    let have = answer.get(name).unwrap_or_else(|| panic!("what is {name}?"));
                    if have != want {
                        let title = sequence["name"].as_str().unwrap();
                        wrong.push(format!("{title}, step {index}: {name} {have}, not {want}"));
                    }
                }
            }
        }
    }
    assert!(sequences >= 60, "only {sequences} sequences");
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}
