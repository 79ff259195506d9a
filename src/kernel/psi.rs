//! Pressure monitors: the kernel watches the stalls and wakes the daemon, which never asks.
//!
//! A monitor is a descriptor of a pressure file into which `some|full THRESHOLD WINDOW` was written,
//! in microseconds. It becomes readable as priority data (EPOLLPRI) when tasks stalled that long
//! within a window, at most once a window. The kernel takes windows of 500 ms to 10 s and thresholds
//! up to the window; without CAP_SYS_RESOURCE only windows that are a multiple of 2 s, and older
//! kernels none. Source: `Documentation/accounting/psi.rst`.

use crate::config::Tunables;
use crate::policy::Level;
use rustix::fd::OwnedFd;
use rustix::fs::FsWord;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt;
use std::path::Path;

const SHORTEST_WINDOW_MS: i64 = 500;
const LONGEST_WINDOW_MS: i64 = 10_000;
/// The period at which the kernel averages pressure anyway; a window of whole periods costs it
/// nothing more, so it needs no privilege.
const AVERAGING_MS: i64 = 2000;
/// How often to look where nothing tells of pressure.
const SAMPLING_MS: i64 = 1000;

/// Tells of one level of pressure.
#[derive(Debug)]
pub struct Monitor {
    /// The level that it tells of.
    pub level: Level,
    /// To be watched for EPOLLPRI. EPOLLERR says that the pressure file, a cgroup's, is gone.
    pub fd: OwnedFd,
}

/// What wakes the daemon.
#[derive(Debug)]
pub enum Source {
    /// The kernel's pressure monitors.
    Psi {
        /// The window that they were armed with, ms.
        window_ms: i64,
        /// Medium, then critical; None where the threshold is 0.
        monitors: [Option<Monitor>; 2],
        /// Whether the window and the thresholds were stretched for lack of CAP_SYS_RESOURCE.
        unprivileged: bool,
    },
    /// Nothing tells of pressure: the daemon looks by itself.
    Sampling {
        /// How often, ms.
        every_ms: i64,
        /// Whether what is missing may come, so that it pays to arm monitors again later.
        may_come: bool,
    },
}

/// A value that no kernel takes. The monitors in force, if any, are still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name of the tunable.
    pub tunable: &'static str,
    /// Its value, ms.
    pub value_ms: i64,
    /// The lowest value taken, ms.
    pub lowest_ms: i64,
    /// The highest, ms.
    pub highest_ms: i64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tunable, value_ms, lowest_ms, highest_ms } = self;
        write!(f, "{tunable} is {value_ms} ms, but must be {lowest_ms} to {highest_ms} ms")
    }
}

impl std::error::Error for Refused {}

/// Which stalls a monitor adds up.
#[derive(Clone, Copy, Debug)]
enum Stalled {
    Some,
    Full,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some",
            Self::Full => "full",
        })
    }
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    window_ms: i64,
    partial_ms: i64,
    complete_ms: i64,
}

impl Request {
    fn new(tunables: &Tunables) -> Result<Self, Refused> {
        let within = |tunable, value_ms: i64, lowest_ms, highest_ms| {
            if (lowest_ms..=highest_ms).contains(&value_ms) {
                Ok(value_ms)
            } else {
                Err(Refused { tunable, value_ms, lowest_ms, highest_ms })
            }
        };
        let window_ms = within(
            "psi_window_size_ms",
            tunables.psi_window_size_ms,
            SHORTEST_WINDOW_MS,
            LONGEST_WINDOW_MS,
        )?;
        let partial_ms =
            within("psi_partial_stall_ms", tunables.psi_partial_stall_ms, 0, window_ms)?;
        let complete_ms =
            within("psi_complete_stall_ms", tunables.psi_complete_stall_ms, 0, window_ms)?;
        Ok(Self { window_ms, partial_ms, complete_ms })
    }

