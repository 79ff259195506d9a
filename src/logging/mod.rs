//! Where log lines go: logd on Android, standard error elsewhere.
//!
//! A line never makes the daemon wait or allocate. What is logged is not the concern of this
//! module, except that lines which a broken client or kernel can repeat without end pass a
//! [`RateLimit`] first.

#[cfg(not(target_os = "android"))]
mod line;
#[cfg(not(target_os = "android"))]
mod logd;
mod rate_limit;
#[cfg(not(target_os = "android"))]
mod stderr;

pub use rate_limit::RateLimit;
pub use rate_limit::Skipped;

use log::LevelFilter;
use std::panic::PanicHookInfo;

/// The tag of this daemon's lines in logd; device tests search for it.
const TAG: &str = "lowmemorykiller";

/// Starts logging, and has a panic logged before the process aborts: a daemon's standard error
/// leads nowhere on a device. A second call changes nothing but the level.
pub fn init(debug: bool) {
    install();
    set_debug(debug);
    std::panic::set_hook(Box::new(log_panic));
}

/// Switches debug lines on or off.
pub fn set_debug(debug: bool) {
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
}

/// logd puts level, process and time to a line itself, so the format is the bare message; the
/// crate's own would put the module path before it, and tests match a line's beginning.
#[cfg(target_os = "android")]
fn install() {
    android_logger::init_once(
        android_logger::Config::default()
            .with_tag(TAG)
            .with_max_level(LevelFilter::Debug)
            .format(|out, record| out.write_fmt(*record.args())),
    );
}

#[cfg(not(target_os = "android"))]
fn install() {
    // logd reads on a device, and nobody reads standard error.
    if crate::device::is_android() {
        logd::install();
    } else {
        stderr::install();
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    match info.location() {
        Some(place) => log::error!("panic at {}:{}: {message}", place.file(), place.line()),
        None => log::error!("panic: {message}"),
    }
}

#[cfg(all(test, not(target_os = "android")))]
mod tests {
    use std::process::Command;

    const ORDER: &str = "LMKD_TEST_PANIC";

    /// For the next test, in a process of its own.
    #[test]
    fn panics_on_order() {
        if std::env::var_os(ORDER).is_some() {
            super::init(false);
            panic!("as told, {} times", 1);
        }
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_with_its_place() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::tests::panics_on_order", "--nocapture"])
            .env(ORDER, "1")
            .env_remove("JOURNAL_STREAM")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find(|line| line.contains("panic at")).unwrap();
        // A tree's build names the place from the tree's top.
        assert!(line.contains("lmkd E panic at "), "{line}");
        assert!(line.contains("src/logging/mod.rs:"), "{line}");
        assert!(line.ends_with(": as told, 1 times"), "{line}");
    }
}
