//! Replays recorded decisions of AOSP's lmkd (`tests/data/vectors`) step by step.
//!
//! Each step is answered twice from the same state: once with the inputs that AOSP's daemon would
//! have used, which must give its answer to the letter, and once as our daemon does it, which may
//! differ only in the ways listed in [`Difference`]. The first state is carried on, so that the
//! claim covers every step and not only those before a first difference.
//!
//! `LMKD_VECTORS` names another file of the same format, plain or gzipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod policy_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use flate2::read::GzDecoder;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::kernel::Watermarks;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Admission;
use lmkd::policy::Cause;
use lmkd::policy::KillReason;
use lmkd::policy::Policy;
use lmkd::policy::PollPlan;
use lmkd::policy::PollRequest;
use lmkd::policy::Trigger;
use lmkd::policy::Verdict;
use lmkd::policy::Wmark;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use policy_support::Files;
use serde_json::Value;

/// What a step answers, in the terms of the vectors. What was not computed is None.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    ignored: bool,
    skipped: bool,
    reason: Option<i64>,
    min_adj: Option<i64>,
    thrashing: Option<i64>,
    max_thrashing: Option<i64>,
    wmark: Option<Wmark>,
    plan: PollPlan,
}

impl Answer {
    /// What is written under `expect`.
    fn expected(expect: &Value) -> Self {
        let number = |name: &str| expect[name].as_i64();
        Self {
            ignored: expect["ignored"].as_bool().unwrap_or(false),
            skipped: expect["skipped"].as_bool().unwrap_or(false),
            reason: number("reason"),
            min_adj: number("min_adj"),
            thrashing: number("thrashing"),
            max_thrashing: number("max_thrashing"),
            wmark: expect["wmark"].as_str().map(|word| match word {
                "min" => Wmark::Min,
                "low" => Wmark::Low,
                "high" => Wmark::High,
                "none" => Wmark::None,
                other => panic!("watermark {other}"),
            }),
            plan: PollPlan {
                request: match expect["polling"].as_str().unwrap() {
                    "none" => PollRequest::NoChange,
                    "start" => PollRequest::Start,
                    "pause" => PollRequest::Pause,
                    other => panic!("polling {other}"),
                },
                interval_ms: number("interval_ms"),
            },
        }
    }
}

/// The reason with this number.
fn reason_of(number: i64) -> KillReason {
    use KillReason as R;
    let all = [
        R::PressureAfterKill,
        R::NotResponding,
        R::LowSwapAndThrashing,
        R::LowMemAndSwap,
        R::LowMemAndThrashing,
        R::DirectReclaimAndThrashing,
        R::LowMemAndSwapUtil,
        R::LowFilecacheAfterThrashing,
        R::LowMem,
        R::DirectReclaimStuck,
    ];
    all.into_iter().find(|reason| i64::from(reason.number()) == number).unwrap()
}

/// Where we decide otherwise on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// AOSP decides on watermarks up to a minute old until it first finds a reason, and then goes
    /// through the rules again with the results of the first pass still in place. We read them
    /// anew for each decision until a first kill is made.
    StaleWatermarksBeforeTheFirstKill,
    /// AOSP forgets to ask for polling, and keeps the level of the event, if a file cannot be read.
    UnreadableFileKeepsPolling,
    /// AOSP decides nothing if zoneinfo cannot be read when it is due. We go by the watermarks that
    /// were read last.
    UnreadableZoneinfoStillDecides,
    /// AOSP searches for a victim even if the lowest adj is set to more than 1000, and finds none.
    NobodyIsAboveAThousand,
}

/// AOSP's bookkeeping of watermarks, from the outside.
struct Aosp {
    marks: Watermarks,
    read_at: MonoTime,
    first_kill: bool,
}

impl Aosp {
    fn refreshes(&self, now: MonoTime) -> bool {
        self.marks.high == Pages::ZERO || now.millis_since(self.read_at) > 60_000
    }
}

struct Replay {
    page: PageSize,
    tunables: Tunables,
    policy: Policy,
    aosp: Aosp,
    files: Files,
}

/// What AOSP's daemon did in a step, and the state it left.
struct Theirs {
    policy: Policy,
    verdict: Verdict,
    /// Set if a file it wanted could not be read.
    gave_up: bool,
}

impl Replay {
    fn new(sequence: &Value) -> Self {
        let kib = usize::try_from(sequence["page_kb"].as_u64().unwrap()).unwrap();
        let page = PageSize::from_bytes(kib * 1024);
        let aosp = Aosp { marks: Watermarks::default(), read_at: MonoTime::ZERO, first_kill: true };
        Self {
            page,
            tunables: policy_support::tunables(&sequence["tunables"]),
            policy: Policy::new(page),
            aosp,
            files: Files::default(),
        }
    }