    /// The same share of the next longer window that needs no privilege.
    fn stretched(self) -> Self {
        let periods = self.window_ms.saturating_add(AVERAGING_MS - 1) / AVERAGING_MS;
        let window_ms = periods.saturating_mul(AVERAGING_MS);
        let scaled =
            |ms: i64| ms.saturating_mul(window_ms).checked_div(self.window_ms).unwrap_or(0);
        Self {
            window_ms,
            partial_ms: scaled(self.partial_ms),
            complete_ms: scaled(self.complete_ms),
        }
    }

    /// Arms both monitors, or neither.
    fn arm(self, path: &Path) -> Result<[Option<Monitor>; 2], Failure> {
        let monitor = |level, stalled, threshold_ms| {
            if threshold_ms == 0 {
                return Ok(None);
            }
            let fd = arm_one(path, stalled, threshold_ms, self.window_ms)?;
            Ok(Some(Monitor { level, fd }))
        };
        Ok([
            monitor(Level::Medium, Stalled::Some, self.partial_ms)?,
            monitor(Level::Critical, Stalled::Full, self.complete_ms)?,
        ])
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window_ms, partial_ms, complete_ms } = self;
        write!(f, "some {partial_ms} ms, full {complete_ms} ms per {window_ms} ms")
    }
}

/// The step at which a monitor was refused. Its descriptor, if any, is closed by then: one that
/// was never armed answers every wait with an error at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Open(Errno),
    Write(Errno),
}

impl Failure {
    /// Whether a longer window may be taken where this one was not.
    fn may_be_privilege(self) -> bool {
        matches!(self, Self::Write(Errno::INVAL | Errno::PERM | Errno::ACCESS))
    }

    /// Whether another try may end otherwise: a group can be made anew, and what the kernel has run
    /// out of comes back. A kernel without PSI stays one.
    fn may_pass(self) -> bool {
        match self {
            Self::Open(Errno::NOENT) => Path::new("/proc/pressure/memory").exists(),
            Self::Open(errno) | Self::Write(errno) => matches!(
                errno,
                Errno::NOMEM
                    | Errno::MFILE
                    | Errno::NFILE
                    | Errno::BUSY
                    | Errno::AGAIN
                    | Errno::NODEV
            ),
        }
    }

    /// What is missing, and what to do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Open(Errno::NOENT) => {
                "another file may be meant, or the kernel has no PSI: build it with CONFIG_PSI=y and boot with psi=1"
            }
            Self::Open(Errno::OPNOTSUPP) => {
                "the kernel has no PSI: build it with CONFIG_PSI=y and boot with psi=1"
            }
            Self::Open(Errno::PERM) | Self::Write(Errno::PERM) => {
                "this kernel lets only CAP_SYS_RESOURCE have pressure monitors: grant it"
            }
            Self::Open(_) | Self::Write(Errno::ACCESS) => {
                "the file must be writable by this process"
            }
            Self::Write(Errno::OPNOTSUPP) => {
                "PSI is off, or off for this cgroup: boot with psi=1, write 1 to cgroup.pressure"
            }
            Self::Write(Errno::INVAL) => {
                "the kernel takes no such monitor: is this a file of memory pressure?"
            }
            Self::Write(_) => "the kernel could not make the monitor",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(errno) => write!(f, "open for writing: {errno}"),
            Self::Write(errno) => write!(f, "arm: {errno}"),
        }
    }
}

/// Where the kernel has pressure files: proc, cgroup v1 and v2 (`include/uapi/linux/magic.h`).
const PRESSURE_FILESYSTEMS: [FsWord; 3] = [0x9fa0, 0x0027_e0eb, 0x6367_7270];

