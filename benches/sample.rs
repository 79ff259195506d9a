//! What a Sample costs beside the bare reads of the files that it is made of.
//!
//! The kernel makes these files while they are read, so most of a Sample is the kernel's time. Both
//! sides take turns in the same run: other load hits both.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::units::PageSize;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

const PROC: &str = "/proc";
const PRESSURE: &str = "/proc/pressure/memory";
const ROUNDS: usize = 2000;
/// Rounds of one side before the other takes its turn.
const TURN: usize = 20;

/// Reads each file from its start to its end, as one must to have all of it.
fn bare_reads(files: &[File], buffer: &mut [u8]) {
    for file in files {
        let mut offset = 0;
        loop {
            let read = rustix::io::pread(file, &mut *buffer, offset).unwrap();
            if read == 0 {
                break;
            }
            offset += u64::try_from(read).unwrap();
        }
    }
    black_box(buffer);
}

/// The median time of one round of each side.
fn compare(mut ours: impl FnMut(), mut bare: impl FnMut()) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS / TURN {
        let sides: [&mut dyn FnMut(); 2] = [&mut ours, &mut bare];
        for (side, times) in sides.into_iter().zip(&mut times) {
            for _ in 0..TURN {
                let start = Instant::now();
                side();
                times.push(start.elapsed());
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn report(what: &str, watermarks: bool, files: &[&str]) {
    let mut sampler =
        Sampler::open(Path::new(PROC), Path::new(PRESSURE), PageSize::of_this_kernel());
    let mut sample = Sample::default();
    let ours = || {
        sampler.read(MonoTime::now(), watermarks, &mut sample).unwrap();
        black_box(&sample);
    };
    let files: Vec<_> =
        files.iter().filter_map(|f| File::open(Path::new(PROC).join(f)).ok()).collect();
    let mut buffer = vec![0; 64 * 1024];
    let [ours, bare] = compare(ours, || bare_reads(&files, &mut buffer));
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!(
        "{what:<28} {:>7.1} us  bare reads {:>7.1} us  ratio {ratio:.2}",
        ours.as_secs_f64() * 1e6,
        bare.as_secs_f64() * 1e6,
    );
}

fn main() {
    report("sample", false, &["vmstat", "meminfo", "pressure/memory"]);
    report("sample with watermarks", true, &["vmstat", "meminfo", "zoneinfo", "pressure/memory"]);
}
