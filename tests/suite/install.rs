//! Puts the daemon under test in the place of the device's own, and back.

use crate::adb::Device;
use crate::ledger::Ledger;
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
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const BOOTED: &str = "test \"$(getprop sys.boot_completed)\" = 1";

/// A file of the device that was replaced.
struct Replaced {
    path: &'static str,
    /// What there was; None if there was nothing.
    saved: Option<Saved>,
}

/// A copy on the host, with what it needs to be the same file again.
struct Saved {
    copy: PathBuf,
    mode: String,
    /// Its label, where there is SELinux.
    label: Option<String>,
}

/// The daemon under test in the device's own daemon's place. Dropped, it puts back what was there, and starts that.
pub struct Installation {
    device: Device,
    folder: PathBuf,
    replaced: Vec<Replaced>,
    reboot: bool,
    /// What has to be as before when the device's own daemon starts.
    ledger: Option<Ledger>,
}

impl Installation {
    /// Installs `daemon` beside the stock one, under a service file that overrides the stock one's, or in its place.
    ///
    /// A device that runs a daemon beside the stock one already only gets the new file.
    pub fn new(
        device: &Device,
        ledger: Ledger,
        daemon: &Path,
        rc: &Path,
        replace: bool,
        folder: &Path,
    ) -> Result<Self> {
        // From here on it is undone by being dropped.
        let mut installation = Self {
            device: device.clone(),
            folder: folder.to_owned(),
            replaced: Vec::new(),
            reboot: false,
            ledger: Some(ledger),
        };
        installation.install(daemon, rc, replace)?;
        Ok(installation)
    }

    fn install(&mut self, daemon: &Path, rc: &Path, replace: bool) -> Result<()> {
        let device = self.device.clone();
        let path = if replace { STOCK } else { BESIDE };
        remount(&device)?;
        let known = replace || device.holds(&format!("test -e {RC}"));
        self.put(daemon, path)?;
        device.shell(&format!("chmod 755 {path}"))?;
        if !replace && has_selinux(&device) {
            device.shell(&format!("chcon u:object_r:lmkd_exec:s0 {path}"))?;
        }
        if !known {
            // Init reads service files at boot only.
            self.put(rc, RC)?;
            // Init skips a file that others may write to.
            device.shell(&format!("chmod 644 {RC}"))?;
            self.reboot = true;
            reboot(&device)?;
        }
        // Else crashes of a daemon under test would reboot the device. A reboot forgets it.
        device.set_property("init.svc_debug.no_fatal.lmkd", "true")?;
        restart(&device)
    }

    fn put(&mut self, file: &Path, path: &'static str) -> Result<()> {
        let device = &self.device;
        let mut saved = None;
        if device.holds(&format!("test -e {path}")) {
            let copy = self.folder.join(Path::new(path).file_name().context("no name")?);
            device.pull(path, &copy)?;
            let mode = device.shell(&format!("stat -c %a {path}"))?.trim().to_owned();
            let label = || device.shell(&format!("ls -dZ {path} | cut -d' ' -f1"));
            let label = has_selinux(device).then(label).transpose()?;
            saved = Some(Saved { copy, mode, label: label.map(|label| label.trim().to_owned()) });
        }
        self.replaced.push(Replaced { path, saved });
        device.push(file, path)
    }

    fn put_back(&self, path: &str, saved: Option<&Saved>) -> Result<()> {
        let device = &self.device;
        let Some(saved) = saved else { return device.shell(&format!("rm {path}")).map(drop) };
        device.push(&saved.copy, path)?;
        device.shell(&format!("chmod {} {path}", saved.mode))?;
        if let Some(label) = &saved.label {
            device.shell(&format!("chcon {label} {path}"))?;
        }
        Ok(())
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        crate::interrupt::put_off();
        // After a reboot it is read-only again.
        if !self.replaced.is_empty() {
            if let Err(error) = remount(&self.device) {
                eprintln!("/system cannot be put back: {error:#}");
            }
        }
        for Replaced { path, saved } in std::mem::take(&mut self.replaced) {
            if let Err(error) = self.put_back(path, saved.as_ref()) {
                eprintln!("{path} is not as it was: {error:#}");
            }
        }
        drop(self.ledger.take());
        let restarted = if self.reboot { reboot(&self.device) } else { restart(&self.device) };
        if let Err(error) = restarted {
            eprintln!("the device's own daemon does not run: {error:#}");
        }
    }
}

fn has_selinux(device: &Device) -> bool {
    device.holds("test -e /sys/fs/selinux/enforce")
}

/// Makes /system writable. With verity on that takes a reboot, which `adb remount -R` does by itself, but does not
/// wait for. Verity then stays off: only the user can want it back (`adb enable-verity`).
fn remount(device: &Device) -> Result<()> {
    let writable = "touch /system/bin/.lmkd_suite && rm /system/bin/.lmkd_suite";
    if device.holds(writable) {
        return Ok(());
    }
    let _ = device.adb(&["remount", "-R"]);
    let ready = || device.holds(BOOTED) && device.root().is_ok();
    device.wait_for("a /system that can be written", BOOT_LIMIT, || {
        device.reconnect();
        ready() && device.adb(&["remount"]).is_ok() && device.holds(writable)
    })
}

/// Restarts the device and waits until it has booted: another boot than this.
fn reboot(device: &Device) -> Result<()> {
    let id = "cat /proc/sys/kernel/random/boot_id";
    let before = device.shell(id)?.trim().to_owned();
    // The device's own command, as `adb reboot` does nothing where adbd has no properties. It may end with the
    // connection.
    let asked = device.shell("sync; /system/bin/reboot");
    let booted = format!("test \"$({id})\" != {before} && {BOOTED}");
    let done = device.wait_for("the boot", BOOT_LIMIT, || {
        device.reconnect();
        device.holds(&booted)
    });
    if let (Err(boot), Err(asked)) = (&done, asked) {
        bail!("{boot:#}; reboot said: {asked:#}");
    }
    done?;
    device.root()
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
