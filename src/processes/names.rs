//! Names of processes, read on a thread of their own.
//!
//! A name is the beginning of the command line, which is the process's own memory: whoever reads it
//! takes the lock of that memory (mmap_lock) and waits until the page is there. A process that gets
//! no CPU or waits in reclaim while it holds the lock keeps the reader waiting for as long, and a page
//! in swap has to be read first. So the loop reads no name: it asks ahead, and where there is no answer
//! it makes do with the kernel's name of up to 15 bytes, after [`PATIENCE_MS`] at most.

use super::READY;
use crate::clock::MonoTime;
use crate::kernel::process::Comm;
use crate::kernel::process::ProcDir;
use crate::kernel::process::TaskName;
use crate::sys::sched;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use std::cell::Cell;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// How long a name may be waited for that nobody has asked for before, ms.
const PATIENCE_MS: u32 = 2;

/// The place of those who are not among the next.
const STRANGER: usize = READY;

/// The thread's stack, bytes.
const STACK: usize = 32 * 1024;

/// A name, and the kernel's name of the process when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// From the command line.
    pub name: TaskName,
    /// The kernel's.
    pub comm: Comm,
}

#[derive(Clone, Copy)]
struct Question {
    key: u64,
    pid: i32,
}

#[derive(Default)]
struct Place {
    question: Option<Question>,
    answer: Option<(u64, Option<Named>)>,
}

struct Shared {
    places: [Mutex<Place>; READY + 1],
    /// Wakes the thread.
    asked: OwnedFd,
    /// Tells the loop of an answer about one of the next.
    answered: OwnedFd,
    /// Tells it of an answer about another.
    answered_now: OwnedFd,
    /// Since when the thread has been reading a name, ns on CLOCK_MONOTONIC; 0 while it reads none.
    reading_since: AtomicU64,
}

/// A handle of the thread that reads names.
pub struct Names {
    shared: Option<Arc<Shared>>,
    last_key: Cell<u64>,
}

/// A lock that is held for a few instructions and never across a system call, by threads that, where
/// the real-time class was granted, the normal one cannot preempt. A panic aborts the process, so poison cannot be met.
fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// Starts the thread. Without it processes go by the kernel's names; one line says so.
    #[must_use]
    pub fn start() -> Self {
        let shared = Self::spawn(Path::new("/proc")).map_err(|error| {
            log::warn!("no thread for names ({error}): victims go by the kernel's short names");
        });
        Self { shared: shared.ok(), last_key: Cell::new(0) }
    }

    fn spawn(proc: &Path) -> anyhow::Result<Arc<Shared>> {
        let eventfd = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            places: std::array::from_fn(|_| Mutex::default()),
            asked: rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?,
            answered: eventfd()?,
            answered_now: eventfd()?,
            reading_since: AtomicU64::new(0),
        });
        let proc = ProcDir::open(proc)?;
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("lmkd_names".to_owned())
            .stack_size(STACK)
            .spawn(move || theirs.run(&proc))?;
        Ok(shared)
    }

    /// Readable when there is something for [`Self::take`]; None without the thread.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.shared.as_ref().map(|shared| shared.answered.as_fd())
    }

    /// The bell has been heard.
    pub(super) fn heard(&self) {
        if let Some(shared) = &self.shared {
            drain(&shared.answered);
        }
    }

    /// Asks for the name of the process at a place of those who are next.
    pub(super) fn ask(&self, place: usize, key: u64, pid: i32) {
        if let Some(shared) = &self.shared {
            shared.ask(place, Question { key, pid });
        }
    }

    /// The answer to the latest question of this place, if it has come by now.
    pub(super) fn take(&self, place: usize, key: u64) -> Option<Named> {
        self.shared.as_ref()?.take(place, key).flatten()
    }

    /// The name of a process that nobody asked for before. None if it is gone, or its name has not
    /// come within 2 ms: a reader that is kept waiting already is not waited for at all.
    pub fn now(&self, pid: i32) -> Option<TaskName> {
        let shared = self.shared.as_ref()?;
        let since = shared.reading_since.load(Ordering::Relaxed);
        let patience_ns = u64::from(PATIENCE_MS).saturating_mul(1_000_000);
        if since != 0 && MonoTime::now().as_nanos().saturating_sub(since) > patience_ns {
            return None;
        }
        let key = self.last_key.get().wrapping_add(1);
        self.last_key.set(key);
        drain(&shared.answered_now);
        shared.ask(STRANGER, Question { key, pid });
        let limit =
            Timespec { tv_sec: 0, tv_nsec: i64::from(PATIENCE_MS).saturating_mul(1_000_000) };
        let mut heard = [PollFd::new(&shared.answered_now, PollFlags::IN)];
        let _ = rustix::event::poll(&mut heard, Some(&limit));
        let named = shared.take(STRANGER, key).flatten()?;
        Some(named.name)
    }
}

