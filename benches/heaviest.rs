//! Choosing the heaviest of many real processes, beside bare preads of their held `statm` files.
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
    let [mut bare, mut opened, mut unknown, mut known, mut swapped] = [const { Vec::new() }; 5];
    let mut adopted = Vec::new();
    let mut adopting = Searcher::new(true);
    let mut nobody = Registry::with_capacity(0);
    let floor = OomScoreAdj::FOREGROUND;
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
        // More has been allocated than any of them holds: nothing that is known rules one out.
        drop(black_box(vec![1_u8; 64 << 20]));
        for (times, swap_used) in
            [(&mut unknown, Kib::ZERO), (&mut known, Kib::ZERO), (&mut swapped, Kib(64))]
        {
            searcher.start(floor, false, swap_used);
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
    row("heaviest, nothing ruled out", median(unknown));
    row("heaviest, sizes known from just before", median(known));
    row("heaviest, sizes known, 64 kB in swap", median(swapped));
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
    let spawn = || Command::new("sleep").arg("600").spawn().unwrap();
    let mut many = Many(Vec::new());
    // The known sizes are to have a clear winner, as real ones do.
    let mut heavy = Command::new("sh")
        .args(["-c", "x=$(head -c 32M /dev/zero | tr '\\0' x); echo; read -r y"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    heavy.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    many.0.push(heavy);
    for count in [1000, 2000, 5000] {
        many.0.extend((many.0.len()..count).map(|_| spawn()));
        measure(&many.0);
    }
}
