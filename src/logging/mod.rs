//! Where log lines go: logd on Android, standard error elsewhere.
//!
//! A line never makes the daemon wait or allocate. What is logged is not the concern of this
//! module, except that lines which a broken client or kernel can repeat without end pass a
//! [`RateLimit`] first.

#[cfg(not(target_os = "android"))]
mod line;
mod rate_limit;
#[cfg(not(target_os = "android"))]
mod stderr;

pub use rate_limit::RateLimit;
pub use rate_limit::Skipped;

use log::LevelFilter;
use std::panic::PanicHookInfo;

/// The tag of this daemon's lines in logd; device tests search for it.
#[cfg(target_os = "android")]
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
    stderr::install();
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
