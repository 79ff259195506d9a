//! The reaper: threads that take dying processes' memory back with process_mrelease(2), and see
//! to it that they get to die.
//!
//! The loop hands a victim over without waiting, allocating or holding a lock across a system
//! call, and looks at the answer whenever it likes. The threads are two: taking memory back waits for
//! the lock of that memory, which a victim that is stuck may hold, and the next one's is not to wait
//! for that.

use super::groups::Groups;
use crate::clock::MonoTime;
use crate::pidfd::PidFd;
use crate::sys;
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// How many victims can be with the reaper or on watch at a time.
pub const PLACES: usize = 16;

/// Tries of one process_mrelease that answers EAGAIN, a millisecond apart: the victim's memory is
/// busy, and its own exit is likely to get there first.
const MOST_TRIES: u32 = 20;

/// As in AOSP's lmkd.
const THREADS: usize = 2;

/// A thread's stack, bytes.
const STACK: usize = 64 * 1024;

/// What became of a victim's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// When process_mrelease returned.
    pub at: MonoTime,
    /// Its answer; ESRCH says that the exiting process was faster.
    pub result: Result<(), Errno>,
}

/// The memory is back, one way or the other.
impl Release {
    /// Whether the victim's memory is free.
    #[must_use]
    pub fn is_back(&self) -> bool {
        matches!(self.result, Ok(()) | Err(Errno::SRCH))
    }
}

#[derive(Default)]
struct Place {
    job: Option<Job>,
    /// Of the job that was handed over last.
    ticket: u32,
    answer: Option<(u32, Release)>,
}

struct Job {
    pidfd: PidFd,
    victim: Signalled,
}

/// A victim that was signalled.
#[derive(Clone, Copy, Debug)]
pub struct Signalled {
    /// Its process id.
    pub pid: i32,
    /// Tells its answer from an earlier one of the same place.
    pub ticket: u32,
    /// Whether it slept in a way that looks like a frozen group of cgroup v1.
    pub may_be_frozen: bool,
    /// When.
    pub at: MonoTime,
}

struct Shared {
    places: [Mutex<Place>; PLACES],
    bell: OwnedFd,
    groups: Groups,
}

/// A handle of the reaper's threads.
pub struct Reaper {
    shared: Option<Arc<Shared>>,
}

/// A lock that is held for a few instructions and never across a system call. A panic aborts the
/// process, so poison cannot be met.
fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reaper {
    /// Starts the threads. Without one, or process_mrelease (Linux 5.15), victims free their memory
    /// themselves; one line says so.
    #[must_use]
    pub fn start() -> Self {
        if !sys::pidfd::process_mrelease_exists() {
            log::warn!(
                "no process_mrelease (Linux 5.15): victims free their memory themselves, which \
                 takes longer when they get no CPU"
            );
        }
        // Held from the start: once the daemon serves, its descriptors are all there.
        match Self::spawn(Groups::open()) {
            Ok(shared) => Self { shared: Some(shared) },
            Err(error) => {
                log::warn!("no reaper thread ({error}): victims free their memory themselves");
                Self { shared: None }
            }
        }
    }

    /// Fails if not even one can be had.
    fn spawn(groups: Groups) -> std::io::Result<Arc<Shared>> {
        // Each ring is a round of one thread: a reader that took them all might get stuck on the first.
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
        let places = std::array::from_fn(|_| Mutex::default());
        let shared = Arc::new(Shared { places, bell, groups });
        for number in 0..THREADS {
            let theirs = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name("lmkd_reaper".to_owned())
                .stack_size(STACK)
                .spawn(move || theirs.run());
            match thread {
                Err(error) if number == 0 => return Err(error),
                Err(error) => log::warn!("one reaper thread only ({error})"),
                Ok(_) => {}
            }
        }
        Ok(shared)
    }

    /// Hands a signalled victim over.
    pub fn hand_over(&self, place: u8, pidfd: &PidFd, victim: Signalled) {
        let Some(shared) = &self.shared else { return };
        let Some(mutex) = shared.places.get(usize::from(place)) else { return };
        let Ok(pidfd) = pidfd.try_clone() else { return };
        let old = {
            let mut place = lock(mutex);
            (place.answer, place.ticket) = (None, victim.ticket);
            place.job.replace(Job { pidfd, victim })
        };
        // Dropped outside the lock: closing a descriptor is a system call.
        drop(old);
        self.ring();
    }

    /// Has a thread go its round.
    pub(super) fn ring(&self) {
        let Some(shared) = &self.shared else { return };
        // Cannot block: the counter would have to be at its 64-bit end.
        let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
    }

    /// What became of the memory of the victim with this ticket, if that is known by now.
    #[must_use]
    pub fn answer(&self, place: u8, ticket: u32) -> Option<Release> {
        let place = lock(self.shared.as_ref()?.places.get(usize::from(place))?);
        place.answer.filter(|(of, _)| *of == ticket).map(|(_, release)| release)
    }
}