impl Shared {
    fn ask(&self, place: usize, question: Question) {
        let Some(place) = self.places.get(place) else { return };
        *lock(place) = Place { question: Some(question), answer: None };
        ring(&self.asked);
    }

    fn take(&self, place: usize, key: u64) -> Option<Option<Named>> {
        let mut place = lock(self.places.get(place)?);
        place.answer.take_if(|(of, _)| *of == key).map(|(_, named)| named)
    }

    fn run(&self, proc: &ProcDir) {
        // As the loop: on a machine that has no CPU left names are wanted no less. It sleeps for as
        // long as a process keeps it waiting.
        let _ = sched::set_fifo(0, 1);
        let mut count = [0_u8; 8];
        loop {
            if !matches!(rustix::io::read(&self.asked, &mut count), Ok(_) | Err(Errno::INTR)) {
                return;
            }
            for (index, place) in self.places.iter().enumerate() {
                let Some(Question { key, pid }) = lock(place).question.take() else { continue };
                self.reading_since.store(MonoTime::now().as_nanos().max(1), Ordering::Relaxed);
                let named = read(proc, pid);
                self.reading_since.store(0, Ordering::Relaxed);
                {
                    let mut place = lock(place);
                    if place.question.is_none() {
                        place.answer = Some((key, named));
                    }
                }
                ring(if index == STRANGER { &self.answered_now } else { &self.answered });
            }
        }
    }
}

/// The kernel's name first: one that has changed since is noticed by it.
fn read(proc: &ProcDir, pid: i32) -> Option<Named> {
    let comm = proc.status(pid).ok()?.comm;
    let name = proc.name(pid).ok()?;
    Some(Named { name, comm })
}

fn ring(bell: &OwnedFd) {
    // Cannot block: the counter would have to be at its 64-bit end.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn drain(bell: &OwnedFd) {
    let _ = rustix::io::read(bell, &mut [0_u8; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_that_nobody_asked_for_comes_at_once_and_none_of_the_gone() {
        let names = Names::start();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        // Others may have the machine for longer than the patience, and until its exec is through it
        // is called as this thread.
        let mut all = std::iter::from_fn(|| Some(names.now(pid))).flatten();
        let own = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        let own = format!("({})", own.trim_end());
        let name = all.find(|name| name.to_string() != own).unwrap();
        assert!(["sleep", "(sleep)"].contains(&name.to_string().as_str()), "{name}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(names.now(pid).is_none());
    }

    #[test]
    fn who_keeps_a_reader_waiting_costs_others_their_names_for_as_long_and_no_time() {
        let root = std::env::temp_dir().join(format!("lmkd-names-{}", std::process::id()));
        let status = std::fs::read("/proc/self/status").unwrap();
        for pid in ["1", "2"] {
            std::fs::create_dir_all(root.join(pid)).unwrap();
            std::fs::write(root.join(pid).join("status"), &status).unwrap();
        }
        // Opening a pipe to read waits for a writer.
        let pipe = root.join("1/cmdline");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(root.join("2/cmdline"), "com.example.app\0--flag\0").unwrap();
        let names = Names { shared: Names::spawn(&root).ok(), last_key: Cell::new(0) };
        assert!(names.now(1).is_none());
        let before = MonoTime::now();
        for _ in 0..10_000 {
            assert!(names.now(2).is_none());
        }
        // With the patience for each it would be 20 s.
        assert!(MonoTime::now().millis_since(before) < 10_000);
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
        let name = std::iter::from_fn(|| Some(names.now(2))).flatten().next().unwrap();
        assert_eq!(name.to_string(), "com.example.app");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_not_taken() {
        let names = Names::start();
        let own = std::process::id().cast_signed();
        let hears = || {
            let bell = names.bell().unwrap();
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            let mut heard = [PollFd::new(&bell, PollFlags::IN)];
            assert_eq!(rustix::event::poll(&mut heard, Some(&limit)).unwrap(), 1);
            names.heard();
        };
        names.ask(3, 7, own);
        hears();
        assert!(names.take(3, 8).is_none() && names.take(2, 7).is_none());
        assert!(names.take(3, 7).is_some() && names.take(3, 7).is_none());
        names.ask(3, 8, own);
        names.ask(3, 9, own);
        let mut last = None;
        while last.is_none() {
            hears();
            assert!(names.take(3, 8).is_none());
            last = names.take(3, 9);
        }
    }
}
