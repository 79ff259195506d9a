//! The C library's heap.

/// Has all threads share one heap. Else glibc gives each thread one of its own at its first
/// allocation: 64 MiB of address space mapped and trimmed while the others start, and a few pages
/// that stay. To be called before a thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn share_one() {
    // SAFETY: mallopt takes two integers, and no other thread is there that could allocate.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Other C libraries share one, or decide for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn share_one() {}
