//! What is read between a pressure event and SIGKILL is read without the heap.
#![allow(missing_docs, clippy::unwrap_used)]

mod heap;

use heap::without_the_heap;
use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::units::PageSize;
use std::path::Path;

#[test]
fn a_sample_is_taken_without_the_heap() {
    let psi = Path::new("/proc/pressure/memory");
    let mut sampler = Sampler::open(Path::new("/proc"), psi, PageSize::of_this_kernel());
    let mut sample = Sample::default();
    without_the_heap(|| {
        for _ in 0..10 {
            sampler.read(MonoTime::now(), true, &mut sample).unwrap();
            sampler.read_watermarks().unwrap();
            sampler.read_pressure();
        }
    });
    assert!(sample.watermarks.is_some());
}

#[test]
fn a_file_that_cannot_be_opened_again_costs_no_heap_either() {
    let nowhere = Path::new("/nonexistent");
    let mut sampler = Sampler::open(nowhere, nowhere, PageSize::SMALL);
    let mut sample = Sample::default();
    without_the_heap(|| {
        assert!(sampler.read(MonoTime::now(), true, &mut sample).is_err());
        sampler.read_pressure();
    });
}

#[test]
fn a_process_is_read_without_the_heap() {
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    without_the_heap(|| {
        let status = proc.status(pid).unwrap();
        assert_eq!(status.tgid, pid);
        assert!(proc.rss(pid).is_ok() && proc.stat(pid).is_ok() && proc.name(pid).is_ok());
        assert!(proc.oom_score_adj(pid).is_ok() && proc.owner(pid).is_ok());
        let mut seen = 0;
        proc.processes(|_| {
            seen += 1;
            true
        })
        .unwrap();
        proc.threads(pid, |_| true).unwrap();
        assert!(seen > 0);
    });
}
