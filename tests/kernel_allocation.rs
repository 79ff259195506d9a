//! What is read between a pressure event and SIGKILL is read without the heap.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::units::PageSize;
use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::path::Path;

thread_local! {
    /// Allocations of this thread; the test harness allocates on others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; the counter is a plain thread-local
// cell without a destructor, which itself never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get().saturating_add(1)));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `run` allocates.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn a_sample_is_taken_without_the_heap() {
    let psi = Path::new("/proc/pressure/memory");
    let mut sampler = Sampler::open(Path::new("/proc"), psi, PageSize::of_this_kernel());
    let mut sample = Sample::default();
    let count = allocations(|| {
        for _ in 0..10 {
            sampler.read(MonoTime::now(), true, &mut sample).unwrap();
            sampler.read_watermarks().unwrap();
            sampler.read_pressure();
        }
    });
    assert_eq!(count, 0);
    assert!(sample.watermarks.is_some());
}

#[test]
fn a_file_that_cannot_be_opened_again_costs_no_heap_either() {
    let nowhere = Path::new("/nonexistent");
    let mut sampler = Sampler::open(nowhere, nowhere, PageSize::SMALL);
    let mut sample = Sample::default();
    let count = allocations(|| {
        assert!(sampler.read(MonoTime::now(), true, &mut sample).is_err());
        sampler.read_pressure();
    });
    assert_eq!(count, 0);
}

#[test]
fn a_process_is_read_without_the_heap() {
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    let count = allocations(|| {
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
    assert_eq!(count, 0);
}
