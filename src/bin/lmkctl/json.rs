//! Records as JSON. Names are stable: fields are added, never renamed; `schema` counts up should that
//! ever change. Memory is in kB, moments are in microseconds after the event, times of day in UTC.

use crate::history::Clock;
use crate::history::History;
use crate::history::Looked;
use crate::history::Story;
use crate::words;
use lmkd::clock::MonoTime;
use lmkd::kill::ledger::Moments;
use lmkd::pidfd::Exit;
use lmkd::policy::Facts;
use lmkd::policy::Reclaim;
use lmkd::policy::Rule;
use lmkd::policy::Signals;
use lmkd::policy::Trigger;
use lmkd::policy::RULES;
use lmkd::recorder::Fate;
use lmkd::recorder::Kill;
use lmkd::recorder::Process;
use lmkd::recorder::Sources;
use lmkd::recorder::Step;
use lmkd::recorder::Tried;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use rustix::process::Signal;
use serde_json::json;
use serde_json::Value;

/// The number in `schema`.
pub const SCHEMA: u32 = 1;

/// A time of day.
pub fn time(clock: &Clock, at: MonoTime) -> Value {
    json!(clock.wall(at).to_string())
}

/// Who.
pub fn process(process: &Process) -> Value {
    json!({ "pid": process.pid, "uid": process.uid, "oom_score_adj": process.adj.get() })
}

/// Microseconds from the event to each step; null for what has not come.
pub fn moments(moments: &Moments) -> Value {
    let after = |at: MonoTime| at.micros_since(moments.woken);
    json!({
        "decided_us": after(moments.decided),
        "raised_us": after(moments.raised),
        "signalled_us": after(moments.signalled),
        "memory_back_us": moments.released.map(after),
        "exited_us": moments.exited.map(after),
        "proven_us": moments.proven.map(after),
    })
}

/// What the daemon looked for.
pub fn trigger(trigger: Trigger) -> Value {
    match trigger {
        Trigger::Event(level) => json!({ "kind": "pressure", "level": words::level(level) }),
        Trigger::Vendor { reason, min_adj } => {
            json!({ "kind": "vendor", "reason": reason, "min_adj": min_adj })
        }
        other => json!({ "kind": words::trigger(other) }),
    }
}

/// What the rules looked at.
pub fn signals(signals: &Signals, page: PageSize) -> Value {
    let kb = |pages: Pages| pages.to_kib(page).get();
    let marks = &signals.watermarks;
    json!({
        "free_kb": kb(signals.free),
        "watermark_min_kb": kb(marks.min),
        "watermark_low_kb": kb(marks.low),
        "watermark_high_kb": kb(marks.high),
        "watermark_breached": words::watermark(signals.wmark),
        "reclaim": match signals.reclaim {
            Reclaim::None => "none",
            Reclaim::Kswapd => "kswapd",
            Reclaim::Direct => "direct",
        },
        "direct_reclaim_ms": signals.direct_reclaim_ms,
        "free_swap_kb": kb(signals.free_swap),
        "swap_low_threshold_kb": kb(signals.swap_low_threshold),
        "swap_is_low": signals.swap_is_low,
        "swap_utilisation_percent": signals.swap_util,
        "thrashing_percent": signals.thrashing,
        "thrashing_limit_percent": signals.thrashing_limit,
        "max_thrashing_percent": signals.max_thrashing,
        "file_cache_kb": kb(signals.file_cache),
        "critical_stall": signals.critical_stall,
        "critical_event": signals.critical_event,
        "after_kill": signals.after_kill,
        "nothing_left_to_reclaim": signals.exhausted,
    })
}

/// All rules with their conditions, each as a sentence with its numbers.
pub fn rules(facts: Facts<'_>) -> Value {
    let conditions = |rule: &Rule| -> Vec<Value> {
        let all = rule.conditions.iter().map(|condition| {
            let holds = condition.holds(&facts);
            json!({ "holds": holds, "text": condition.said(facts, holds).to_string() })
        });
        all.collect()
    };
    let rule = |rule: &Rule| {
        json!({
            "reason": rule.reason.name(),
            "number": rule.reason.number(),
            "holds": rule.first_failing(&facts).is_none(),
            "conditions": conditions(rule),
        })
    };
    json!(RULES.iter().map(rule).collect::<Vec<_>>())
}

/// A victim and why it was chosen.
pub fn kill(kill: &Kill, clock: &Clock) -> Value {
    json!({
        "schema": SCHEMA,
        "event": "kill",
        "time": time(clock, kill.moments.signalled),
        "ticket": kill.ticket,
        "pid": kill.pid,
        "uid": kill.uid,
        "oom_score_adj": kill.adj.get(),
        "name": kill.name.to_string(),
        "rss_kb": kill.rss.get(),
        "swap_kb": kill.swap.get(),
        "threads": kill.threads,
        "reason": kill.cause.reason.name(),
        "reason_number": kill.cause.reason.number(),
        "min_oom_score_adj": kill.cause.min_adj.get(),
        "moments": moments(&kill.moments),
    })
}

/// What became of a victim.
pub fn fate(fate: &Fate, at: MonoTime, clock: &Clock) -> Value {
    let (status, signal) = match fate.step {
        Step::Otherwise(Exit::Status(status)) => (Some(status), None),
        Step::Otherwise(Exit::Signal(signal)) => (None, Some(signal)),
        Step::Proven => (None, Some(Signal::KILL.as_raw())),
        _ => (None, None),
    };
    json!({
        "schema": SCHEMA,
        "event": "fate",
        "time": time(clock, at),
        "ticket": fate.ticket,
        "pid": fate.pid,
        "step": words::step(fate.step),
        "status": status,
        "signal": signal,
        "moments": moments(&fate.moments),
    })
}

/// What tells of pressure and reclaim.
pub fn sources(sources: &Sources) -> Value {
    json!({
        "pressure": words::pressure(sources.pressure),
        "reclaim": words::reclaims(sources.reclaim),
    })
}

fn tried(tried: &Tried) -> Value {
    let mut value = process(&tried.process);
    value["obstacle"] = json!(words::obstacle(tried.obstacle));
    value
}

fn looked(looked: &Looked, page: PageSize) -> Value {
    json!({
        "trigger": trigger(looked.look.trigger),
        "signals": looked.signals().map(|found| signals(found, page)),
        "rules": looked.facts(page).map(rules),
        "passed_over": looked.look.tried.iter().map(tried).collect::<Vec<_>>(),
    })
}

/// A kill with all that belongs to it.
pub fn story(story: &Story, history: &History) -> Value {
    let mut value = kill(&story.kill, &history.clock);
    let fates = story.fates.iter().map(|(at, step)| fate(step, *at, &history.clock));
    value["fates"] = fates.collect();
    value["next"] = story.kill.next.iter().map(process).collect();
    value["look"] = json!(story.looked.as_ref().map(|look| looked(look, history.page())));
    value
}
