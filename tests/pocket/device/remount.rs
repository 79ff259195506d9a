//! remount: makes /system writable until the next boot, as Android's tool of that name does.

use crate::property_tools;
use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Stands for verity of a device that has /system on a disk: while it is there, nothing else may be changed.
const VERITY: &str = "/system/.verity";

/// `remount [-R]`: while verity is on, `-R` turns it off and reboots, and anything else is refused.
pub fn run(arguments: &[String]) -> Result<()> {
    let may_reboot = match arguments {
        [] => false,
        [word] if word == "-R" => true,
        _ => bail!("usage: remount [-R]"),
    };
    if !Path::new(VERITY).exists() {
        return mount("rw");
    }
    ensure!(may_reboot, "verity is on: 'remount -R' turns it off and reboots");
    mount("rw")?;
    fs::remove_file(VERITY).context(VERITY)?;
    mount("ro")?;
    println!("verity is off, rebooting");
    property_tools::reboot(&["remount".to_owned()])
}

fn mount(how: &str) -> Result<()> {
    let options = format!("remount,{how}");
    let status =
        Command::new("/bin/busybox").args(["mount", "-o", &options, "/system"]).status()?;
    ensure!(status.success(), "mount -o {options} /system: {status}");
    Ok(())
}