fn arm_one(
    path: &Path,
    stalled: Stalled,
    threshold_ms: i64,
    window_ms: i64,
) -> Result<OwnedFd, Failure> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::Open)?;
    // Any other file would take the trigger as its new contents.
    if !rustix::fs::fstatfs(&fd).is_ok_and(|of| PRESSURE_FILESYSTEMS.contains(&of.f_type)) {
        return Err(Failure::Write(Errno::INVAL));
    }
    let micros = |ms: i64| ms.saturating_mul(1000);
    // The kernel overwrites the last byte with its own NUL.
    let trigger = format!("{stalled} {} {}\0", micros(threshold_ms), micros(window_ms));
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, trigger.as_bytes()))
        .map_err(Failure::Write)?;
    Ok(fd)
}

/// Something that could not be had, what comes instead, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// What the kernel refused, and why.
    pub cause: String,
    /// What is done instead.
    pub effect: String,
    /// What would help.
    pub remedy: &'static str,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}; {}", self.cause, self.effect, self.remedy)
    }
}

/// Arms the monitors of `path`, `/proc/pressure/memory` or a cgroup's `memory.pressure`, as the
/// tunables say, or the best that is to be had instead; logs one line about each step down.
///
/// To arm anew with other tunables, call it again, and drop the old source once the new one is
/// there. Allocates; not for the path of a kill.
///
/// # Errors
///
/// A tunable has a value that no kernel takes. A feature that is missing is not an error.
pub fn arm(path: &Path, tunables: &Tunables) -> Result<Source, Refused> {
    let (source, shortfall) = try_arm(path, tunables)?;
    tell(path, tunables, shortfall)?;
    Ok(source)
}

/// The same after it has failed: one that fails as before is no news.
///
/// # Errors
///
/// As [`arm`].
pub fn arm_again(path: &Path, tunables: &Tunables) -> Result<Source, Refused> {
    let (source, shortfall) = try_arm(path, tunables)?;
    if !matches!(source, Source::Sampling { may_come: true, .. }) {
        tell(path, tunables, shortfall)?;
    }
    Ok(source)
}

fn tell(path: &Path, tunables: &Tunables, shortfall: Option<Shortfall>) -> Result<(), Refused> {
    let file = path.display();
    match (shortfall, tunables.use_psi) {
        (Some(shortfall), _) => log::warn!("{file}: {shortfall}"),
        (None, true) => log::info!("{file}: monitors armed: {}", Request::new(tunables)?),
        (None, false) => log::info!("use_psi is off: looking at memory once a second"),
    }
    if tunables.use_psi && tunables.psi_partial_stall_ms == 0 && tunables.psi_complete_stall_ms == 0
    {
        log::warn!(
            "psi_partial_stall_ms and psi_complete_stall_ms are both 0: no pressure will be heard of"
        );
    }
    Ok(())
}