impl Shared {
    fn run(&self) {
        // An ordinary thread: the loop's real-time class is not inherited, since this thread is
        // started before the loop takes it.
        let _ = sys::sched::set_nice(0, -20);
        sys::sched::touch_stack::<{ STACK / 4 }>();
        let mut count = [0_u8; 8];
        loop {
            if !matches!(rustix::io::read(&self.bell, &mut count), Ok(_) | Err(Errno::INTR)) {
                return;
            }
            for place in &self.places {
                let job = lock(place).job.take();
                if let Some(job) = job {
                    let release = reap(&job, &self.groups);
                    let (mut place, ticket) = (lock(place), job.victim.ticket);
                    // By now the place may be another's, who has got his answer from the other thread.
                    if place.ticket == ticket {
                        place.answer = Some((ticket, release));
                    }
                }
            }
        }
    }
}

fn reap(job: &Job, groups: &Groups) -> Release {
    let Signalled { pid, may_be_frozen, at: signalled, .. } = job.victim;
    let mut tries = 1;
    let mut result = job.pidfd.mrelease();
    // What is left to do is the victim's own. Its id is its own until it has been reaped.
    if !job.pidfd.has_exited() {
        if may_be_frozen {
            groups.thaw(pid, &job.pidfd);
        }
        groups.bring_forward(pid, &job.pidfd);
    }
    while result == Err(Errno::AGAIN) && tries < MOST_TRIES {
        std::thread::sleep(Duration::from_millis(1));
        tries += 1;
        result = job.pidfd.mrelease();
    }
    let at = MonoTime::now();
    // The wording is matched by AOSP's device tests.
    match result {
        Ok(()) => {
            log::debug!("Process {pid} was reaped in {}ms", at.millis_since(signalled));
        }
        Err(Errno::SRCH) => {
            log::debug!("process_mrelease {pid} failed: No such process");
        }
        // Said at the start.
        Err(Errno::NOSYS) => {}
        Err(error) => log::error!("process_mrelease {pid} failed: {error}"),
    }
    Release { at, result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Held;
    use rustix::event::PollFd;
    use rustix::event::PollFlags;

    fn signalled(child: &Held, ticket: u32) -> Signalled {
        Signalled { pid: child.pid(), ticket, may_be_frozen: false, at: MonoTime::now() }
    }

    /// With a group that takes nobody: writing to it waits until it is drained.
    fn with_a_full_group() -> (Reaper, OwnedFd) {
        let (reader, full) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&full, true).unwrap();
        while rustix::io::write(&full, &[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&full, false).unwrap();
        (Reaper { shared: Some(Reaper::spawn(Groups::of(full)).unwrap()) }, reader)
    }

    fn drain(reader: &OwnedFd) {
        let mut text = [0; 4096];
        while rustix::io::read(reader, &mut text).unwrap() == text.len() {}
    }

    /// A descriptor of a process that has exited of SIGKILL.
    fn killed(child: &Held) -> PidFd {
        let pidfd = PidFd::open(child.pid()).unwrap();
        pidfd.kill().unwrap();
        let mut exit = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut exit, None).unwrap();
        pidfd
    }

    /// Its arrival has no descriptor to wait on.
    fn answered(reaper: &Reaper, place: u8, ticket: u32) -> Release {
        let deadline = MonoTime::now().plus_millis(10_000);
        loop {
            if let Some(release) = reaper.answer(place, ticket) {
                return release;
            }
            assert!(MonoTime::now() < deadline, "the reaper never answered");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_keeps_a_thread_waiting_does_not_keep_the_next_ones_memory() {
        let (reaper, reader) = with_a_full_group();
        let [stuck, dying] = [(); 2].map(|()| Held::sleep());
        // Nobody has signalled it, so it stays.
        reaper.hand_over(3, &PidFd::open(stuck.pid()).unwrap(), signalled(&stuck, 7));
        let pidfd = killed(&dying);
        reaper.hand_over(4, &pidfd, signalled(&dying, 8));
        assert!(answered(&reaper, 4, 8).is_back());
        assert_eq!(reaper.answer(3, 7), None);
        // Its place is somebody else's, and stays so when the first comes loose.
        reaper.hand_over(3, &pidfd, signalled(&dying, 9));
        answered(&reaper, 3, 9);
        drain(&reader);
        reaper.hand_over(5, &pidfd, signalled(&dying, 10));
        answered(&reaper, 5, 10);
        assert!(reaper.answer(3, 9).is_some());
    }

    #[test]
    fn of_two_that_are_handed_over_at_once_one_does_not_wait_for_the_other() {
        for _ in 0..30 {
            let (reaper, reader) = with_a_full_group();
            let [stuck, dying] = [(); 2].map(|()| Held::sleep());
            let first = PidFd::open(stuck.pid()).unwrap();
            let second = killed(&dying);
            reaper.hand_over(3, &first, signalled(&stuck, 7));
            reaper.hand_over(4, &second, signalled(&dying, 8));
            answered(&reaper, 4, 8);
            drain(&reader);
        }
    }

    #[test]
    fn the_answer_of_another_ticket_is_not_taken_for_this_one() {
        let (reaper, dying) = (Reaper::start(), Held::sleep());
        let pidfd = PidFd::open(dying.pid()).unwrap();
        pidfd.kill().unwrap();
        reaper.hand_over(3, &pidfd, signalled(&dying, 7));
        assert_eq!(reaper.answer(3, 6), None);
        assert!(answered(&reaper, 3, 7).is_back());
    }
}
