//! What the registry's operations cost with ten processes and with ten thousand.
#![allow(clippy::unwrap_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use lmkd::processes::Record;
use lmkd::processes::Registry;
use lmkd::processes::Searcher;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const ROUNDS: usize = 51;
const CALLS: u32 = 2000;

/// The apps of a device, cached ones most of all.
fn registry(count: i32) -> Registry {
    let mut registry = Registry::with_capacity(usize::try_from(count).unwrap());
    let adjs = [900, 905, 910, 915, 700, 600, 500, 250].iter().cycle();
    for (n, adj) in (0..count).zip(adjs) {
        let adj = OomScoreAdj::new(*adj);
        let now = MonoTime::from_millis(n.unsigned_abs().into());
        registry.insert(Record::new(Pid::new(n + 2).unwrap(), 10_000, adj.unwrap(), now));
    }
    registry
}

/// Nanoseconds of one call, the median of the rounds.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn per_call(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let mut searcher = Searcher::with(None, PageSize::of_this_kernel(), 0);
    let floor = OomScoreAdj::FOREGROUND;
    let mut all = [registry(10), registry(10_000)];
    let mut pick = [vec![], vec![]];
    let mut turn = [vec![], vec![]];
    let mut replace = [vec![], vec![]];
    // In turns, so that both see the same machine.
    for _ in 0..ROUNDS {
        for (size, registry) in all.iter_mut().enumerate() {
            pick[size].push(per_call(|| {
                searcher.start(floor, false, Kib::ZERO);
                black_box(searcher.next(registry, &proc));
            }));
            turn[size].push(per_call(|| {
                let oldest = registry.oldest_first(floor).next().unwrap();
                let adj = registry.get(oldest).unwrap().adj();
                registry.set_adj(oldest, adj, MonoTime::ZERO);
            }));
            replace[size].push(per_call(|| {
                let oldest = registry.oldest_first(floor).next().unwrap();
                let record = registry.remove(oldest).unwrap();
                let (pid, uid, adj) = (record.pid(), record.uid, record.adj());
                registry.insert(Record::new(pid, uid, adj, MonoTime::ZERO));
            }));
        }
    }
    println!("{:<28}{:>10}{:>10}{:>8}", "ns", "10", "10,000", "ratio");
    for (name, [few, many]) in
        [("pick a victim", pick), ("move the oldest", turn), ("remove and insert", replace)]
    {
        let (few, many) = (median(few), median(many));
        println!("{name:<28}{few:>10.1}{many:>10.1}{:>8.2}", many / few);
    }
}
