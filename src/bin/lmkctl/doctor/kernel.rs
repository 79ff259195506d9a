//! What the kernel offers: pressure, processes as descriptors, reclaim events, groups.

use super::daemon::Subject;
use super::finding::Finding;
use super::settings::Settings;
use lmkd::config::Tunables;
use lmkd::kernel::memcg::MemcgError;
use lmkd::kernel::memcg::MemoryCgroups;
use lmkd::kernel::memevents::MemEvents;
use lmkd::kernel::psi;
use lmkd::kernel::psi::Source;
use lmkd::pidfd::Exit;
use lmkd::pidfd::PidFd;
use lmkd::units::PageSize;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Access;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// Looks at all of it.
pub fn examine(subject: &Subject, settings: &Settings) -> Vec<Finding> {
    let page = page_size(PageSize::of_this_kernel());
    let pressure = pressure(settings.pressure_file(), &settings.tunables, subject.outranks_us());
    let mut findings = vec![version(), page, pressure];
    findings.extend(processes());
    let spacing = u32::try_from(settings.tunables.psi_window_size_ms).unwrap_or(1000);
    let events = MemEvents::open(spacing).map(|events| events.is_stamped());
    findings.push(reclaim_events(events.map_err(|error| error.to_string()), subject.outranks_us()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = MemoryCgroups::find().map(|_| ());
    findings.extend(groups(&mounts, found, settings.tunables.per_app_memcg));
    findings
}

fn version() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (release, machine) = (release.trim(), std::env::consts::ARCH);
    Finding::ok("version", format_args!("Linux {release}, {machine}"))
}

/// What is counted in pages: minfree levels by whoever sends them; what a file of `/proc` that is
/// held open costs by the kernel.
fn page_size(page: PageSize) -> Finding {
    const CHECK: &str = "page_size";
    let kib = page.kib();
    match kib {
        4 => Finding::ok(CHECK, "4 KiB"),
        16 => Finding::ok(
            CHECK,
            "16 KiB: minfree levels are fewer of them than on 4 KiB, a quarter for the same memory",
        ),
        64 => Finding::degraded(
            CHECK,
            "64 KiB",
            "the daemon has not been tried on it: minfree levels made for 4 KiB mean 16 times the \
             memory, and each file that it holds open costs 64 KiB of the kernel's",
            "send levels in these pages; use a kernel with pages of 4 or 16 KiB",
        ),
        _ => Finding::degraded(
            CHECK,
            format_args!("{kib} KiB"),
            "the daemon has not been tried on it: minfree levels made for another size mean other \
             memory",
            "use a kernel with pages of 4 or 16 KiB",
        ),
    }
}

fn pressure(file: &Path, tunables: &Tunables, may_do_more: bool) -> Finding {
    const CHECK: &str = "pressure";
    let path = file.display();
    let armed = psi::try_arm(file, tunables);
    match armed {
        Err(refused) => Finding::broken(
            CHECK,
            refused,
            "the daemon keeps the monitors that it had, or does not start",
            "correct the setting",
        ),
        Ok((_, Some(_))) if may_do_more => {
            Finding::unknown(CHECK, format_args!("{path}: refused to us; the daemon may do more"))
        }
        Ok((_, Some(shortfall))) => Finding::degraded(
            CHECK,
            format_args!("{path}: {}", shortfall.cause),
            shortfall.effect,
            shortfall.remedy,
        ),
        Ok((Source::Sampling { .. }, None)) => Finding::degraded(
            CHECK,
            "use_psi is off",
            "memory is looked at once a second, idle or not",
            "unset use_psi",
        ),
        Ok((Source::Psi { window_ms, monitors, .. }, None)) => {
            let count = monitors.iter().flatten().count();
            Finding::ok(
                CHECK,
                format_args!("{path}: the kernel takes {count} monitors per {window_ms} ms"),
            )
        }
    }
}

/// One child's death shows all that pidfds can do.
fn processes() -> Vec<Finding> {
    let mut child = match sleeper() {
        Ok(child) => child,
        Err(error) => {
            return vec![Finding::unknown("pidfd", format_args!("no child to try it on: {error}"))]
        }
    };
    let findings = examine_death(&mut child);
    // Whatever failed above, it does not stay.
    let _ = child.kill();
    let _ = child.wait();
    findings
}

/// A child that waits for this very process, and so ends with it at the latest.
fn sleeper() -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .args(["wait", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn examine_death(child: &mut Child) -> Vec<Finding> {
    let pidfd = match PidFd::open(child.id().cast_signed()) {
        Ok(pidfd) => pidfd,
        Err(error) => return vec![no_pidfd("pidfd_open", error)],
    };
    if let Err(error) = pidfd.kill() {
        return vec![no_pidfd("pidfd_send_signal", error)];
    }
    let released = mrelease(pidfd.mrelease());
    let exited = exited(wait_for(&pidfd, PollFlags::IN));
    let _ = child.wait();
    let reaped = reaped(wait_for(&pidfd, PollFlags::empty()));
    vec![exited, released, reaped, exit_status(pidfd.exit())]
}

fn no_pidfd(call: &str, error: Errno) -> Finding {
    Finding::broken(
        "pidfd",
        format_args!("{call}: {error}"),
        "no process can be named, killed or waited for",
        format_args!("use Linux 5.3 or newer, and let a seccomp filter pass {call}"),
    )
}

fn exited(readable: bool) -> Finding {
    const CHECK: &str = "pidfd";
    match readable {
        true => Finding::ok(CHECK, "opened, signalled, and readable once it had exited"),
        false => Finding::broken(
            CHECK,
            "not readable a second after SIGKILL",
            "each kill waits for kill_timeout_ms, and no exit is proven",
            "use Linux 5.3 or newer",
        ),
    }
}

fn reaped(hung_up: bool) -> Finding {
    const CHECK: &str = "reaped";
    match hung_up {
        true => Finding::ok(CHECK, "a pidfd hangs up once its process was reaped"),
        false => Finding::degraded(
            CHECK,
            "a pidfd does not hang up when its process is reaped",
            "the exit status is asked for once, when the process has exited",
            "Linux 6.9 and newer do it",
        ),
    }
}

fn exit_status(told: Option<Exit>) -> Finding {
    const CHECK: &str = "exit_status";
    match told {
        Some(exit) => Finding::ok(CHECK, format_args!("told by pidfd: {exit}")),
        None => Finding::degraded(
            CHECK,
            "not told by pidfd",
            "the log says that a victim has exited, not by what",
            "Linux 6.15 and newer tell",
        ),
    }
}

fn mrelease(answer: Result<(), Errno>) -> Finding {
    const CHECK: &str = "mrelease";
    match answer {
        // Its memory may be gone already.
        Ok(()) | Err(Errno::SRCH | Errno::AGAIN) => {
            Finding::ok(CHECK, "process_mrelease works on a dying process")
        }
        Err(error) => Finding::degraded(
            CHECK,
            format_args!("process_mrelease: {error}"),
            "victims free their memory themselves, which takes longer when they are starved",
            "Linux 5.15 and newer have it; let a seccomp filter pass it",
        ),
    }
}

/// Whether these, or a hang-up, come within a second.
fn wait_for(pidfd: &PidFd, flags: PollFlags) -> bool {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let mut fds = [PollFd::new(pidfd, flags)];
    matches!(rustix::event::poll(&mut fds, Some(&second)), Ok(1))
}

/// Whose programs tell, our own or AOSP's; or why none do.
fn reclaim_events(ours: Result<bool, String>, may_do_more: bool) -> Finding {
    const CHECK: &str = "reclaim_events";
    match ours {
        Ok(ours) => {
            let whose = if ours { "our own programs" } else { "AOSP's programs" };
            Finding::ok(CHECK, format_args!("BPF: {whose} at the tracepoints of reclaim"))
        }
        Err(_) if may_do_more => {
            Finding::unknown(CHECK, "BPF is refused to us; the daemon may do more")
        }
        Err(text) => {
            let (cause, remedy) = text.split_once("; ").unwrap_or((&text, ""));
            let effect =
                "reclaim is told from vmstat's counters; DIRECT_RECL_STUCK never fires, and \
                          the daemon does not wake up where nothing is left to stall on";
            Finding::degraded(CHECK, cause, effect, remedy)
        }
    }
}

fn groups(mounts: &str, found: Result<(), MemcgError>, wanted: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of_type = |kind: &str| -> Vec<(&str, &str)> {
        let lines = mounts.lines().filter_map(|line| line.split_once(" - "));
        let typed = lines.filter(|(_, after)| after.split(' ').next() == Some(kind));
        typed.map(|(before, after)| (before.split(' ').nth(4).unwrap_or(""), after)).collect()
    };
    let (v1, v2) = (of_type("cgroup"), of_type("cgroup2"));
    let memory_v1 = v1.iter().find(|(_, after)| has_option(after, "memory"));
    findings.push(match (found, v2.first()) {
        (Ok(()), _) if memory_v1.is_some() => Finding::ok("memory_groups", "cgroup v1"),
        (Ok(()), Some((point, _))) => {
            Finding::ok("memory_groups", format_args!("cgroup v2 at {point}"))
        }
        (Ok(()), None) => Finding::ok("memory_groups", "mounted"),
        (Err(error), _) if wanted => Finding::degraded(
            "memory_groups",
            error,
            "per_app_memcg is on, and no app's memory is protected",
            "mount cgroups with a memory controller, or turn per_app_memcg off",
        ),
        (Err(error), _) => {
            Finding::ok("memory_groups", format_args!("{error}; per_app_memcg is off anyway"))
        }
    });
    findings.push(freezer(v1.iter().find(|(_, after)| has_option(after, "freezer"))));
    findings
}

/// Processes that a cgroup of version 1 has frozen cannot even die; the daemon takes its victims out.
fn freezer(v1: Option<&(&str, &str)>) -> Finding {
    const CHECK: &str = "freezer";
    let Some((point, _)) = v1 else {
        return Finding::ok(CHECK, "no cgroup v1 freezer: a frozen victim dies at once");
    };
    match rustix::fs::access(format!("{point}/cgroup.procs"), Access::WRITE_OK) {
        Ok(()) => Finding::ok(
            CHECK,
            format_args!("cgroup v1 at {point}: a frozen victim is taken out of its group"),
        ),
        Err(error) => Finding::degraded(
            CHECK,
            format_args!("cgroup v1 at {point}: cgroup.procs: {error}"),
            "a frozen victim cannot die until it is thawed, and costs one kill_timeout_ms",
            "let the daemon write there, or freeze with cgroup v2",
        ),
    }
}

fn has_option(after: &str, name: &str) -> bool {
    let options = after.split(' ').nth(2).unwrap_or("");
    options.split(',').any(|option| option == name)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn pages_of_a_size_that_was_not_tried_are_found() {
        let of = |kib: usize| page_size(PageSize::from_bytes(kib << 10)).state();
        assert_eq!(
            [of(4), of(16), of(64), of(8)].map(|state| state == State::Ok),
            [true, true, false, false]
        );
    }

    #[test]
    fn pressure_that_is_not_heard_of_is_found() {
        let file = Path::new("/nonexistent/memory");
        let of = |change: fn(&mut Tunables), may_do_more| {
            let mut tunables = Tunables::default();
            change(&mut tunables);
            pressure(file, &tunables, may_do_more).state()
        };
        assert_eq!([of(|_| {}, false), of(|_| {}, true)], [State::Degraded, State::Unknown]);
        assert_eq!(of(|t| t.use_psi = false, false), State::Degraded);
        assert_eq!(of(|t| t.psi_window_size_ms = 20_000, false), State::Broken);
    }

    #[test]
    fn what_pidfds_cannot_do_is_found() {
        assert_eq!(no_pidfd("pidfd_open", Errno::NOSYS).state(), State::Broken);
        assert_eq!([exited(true), exited(false)].map(|of| of.state()), [State::Ok, State::Broken]);
        assert_eq!(
            [reaped(true), reaped(false)].map(|of| of.state()),
            [State::Ok, State::Degraded]
        );
        let told = [exit_status(Some(Exit::Signal(9))), exit_status(None)];
        assert_eq!(told.map(|of| of.state()), [State::Ok, State::Degraded]);
        let refused = [Ok(()), Err(Errno::SRCH), Err(Errno::NOSYS), Err(Errno::PERM)];
        let states = refused.map(|answer| mrelease(answer).state());
        assert_eq!(states, [State::Ok, State::Ok, State::Degraded, State::Degraded]);
    }

    #[test]
    fn reclaim_that_nobody_tells_of_is_found() {
        let of = |told: Result<bool, &str>, may_do_more| {
            reclaim_events(told.map_err(str::to_owned), may_do_more).state()
        };
        assert_eq!([of(Ok(true), false), of(Ok(false), false)], [State::Ok, State::Ok]);
        let refused = Err("bpf: not permitted; grant CAP_BPF");
        assert_eq!([of(refused, false), of(refused, true)], [State::Degraded, State::Unknown]);
    }

    #[test]
    fn groups_that_are_missing_are_found_if_they_are_wanted() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let of = |found, wanted| groups(v2, found, wanted)[0].state();
        let none = Err(MemcgError::NoHierarchy);
        assert_eq!([of(none, true), of(none, false)], [State::Degraded, State::Ok]);
        assert_eq!(of(Ok(()), true), State::Ok);
    }

    #[test]
    fn a_freezer_that_a_frozen_victim_cannot_be_taken_out_of_is_found() {
        let point = std::env::temp_dir().join(format!("doctor-freezer-{}", std::process::id()));
        fs::create_dir_all(&point).unwrap();
        let mounts = format!("31 23 0:27 / {} rw - cgroup none rw,freezer\n", point.display());
        let of = || groups(&mounts, Ok(()), false)[1].state();
        assert_eq!(of(), State::Degraded);
        fs::write(point.join("cgroup.procs"), "").unwrap();
        assert_eq!(of(), State::Ok);
        fs::remove_dir_all(point).unwrap();
        assert_eq!(groups("", Ok(()), false)[1].state(), State::Ok);
    }
}
