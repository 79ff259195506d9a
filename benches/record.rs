//! The time and the room that a record takes in the flight recorder.
//!
//! Times are also given in readings of the clock, which the daemon makes many of in a turn: that
//! ratio is about the same on any machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::kill::ledger::Moments;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Level;
use lmkd::policy::Policy;
use lmkd::policy::Poller;
use lmkd::policy::Trigger;
use lmkd::recorder::few::Few;
use lmkd::recorder::few::Text;
use lmkd::recorder::frame::Body;
use lmkd::recorder::ring::Cursor;
use lmkd::recorder::ring::Ring;
use lmkd::recorder::Act;
use lmkd::recorder::Change;
use lmkd::recorder::Checkpoint;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Process;
use lmkd::recorder::Seen;
use lmkd::recorder::Settings;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// Few enough that most runs are not interrupted, so that their median is of the record alone.
const ROUNDS: u32 = 100;
const REPEATS: usize = 5001;
const RING: usize = 512 * 1024;

fn main() {
    let look = look();
    let clock = time(|_| {
        black_box(MonoTime::now());
    });
    println!("| record (target: under 2000 ns) | median ns | readings of the clock | bytes | a ring of {} KiB holds |", RING / 1024);
    println!("| --- | --- | --- | --- | --- |");
    let ignored = Look { seen: None, ..look.clone() };
    row("look at memory, with all it saw", clock, &look);
    row("look that was not admitted", clock, &ignored);
    row("kill", clock, &kill());
    row("registry change", clock, &Change::Added(process(0)));
    row("settings", clock, &Settings { tunables: Tunables::default() });
    let policy = Policy::new(PageSize::SMALL);
    row("checkpoint", clock, &Checkpoint { policy, poller: Poller::new() });
    reading(&look);
}

/// This machine's memory, as a look sees it.
fn look() -> Look {
    let page = PageSize::of_this_kernel();
    let psi = Path::new("/proc/pressure/memory");
    let mut sampler = Sampler::open(Path::new("/proc"), psi, page);
    let mut sample = Sample::default();
    let (trigger, now) = (Trigger::Event(Level::Critical), MonoTime::now());
    let tunables = Tunables::default();
    let mut policy = Policy::new(page);
    let admission = policy.admit(trigger, now, None, &tunables);
    sampler.read(now, true, &mut sample).unwrap();
    let verdict = policy.evaluate(trigger, &sample, &tunables);
    Look {
        trigger,
        woken: now,
        now,
        pending: None,
        admission,
        seen: Some(Seen { sample, verdict }),
        act: Act::Nothing,
        tried: Few::default(),
        waiting: false,
        plan: policy.poll_plan(trigger, false),
    }
}

fn process(index: i32) -> Process {
    Process { pid: 20_000 + index, uid: 10_001, adj: OomScoreAdj::PREVIOUS }
}

fn kill() -> Kill {
    let now = MonoTime::now();
    let reason = lmkd::policy::KillReason::LowMem;
    let min_adj = OomScoreAdj::ABOVE_PERCEPTIBLE;
    Kill {
        ticket: 7,
        look: 1000,
        pid: 20_000,
        uid: 10_001,
        adj: OomScoreAdj::PREVIOUS,
        name: Text::new(b"com.example.app.of.usual.length:service"),
        rss: Kib(200_000),
        swap: Kib(100_000),
        threads: 60,
        cause: lmkd::policy::Cause { reason, min_adj, cut_thrashing_limit: false },
        moments: Moments {
            woken: now,
            decided: now,
            raised: now,
            signalled: now,
            ..Default::default()
        },
        next: (0..8).map(process).collect(),
    }
}

fn row<B: Body>(name: &str, clock: f64, body: &B) {
    let (_, mut writer) = Ring::new(RING).unwrap();
    writer.write(MonoTime::now(), body);
    let bytes = writer.written();
    let now = MonoTime::now();
    let median = time(|_| {
        black_box(writer.write(now, black_box(body)));
    });
    let holds = u64::try_from(RING).unwrap() / bytes;
    let ratio = median / clock;
    println!("| {name} | {median:.0} | {ratio:.1} | {bytes} | {holds} |");
}

/// What the scribe takes for a whole ring, which nobody waits for.
fn reading(look: &Look) {
    let (ring, mut writer) = Ring::new(RING).unwrap();
    for _ in 0..10_000 {
        writer.write(MonoTime::now(), look);
    }
    let mut out = vec![0; 16 * 1024];
    let start = Instant::now();
    let mut cursor = Cursor::default();
    let mut bytes = 0;
    while ring.has_more(&cursor) {
        bytes += ring.read(&mut cursor, &mut out).len;
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    println!("\nreading and checking the whole ring, {} KiB: {took:.1} ms", bytes / 1024);
}

/// The median of the means of some runs, ns.
fn time(mut run: impl FnMut(u32)) -> f64 {
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(&mut run);
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}
