//! Pressure monitors on the running kernel, whatever it grants: each step down says one line.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use lmkd::config::Tunables;
use lmkd::kernel::psi;
use lmkd::kernel::psi::Source;
use lmkd::policy::Level;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use std::cell::RefCell;
use std::path::Path;

const MEMORY: &str = "/proc/pressure/memory";

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of each test's own thread.
struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Arms, and returns what was logged meanwhile.
fn arm(path: &str, tunables: &Tunables) -> (Source, Vec<String>) {
    static LOGGER: Keep = Keep;
    // Another test may have set it already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Trace);
    LINES.take();
    let source = psi::arm(Path::new(path), tunables).unwrap();
    (source, LINES.take())
}

#[test]
fn monitors_of_the_running_kernel_wait_for_pressure() {
    if !Path::new(MEMORY).exists() {
        eprintln!("skipped: this kernel has no PSI");
        return;
    }
    let (source, lines) = arm(MEMORY, &Tunables::default());
    assert_eq!(lines.len(), 1, "{lines:?}");
    let Source::Psi { window_ms, monitors, unprivileged } = source else {
        // Kernels that let only CAP_SYS_RESOURCE have monitors.
        assert!(lines[0].contains("CAP_SYS_RESOURCE"), "{lines:?}");
        return;
    };
    assert_eq!(window_ms, if unprivileged { 2000 } else { 1000 });
    assert_eq!(lines[0].contains("CAP_SYS_RESOURCE"), unprivileged, "{lines:?}");
    let levels = monitors.iter().flatten().map(|monitor| monitor.level);
    assert!(levels.eq([Level::Medium, Level::Critical]));
    for monitor in monitors.iter().flatten() {
        let mut fds = [PollFd::new(&monitor.fd, PollFlags::PRI)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        // A descriptor that took no trigger would say so at once.
        assert!(!fds[0].revents().contains(PollFlags::ERR));
    }
}

#[test]
fn a_window_of_whole_averaging_periods_needs_no_privilege() {
    if !Path::new(MEMORY).exists() {
        eprintln!("skipped: this kernel has no PSI");
        return;
    }
    let tunables = Tunables { psi_window_size_ms: 4000, ..Tunables::default() };
    let (source, lines) = arm(MEMORY, &tunables);
    assert_eq!(lines.len(), 1, "{lines:?}");
    match source {
        Source::Psi { window_ms, unprivileged, .. } => {
            assert_eq!((window_ms, unprivileged), (4000, false));
        }
        Source::Sampling { .. } => assert!(lines[0].contains("CAP_SYS_RESOURCE"), "{lines:?}"),
    }
}

#[test]
fn a_threshold_of_zero_leaves_one_monitor() {
    if !Path::new(MEMORY).exists() {
        eprintln!("skipped: this kernel has no PSI");
        return;
    }
    let tunables = Tunables { psi_complete_stall_ms: 0, ..Tunables::default() };
    if let (Source::Psi { monitors, .. }, _) = arm(MEMORY, &tunables) {
        assert!(matches!(&monitors, [Some(medium), None] if medium.level == Level::Medium));
    }
}

#[test]
fn a_kernel_without_psi_is_told_how_to_get_it() {
    let (source, lines) = arm("/proc/pressure/nothing", &Tunables::default());
    assert!(matches!(source, Source::Sampling { every_ms: 1000, .. }));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("CONFIG_PSI=y") && lines[0].contains("psi=1"), "{lines:?}");
}

#[test]
fn a_file_that_is_no_pressure_file_is_told_apart() {
    // /dev/full opens for writing and takes nothing.
    let (source, lines) = arm("/dev/full", &Tunables::default());
    assert!(matches!(source, Source::Sampling { .. }));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("/dev/full") && !lines[0].contains("CAP_SYS"), "{lines:?}");
}

#[test]
fn a_file_that_would_take_the_trigger_as_its_contents_is_left_alone() {
    let file = std::env::temp_dir().join(format!("lmkd-no-psi-{}", std::process::id()));
    std::fs::write(&file, "somebody's work").unwrap();
    let (source, lines) = arm(file.to_str().unwrap(), &Tunables::default());
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(kept, "somebody's work");
    assert!(matches!(source, Source::Sampling { .. }));
    assert!(lines[0].contains("is this a file of memory pressure?"), "{lines:?}");
}

#[test]
fn psi_that_is_turned_off_is_not_touched() {
    let tunables = Tunables { use_psi: false, ..Tunables::default() };
    let (source, lines) = arm(MEMORY, &tunables);
    assert!(matches!(source, Source::Sampling { .. }));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("use_psi"), "{lines:?}");
}