    /// Replays one step. The answer that AOSP's inputs give, and ours.
    fn step(&mut self, step: &Value) -> (Answer, Answer) {
        self.files.update(step);
        let trigger = policy_support::trigger(step);
        let sample = self.files.sample(step, self.page);
        let pending = step["kill_pending"].as_bool().unwrap();
        let pending = pending.then(|| policy_support::time(step, "last_kill").unwrap());
        let waiting = step["waiting"].as_bool().unwrap();
        let t = self.tunables.clone();
        let fresh = self.files.watermarks();
        let admission = self.policy.admit(trigger, sample.now, pending, &t);
        let Admission::Evaluate { watermarks } = admission else {
            let answer = Answer {
                ignored: admission == Admission::Ignored,
                skipped: admission == Admission::Skipped,
                plan: self.policy.poll_plan(trigger, waiting),
                ..Answer::default()
            };
            return (answer, answer);
        };
        let freed = step["freed_pages"].as_i64().unwrap() > 0;

        let mut ours = self.policy.clone();
        let with = |marks| Sample { watermarks: marks, ..sample.clone() };
        let broken = |file: &str| unreadable(step, file);
        let ours_failed = broken("vmstat") || broken("meminfo");
        let fresh_for_us = (watermarks && !broken("zoneinfo")).then_some(fresh);
        let our_answer = if ours_failed {
            ours.read_failed(trigger);
            Answer { plan: ours.poll_plan(trigger, waiting), ..Answer::default() }
        } else {
            let verdict = ours.evaluate(trigger, &with(fresh_for_us), &t);
            if let (Some(cause), true) = (verdict.cause, freed) {
                ours.note_kill(&cause, &t);
            }
            answer(&ours, trigger, verdict, waiting)
        };

        let theirs = self.theirs(step, trigger, &sample, fresh);
        let mut their_answer = answer(&theirs.policy, trigger, theirs.verdict, waiting);
        if theirs.gave_up {
            their_answer.wmark = None;
            their_answer.plan = PollPlan::default();
        }
        self.policy = theirs.policy;
        let expected = Answer::expected(&step["expect"]);
        let mut killed = theirs.verdict.cause;
        if let (None, Some(number), Some(1001..)) = (killed, expected.reason, expected.min_adj) {
            // The search that cannot find anybody; the recorded run pretends that it did.
            their_answer.reason = expected.reason;
            their_answer.min_adj = expected.min_adj;
            killed = Some(Cause {
                reason: reason_of(number),
                min_adj: OomScoreAdj::MAX,
                cut_thrashing_limit: false,
            });
        }
        if !theirs.gave_up {
            if let (Some(cause), true) = (killed, freed) {
                self.policy.note_kill(&cause, &t);
            }
            their_answer.plan = self.policy.poll_plan(trigger, waiting);
        }
        (their_answer, our_answer)
    }

    /// The step as AOSP's daemon takes it, with its own idea of when to read the watermarks.
    fn theirs(
        &mut self,
        step: &Value,
        trigger: Trigger,
        sample: &Sample,
        fresh: Watermarks,
    ) -> Theirs {
        let t = &self.tunables;
        let before = self.policy.clone();
        if unreadable(step, "vmstat") || unreadable(step, "meminfo") {
            return Theirs { policy: before, verdict: Verdict::default(), gave_up: true };
        }
        let run = |marks: Option<Watermarks>| {
            let mut policy = before.clone();
            let sample = Sample { watermarks: marks, ..sample.clone() };
            let verdict = policy.evaluate(trigger, &sample, t);
            Theirs { policy, verdict, gave_up: false }
        };
        let stale = run(None);
        if stale.verdict.signals.is_none() {
            return stale;
        }
        // What is left of a look that ends where the watermarks should have been read: the
        // signals are taken, the rules are not reached. A minfree table without levels never kills.
        let gave_up = || {
            let t =
                Tunables { use_minfree_levels: true, use_new_strategy: Some(false), ..t.clone() };
            let mut policy = before.clone();
            let verdict = policy.evaluate(trigger, sample, &t);
            Theirs { policy, verdict, gave_up: true }
        };
        let mut refreshed = false;
        let mut first = stale;
        if self.aosp.refreshes(sample.now) {
            if unreadable(step, "zoneinfo") {
                return gave_up();
            }
            (self.aosp.marks, self.aosp.read_at, refreshed) = (fresh, sample.now, true);
            first = run(Some(fresh));
        }
        let found = first.verdict.cause.is_some() || expects_search(step);
        if !self.aosp.first_kill || !found {
            return first;
        }
        self.aosp.first_kill = false;
        if unreadable(step, "zoneinfo") {
            // The forced reading failed, so the next look wants one again.
            self.aosp.marks = Watermarks::default();
            first.gave_up = true;
            first.verdict.cause = None;
            return first;
        }
        (self.aosp.marks, self.aosp.read_at) = (fresh, sample.now);
        if refreshed {
            return first;
        }
        let mut second = run(Some(fresh));
        second.verdict.cause = second.verdict.cause.or(first.verdict.cause);
        second
    }
}

