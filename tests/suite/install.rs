//! Puts the daemon under test in the place of the device's own, and back.

use crate::adb::Device;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Where init/lmkd_rs.rc has the daemon, and where the stock one is.
const BESIDE: &str = "/system/bin/lmkd_rs";
const STOCK: &str = "/system/bin/lmkd";
const RC: &str = "/system/etc/init/lmkd_rs.rc";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A file of the device that was replaced.
struct Replaced {
    path: &'static str,
    /// Its copy on the host; None if there was none.
    saved: Option<PathBuf>,
}

/// What the suite has changed on the device.
pub struct Installation {
    device: Device,
    folder: PathBuf,
    replaced: Vec<Replaced>,
    reboot: bool,
}

impl Installation {
    /// Installs `daemon` beside the stock one, under a service file that overrides the stock one's, or in its place.
    ///
    /// A device that runs a daemon beside the stock one already only gets the new file.
    pub fn new(
        device: &Device,
        daemon: &Path,
        rc: &Path,
        replace: bool,
        folder: &Path,
    ) -> Result<Self> {
        let mut installation = Self {
            device: device.clone(),
            folder: folder.to_owned(),
            replaced: Vec::new(),
            reboot: false,
        };
        let done = installation.install(daemon, rc, replace);
        if done.is_err() {
            installation.restore();
        }
        done.map(|()| installation)
    }

    fn install(&mut self, daemon: &Path, rc: &Path, replace: bool) -> Result<()> {
        let device = self.device.clone();
        // Else crashes of a daemon under test would reboot the device.
        device.set_property("init.svc_debug.no_fatal.lmkd", "true")?;
        let path = if replace { STOCK } else { BESIDE };
        let _ = device.adb(&["remount"]);
        let known = replace || device.holds(&format!("test -e {RC}"));
        self.put(daemon, path)?;
        device.shell(&format!("chmod 755 {path}"))?;
        if !replace && device.holds("test -e /sys/fs/selinux/enforce") {
            device.shell(&format!("chcon u:object_r:lmkd_exec:s0 {path}"))?;
        }
        if !known {
            // Init reads service files at boot only.
            self.put(rc, RC)?;
            self.reboot = true;
            self.restart_device()?;
        }
        restart(&device)
    }

    fn put(&mut self, file: &Path, path: &'static str) -> Result<()> {
        let mut saved = None;
        if self.device.holds(&format!("test -e {path}")) {
            let copy = self.folder.join(Path::new(path).file_name().context("no name")?);
            self.device.pull(path, &copy)?;
            saved = Some(copy);
        }
        self.replaced.push(Replaced { path, saved });
        self.device.push(file, path)
    }

    fn restart_device(&self) -> Result<()> {
        let device = &self.device;
        device.adb(&["reboot"])?;
        device.adb(&["wait-for-device"])?;
        let booted = "test \"$(getprop sys.boot_completed)\" = 1";
        device.wait_until("the boot", Duration::from_secs(300), booted)?;
        let _ = device.adb(&["root"]);
        device.adb(&["wait-for-device"]).map(drop)
    }

    /// Puts back what was there. Says what could not be.
    pub fn restore(&mut self) {
        crate::interrupt::put_off();
        let device = &self.device;
        for Replaced { path, saved } in self.replaced.drain(..) {
            let done = match saved {
                Some(copy) => device
                    .push(&copy, path)
                    .and_then(|()| device.shell(&format!("chmod 755 {path}")).map(drop)),
                None => device.shell(&format!("rm {path}")).map(drop),
            };
            if let Err(error) = done {
                eprintln!("{path} is not as it was: {error:#}");
            }
        }
        let restarted = if self.reboot { self.restart_device() } else { restart(device) };
        if let Err(error) = restarted {
            eprintln!("the device's own daemon does not run: {error:#}");
        }
    }
}

/// Has init start the service anew, and waits until the daemon listens.
pub fn restart(device: &Device) -> Result<()> {
    stop(device)?;
    start(device)
}

/// Has init stop the service.
pub fn stop(device: &Device) -> Result<()> {
    device.set_property("ctl.stop", "lmkd")?;
    device.wait_until(
        "the daemon's end",
        START_LIMIT,
        "test \"$(getprop init.svc.lmkd)\" = stopped",
    )
}

/// Has init start the service.
pub fn start(device: &Device) -> Result<()> {
    device.set_property("ctl.start", "lmkd")?;
    wait_until_it_listens(device)
}

/// Until the daemon takes connections.
pub fn wait_until_it_listens(device: &Device) -> Result<()> {
    // 00010000 marks a listening socket.
    let listens = "grep -q '00010000 .*/dev/socket/lmkd$' /proc/net/unix";
    device.wait_until("the daemon's socket", START_LIMIT, listens)
}

/// The daemon's process, as init knows it.
pub fn pid(device: &Device) -> Result<u32> {
    let known = device.property("init.svc_debug_pid.lmkd")?;
    let Ok(pid) = known.parse() else { bail!("init knows no process of lmkd") };
    Ok(pid)
}
