//! Puts the daemon under test in the place of the device's own, and has init start and stop it.

use crate::adb::Device;
use crate::elf;
use crate::restore::Restoration;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// Where init/lmkd_rs.rc has the daemon, and where the stock one is.
const BESIDE: &str = "/system/bin/lmkd_rs";
const STOCK: &str = "/system/bin/lmkd";
const RC: &str = "/system/etc/init/lmkd_rs.rc";
const START_LIMIT: Duration = Duration::from_secs(60);
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// Android's loader is there.
const IS_ANDROID: &str = "test -e /system/bin/linker64 || test -e /system/bin/linker";
const BOOTED: &str = "test \"$(getprop sys.boot_completed)\" = 1";

/// Installs `daemon` beside the stock one, under a service file that overrides the stock one's, or in its place.
///
/// A device that runs a daemon beside the stock one already only gets the new file.
pub fn install(
    restoration: &mut Restoration,
    daemon: &Path,
    rc: &Path,
    replace: bool,
) -> Result<()> {
    let device = restoration.device().clone();
    // Before anything is touched.
    is_built_for(&device, daemon)?;
    let path = if replace { STOCK } else { BESIDE };
    remount(&device)?;
    let known = replace || device.fulfils(&format!("test -e {RC}"))?;
    let label = (!replace && has_selinux(&device)?).then_some("u:object_r:lmkd_exec:s0");
    restoration.replace(daemon, path, "755", label)?;
    if !known {
        restoration.wants_reboot()?;
        // Init skips a file that others may write to, and reads service files at boot only.
        restoration.replace(rc, RC, "644", None)?;
        reboot(&device)?;
    }
    // Else crashes of a daemon under test would reboot the device. A reboot forgets it.
    device.set_property("init.svc_debug.no_fatal.lmkd", "true")?;
    restart(&device)
}

/// On Android a daemon that was built for another Linux would find neither properties nor logd.
fn is_built_for(device: &Device, daemon: &Path) -> Result<()> {
    if !device.fulfils(IS_ANDROID)? {
        return Ok(());
    }
    let name = daemon.display();
    let file = std::fs::read(daemon).with_context(|| name.to_string())?;
    let loader = elf::loader(&file).with_context(|| name.to_string())?;
    let of_android = |loader: &String| loader.ends_with("/linker64") || loader.ends_with("/linker");
    if !loader.as_ref().is_some_and(of_android) {
        let loader = loader.as_deref().unwrap_or("nobody, it is static");
        bail!("{name} is not built for Android (loaded by {loader}): build it in an Android tree, m lmkd_rs");
    }
    Ok(())
}

/// Whether files have labels.
pub fn has_selinux(device: &Device) -> Result<bool> {
    device.fulfils("test -e /sys/fs/selinux/enforce")
}

/// Makes /system writable. With verity on that takes a reboot, which `adb remount -R` does by itself, but does not
/// wait for. Verity then stays off: only the user can want it back (`adb enable-verity`).
pub fn remount(device: &Device) -> Result<()> {
    let writable = "touch /system/bin/.lmkd_suite && rm /system/bin/.lmkd_suite";
    if device.holds(writable) {
        return Ok(());
    }
    // It may end with the connection.
    let asked = device.adb(&["remount", "-R"]);
    let ready = || device.holds(BOOTED) && device.root().is_ok();
    let done = device.wait_for("a /system that can be written", BOOT_LIMIT, || {
        device.reconnect();
        ready() && device.adb(&["remount"]).is_ok() && device.holds(writable)
    });
    let said = || asked.map_or_else(|error| format!("{error:#}"), |text| text.trim().to_owned());
    done.with_context(|| format!("adb remount -R said: {}", said()))
}

/// Restarts the device and waits until it has booted: another boot than this.
pub fn reboot(device: &Device) -> Result<()> {
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