/// The same without a word in the log: the source, and what is missing for the one asked for.
///
/// # Errors
///
/// As [`arm`].
pub fn try_arm(path: &Path, tunables: &Tunables) -> Result<(Source, Option<Shortfall>), Refused> {
    let sampling = |may_come| Source::Sampling { every_ms: SAMPLING_MS, may_come };
    if !tunables.use_psi {
        return Ok((sampling(false), None));
    }
    let asked = Request::new(tunables)?;
    let refusal = match asked.arm(path) {
        Ok(monitors) => {
            let window_ms = asked.window_ms;
            return Ok((Source::Psi { window_ms, monitors, unprivileged: false }, None));
        }
        Err(refusal) => refusal,
    };

    let stretched = asked.stretched();
    let refusal = if refusal.may_be_privilege() && stretched != asked {
        match stretched.arm(path) {
            Ok(monitors) => {
                let window_ms = stretched.window_ms;
                let shortfall = Shortfall {
                    cause: format!(
                        "without CAP_SYS_RESOURCE the kernel takes only windows that are a multiple \
                         of 2 s ({refusal})"
                    ),
                    effect: format!("monitors armed: {stretched} in place of {asked}"),
                    remedy: "grant CAP_SYS_RESOURCE to hear of pressure sooner",
                };
                let source = Source::Psi { window_ms, monitors, unprivileged: true };
                return Ok((source, Some(shortfall)));
            }
            Err(refusal) => refusal,
        }
    } else {
        refusal
    };
    let shortfall = Shortfall {
        cause: refusal.to_string(),
        effect: "memory is looked at once a second".to_owned(),
        remedy: refusal.remedy(),
    };
    Ok((sampling(refusal.may_pass()), Some(shortfall)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunables(window: i64, partial: i64, complete: i64) -> Tunables {
        Tunables {
            psi_window_size_ms: window,
            psi_partial_stall_ms: partial,
            psi_complete_stall_ms: complete,
            ..Tunables::default()
        }
    }

    #[test]
    fn only_what_may_come_is_asked_for_again() {
        let has_psi = Path::new("/proc/pressure/memory").exists();
        assert_eq!(Failure::Open(Errno::NOENT).may_pass(), has_psi);
        for errno in [Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            assert!(Failure::Open(errno).may_pass() && Failure::Write(errno).may_pass());
        }
        for errno in [Errno::OPNOTSUPP, Errno::PERM, Errno::ACCESS, Errno::INVAL] {
            assert!(!Failure::Open(errno).may_pass() && !Failure::Write(errno).may_pass());
        }
    }

    #[test]
    fn a_window_that_needs_no_privilege_keeps_the_share_of_stall() {
        let asked = Request::new(&tunables(1000, 70, 700)).unwrap();
        let expected = Request { window_ms: 2000, partial_ms: 140, complete_ms: 1400 };
        assert_eq!(asked.stretched(), expected);
        let asked = Request::new(&tunables(3000, 3000, 0)).unwrap();
        let expected = Request { window_ms: 4000, partial_ms: 4000, complete_ms: 0 };
        assert_eq!(asked.stretched(), expected);
        let asked = Request::new(&tunables(10_000, 1, 2)).unwrap();
        assert_eq!(asked.stretched(), asked);
    }

    #[test]
    fn values_that_no_kernel_takes_are_refused_by_name() {
        let refused = |t: Tunables| arm(Path::new("/nonexistent"), &t).unwrap_err();
        let error = refused(tunables(1000, 1001, 0));
        assert_eq!((error.tunable, error.value_ms), ("psi_partial_stall_ms", 1001));
        assert_eq!(error.to_string(), "psi_partial_stall_ms is 1001 ms, but must be 0 to 1000 ms");
        assert_eq!(refused(tunables(1000, 70, i64::MAX)).tunable, "psi_complete_stall_ms");
        for window in [i64::MIN, 0, 499, 10_001, i64::MAX] {
            assert_eq!(refused(tunables(window, 0, 0)).tunable, "psi_window_size_ms");
        }
    }

    #[test]
    fn without_psi_memory_is_looked_at_once_a_second() {
        let source = arm(Path::new("/nonexistent"), &Tunables::default());
        assert!(matches!(source, Ok(Source::Sampling { every_ms: 1000, .. })));
        let off = Tunables { use_psi: false, ..tunables(1, 2, 3) };
        let source = arm(Path::new("/proc/pressure/memory"), &off);
        assert!(matches!(source, Ok(Source::Sampling { every_ms: 1000, may_come: false })));
    }

    #[test]
    fn a_threshold_of_zero_makes_no_monitor() {
        let source = arm(Path::new("/nonexistent"), &tunables(1000, 0, 0));
        assert!(matches!(source, Ok(Source::Psi { monitors: [None, None], .. })));
    }

    #[test]
    fn a_descriptor_that_took_no_trigger_is_not_handed_out() {
        // One opens for writing and is on procfs, but refuses; the other is not even asked.
        for file in ["/proc/self/oom_score_adj", "/dev/full"].map(Path::new) {
            assert_eq!(
                arm_one(file, Stalled::Some, 70, 1000).unwrap_err(),
                Failure::Write(Errno::INVAL)
            );
            let source = arm(file, &Tunables::default());
            assert!(matches!(source, Ok(Source::Sampling { .. })));
        }
    }
}
