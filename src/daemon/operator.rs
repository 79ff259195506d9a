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
use std::path::PathBuf;

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
    let listener = listen(own_path(options.ctl.as_deref(), socket, device::is_android()));
    let mut users = vec![rustix::process::geteuid().as_raw()];
    if device::is_android() {
        users.push(SYSTEM_UID);
    }
    let dump = dump_path(socket, device::is_android());
    let header = header(options, page);
    let duties = Duties { listener, users, file: options.record.clone(), dump, header };
    if let Err(error) = journal.start_scribe(duties) {
        log::warn!("no recordings and no operator's socket: {error}");
    }
}

/// Where the daemon makes a socket itself if init has made none. On Android only where it was told
/// to: in /dev/socket nobody but init may.
fn own_path(asked: Option<&Path>, socket: &Path, is_android: bool) -> Option<PathBuf> {
    match asked {
        Some(path) => Some(path.to_owned()),
        None => (!is_android).then(|| wire::path_beside(socket)),
    }
}

/// Where SIGUSR1 has the recording written to if no file is kept: beside the socket. Beside Android's,
/// in /dev/socket, nobody but init may make a file, and the daemon has no other place of its own.
fn dump_path(socket: &Path, is_android: bool) -> Option<PathBuf> {
    (!is_android).then(|| {
        let mut name = socket.as_os_str().to_owned();
        name.push(".rec");
        name.into()
    })
}

/// The socket that init handed over, else one of its own.
fn listen(own: Option<PathBuf>) -> Option<OwnedFd> {
    let opened = match (handover::from_init(wire::VARIABLE, wire::ANDROID_PATH), own) {
        (Ok(None), Some(path)) => handover::open(&path).map(Some),
        (from_init, _) => from_init,
    };
    match opened {
        Ok(Some(socket)) => return Some(socket),
        Ok(None) => log::info!("init has made no operator's socket, lmkctl cannot ask"),
        Err(error) => log::warn!("no operator's socket, lmkctl cannot ask: {error}"),
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_android_only_init_makes_the_operators_socket() {
        let socket = Path::new("/dev/socket/lmkd");
        assert_eq!(own_path(None, socket, true), None);
        let asked = Path::new("/data/local/tmp/ctl");
        assert_eq!(own_path(Some(asked), socket, true).as_deref(), Some(asked));
        let run = Path::new("/run/lmkd/lmkd.sock");
        let beside = Path::new("/run/lmkd/lmkd.sock.ctl");
        assert_eq!(own_path(None, run, false).as_deref(), Some(beside));
    }

    #[test]
    fn on_android_a_signal_has_no_place_to_write_to() {
        assert_eq!(dump_path(Path::new("/dev/socket/lmkd"), true), None);
        let beside = Path::new("/run/lmkd/lmkd.sock.rec");
        assert_eq!(dump_path(Path::new("/run/lmkd/lmkd.sock"), false).as_deref(), Some(beside));
    }
}
