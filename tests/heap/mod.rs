//! An allocator that ends the test when it is used where it must not be.
#![allow(missing_docs, unsafe_code)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;

thread_local! {
    /// Whether this thread may not use the heap; the test harness uses it on others.
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

struct Forbidding;

impl Forbidding {
    fn check(what: &[u8]) {
        if FORBIDDEN.get() {
            // SAFETY: `what` is as long as it says. Printing in any other way might allocate.
            unsafe { libc::write(2, what.as_ptr().cast(), what.len()) };
            std::process::abort();
        }
    }
}

// SAFETY: every call goes to the system allocator unchanged or ends the process; the flag is a
// plain thread-local cell without a destructor, which itself never allocates.
unsafe impl GlobalAlloc for Forbidding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(b"memory is allocated where it must not be\n");
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::check(b"memory is freed where it must not be\n");
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Forbidding = Forbidding;

/// Runs something that must not touch the heap.
pub fn without_the_heap<T>(run: impl FnOnce() -> T) -> T {
    FORBIDDEN.set(true);
    let result = run();
    FORBIDDEN.set(false);
    result
}
