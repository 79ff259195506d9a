//! Choosing the heaviest of many real processes, beside bare preads of their held `statm` files.
#![allow(clippy::unwrap_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::kernel::vmstat::PageCounterFile;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use lmkd::processes::Record;
use lmkd::processes::Registry;
use lmkd::processes::Searcher;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::fs;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

const ROUNDS: usize = 21;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn micros(call: impl FnOnce()) -> f64 {
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64() * 1e6
}

struct Many(Vec<Child>);

impl Drop for Many {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

fn measure(children: &[Child]) {
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let mut searcher = Searcher::with(None, PageSize::of_this_kernel(), children.len());
    let mut registry = Registry::with_capacity(children.len());
    let mut files = Vec::new();
    for child in children {
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let record = Record::new(pid, 0, OomScoreAdj::FOREGROUND, MonoTime::ZERO);
        let id = registry.insert(record);
        searcher.hold_size(&mut registry, &proc, id, false);
        files.push(File::open(format!("/proc/{pid}/statm")).unwrap());
    }
    assert_eq!(registry.held_statm(), children.len());
    let mut buffer = [0; 128];
    let [mut bare, mut opened] = [const { Vec::new() }; 2];
    let mut adopted = Vec::new();
    let mut adopting = Searcher::new(true);
    let mut nobody = Registry::with_capacity(0);
    let floor = OomScoreAdj::FOREGROUND;
    let mut counters = PageCounterFile::open();
    // Name, what is in swap, whether all that is known has to be stale, whether sizes are read ahead.
    let cases = [
        ("heaviest, nothing ruled out", Kib::ZERO, true, false),
        ("heaviest, known from the last search", Kib::ZERO, false, false),
        ("heaviest, nothing ruled out, 4 GB in swap", Kib(4 << 20), true, false),
        ("heaviest, read ahead, 4 GB in swap", Kib(4 << 20), false, true),
    ];
    let mut chosen = cases.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        bare.push(micros(|| {
            for file in &files {
                black_box(file.read_at(&mut buffer, 0).unwrap());
            }
        }));
        opened.push(micros(|| {
            for child in children {
                black_box(proc.rss(i32::try_from(child.id()).unwrap()).unwrap());
            }
        }));
        for ((_, swap_used, stale, ahead), times) in cases.iter().zip(&mut chosen) {
            if *ahead {
                searcher.read_ahead(&registry, false);
                while searcher.is_reading_ahead() {
                    searcher.read_some_ahead(&mut registry, &proc);
                }
            }
            if *stale {
                // More than any of them holds.
                drop(black_box(vec![1_u8; 64 << 20]));
            }
            searcher.know(counters.read());
            searcher.start(floor, false, *swap_used);
            times.push(micros(|| {
                black_box(searcher.next(&mut registry, &proc));
            }));
        }
        adopting.start(floor, false, Kib::ZERO);
        adopted.push(micros(|| {
            black_box(adopting.next(&mut nobody, &proc));
        }));
    }
    let bare = median(bare);
    let row = |name: &str, time: f64| {
        println!("{:>6}  {name:<44}{time:>10.1} us{:>8.2}", children.len(), time / bare);
    };
    row("bare preads of held statm", bare);
    row("open, read, close of statm", median(opened));
    for ((name, ..), times) in cases.iter().zip(chosen) {
        row(name, median(times));
    }
    row("heaviest of the machine, none registered", median(adopted));
    // Above adj 200 the age decides.
    for child in children {
        fs::write(format!("/proc/{}/oom_score_adj", child.id()), "900").unwrap();
    }
    let mut oldest = Vec::new();
    for _ in 0..ROUNDS {
        adopting.start(floor, false, Kib::ZERO);
        oldest.push(micros(|| {
            black_box(adopting.next(&mut nobody, &proc));
        }));
    }
    row("oldest of the machine, none registered", median(oldest));
    for child in children {
        fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0").unwrap();
    }
}

fn main() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    // Most are small, as on a device at ease; every hundredth holds up to 1.5 MB more.
    let spawn = |n: usize| {
        if !n.is_multiple_of(100) {
            return Command::new("sleep").arg("600").spawn().unwrap();
        }
        holder(n % 1500 + 1)
    };
    let mut many = Many(vec![holder(32 << 10)]);
    for count in [1000, 2000, 5000] {
        many.0.extend((many.0.len()..count).map(spawn));
        measure(&many.0);
    }
}

/// A shell that holds so many kB.
fn holder(kb: usize) -> Child {
    let script = format!("x=$(head -c {kb}k /dev/zero | tr '\\0' x); echo; read -r y");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    child
}