fn unreadable(step: &Value, file: &str) -> bool {
    step["unreadable"].as_array().is_some_and(|files| files.iter().any(|name| name == file))
}

fn expects_search(step: &Value) -> bool {
    step["expect"]["min_adj"].as_i64().is_some_and(|adj| adj > 1000)
}

fn answer(policy: &Policy, trigger: Trigger, verdict: Verdict, waiting: bool) -> Answer {
    Answer {
        ignored: false,
        skipped: false,
        reason: verdict.cause.map(|cause| i64::from(cause.reason.number())),
        min_adj: verdict.cause.map(|cause| i64::from(cause.min_adj.get())),
        thrashing: verdict.signals.map(|signals| signals.thrashing),
        max_thrashing: verdict.signals.map(|signals| signals.max_thrashing),
        wmark: verdict.signals.map(|signals| signals.wmark),
        plan: policy.poll_plan(trigger, waiting),
    }
}

/// Which difference explains that our answer is not AOSP's.
fn explain(step: &Value, stale: bool, ours: &Answer, theirs: &Answer) -> Option<Difference> {
    if unreadable(step, "vmstat") || unreadable(step, "meminfo") {
        let silent = Answer { plan: ours.plan, ..Answer::default() };
        return (*ours == silent).then_some(Difference::UnreadableFileKeepsPolling);
    }
    if unreadable(step, "zoneinfo") {
        return Some(Difference::UnreadableZoneinfoStillDecides);
    }
    if theirs.min_adj.is_some_and(|adj| adj > 1000) {
        // No search, and no kill that would hurry the next look.
        let rest = Answer { reason: None, min_adj: None, plan: ours.plan, ..*theirs };
        return (*ours == rest).then_some(Difference::NobodyIsAboveAThousand);
    }
    stale.then_some(Difference::StaleWatermarksBeforeTheFirstKill)
}

fn vectors() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors/decisions.jsonl.gz");
    let path = std::env::var("LMKD_VECTORS").unwrap_or_else(|_| own.to_owned());
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text
}

#[test]
fn every_recorded_decision_is_ours_too_except_the_deliberate_differences() {
    let mut steps = 0;
    let mut wrong = Vec::new();
    let mut differences: BTreeMap<(Difference, String), usize> = BTreeMap::new();
    for line in vectors().lines() {
        let sequence: Value = serde_json::from_str(line).unwrap();
        let id = sequence["id"].as_str().unwrap();
        let mut replay = Replay::new(&sequence);
        for (number, step) in sequence["steps"].as_array().unwrap().iter().enumerate() {
            steps += 1;
            let expected = Answer::expected(&step["expect"]);
            let marks = replay.aosp.marks;
            let (theirs, ours) = replay.step(step);
            if theirs != expected {
                wrong.push(format!("{id} step {number}:\n  want {expected:?}\n  have {theirs:?}"));
            } else if ours != expected {
                let why = explain(step, marks != replay.files.watermarks(), &ours, &theirs);
                let kind = id.split('-').next().unwrap().to_owned();
                match why {
                    Some(why) => *differences.entry((why, kind)).or_default() += 1,
                    None => wrong.push(format!(
                        "{id} step {number}, unexplained:\n  want {expected:?}\n  ours {ours:?}"
                    )),
                }
            }
        }
    }
    if std::env::var_os("LMKD_VECTORS").is_none() {
        let mut counts: BTreeMap<Difference, usize> = BTreeMap::new();
        for ((why, _), count) in &differences {
            *counts.entry(*why).or_default() += count;
        }
        let known = [
            (Difference::StaleWatermarksBeforeTheFirstKill, 29),
            (Difference::UnreadableFileKeepsPolling, 26),
            (Difference::UnreadableZoneinfoStillDecides, 7),
            (Difference::NobodyIsAboveAThousand, 43),
        ];
        assert_eq!(counts, BTreeMap::from(known), "the deliberate differences, counted");
        assert_eq!(steps, 6790);
    }
    println!("{steps} steps, deliberate differences: {differences:#?}");
    assert!(
        wrong.is_empty(),
        "{} of {steps} steps differ:\n{}",
        wrong.len(),
        wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
}
