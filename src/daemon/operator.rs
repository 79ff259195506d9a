//! The operator's side of the start: who may ask, where, and what is said of this daemon.

use super::settings::Settings;
use crate::clock::MonoTime;
use crate::config::Options;
use crate::control::handover;
use crate::device;
use crate::recorder::few::Text;
use crate::recorder::wire;
use crate::recorder::Duties;
use crate::recorder::Header;
use crate::recorder::Journal;
use crate::sys::uname;
use crate::units::PageSize;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Android's user `system`.
const SYSTEM_UID: u32 = 1000;

/// Starts the scribe. Whatever is not to be had costs the operator that, and the kills nothing.
pub(super) fn start_scribe(
    journal: &Journal,
    options: &Options,
    settings: &Settings,
    page: PageSize,
) {
    let socket = settings.socket();
    let path = options.ctl.clone().unwrap_or_else(|| wire::path_beside(socket));
    let listener = listen(&path);
    let mut users = vec![rustix::process::geteuid().as_raw()];
    if device::is_android() {
        users.push(SYSTEM_UID);
    }
    let dump = (!device::is_android()).then(|| {
        let mut name = socket.as_os_str().to_owned();
        name.push(".rec");
        name.into()
    });
    let header = header(options, page);
    let duties = Duties { listener, users, file: options.record.clone(), dump, header };
    if let Err(error) = journal.start_scribe(duties) {
        log::warn!("no recordings and no operator's socket: {error}");
    }
}

/// The socket that init handed over, else one of its own.
fn listen(path: &Path) -> Option<OwnedFd> {
    handover::from_init(wire::VARIABLE, wire::ANDROID_PATH)
        .and_then(|from_init| from_init.map_or_else(|| handover::open(path), Ok))
        .map_err(|error| log::warn!("no operator's socket, lmkctl cannot ask: {error}"))
        .ok()
}

fn header(options: &Options, page: PageSize) -> Header {
    // Every SELinux domain may read this one, unlike its neighbours.
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Header {
        version: Text::new(env!("CARGO_PKG_VERSION").as_bytes()),
        kernel: Text::new(uname::release(&mut [0; uname::RELEASE])),
        page,
        boot: Text::new(boot.trim_ascii()),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        started: MonoTime::now(),
        wall_ns: 0,
        dry_run: options.dry_run,
        adopt: options.adopt,
    }
}
