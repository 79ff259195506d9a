//! The device, through the `adb` in PATH and ANDROID_SERIAL: no more of it is known.

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// No command of the suite takes longer on a device that answers.
const PATIENCE: &str = "90";

/// A device that adb reaches.
#[derive(Clone)]
pub struct Device {
    pub serial: String,
}

impl Device {
    /// The device that ANDROID_SERIAL names, with root.
    pub fn connect() -> Result<Self> {
        let serial = std::env::var("ANDROID_SERIAL").context("ANDROID_SERIAL names no device")?;
        let device = Self { serial };
        device.root()?;
        Ok(device)
    }

    /// Has adbd run as root; an error if it may not.
    pub fn root(&self) -> Result<()> {
        if self.is_root() {
            return Ok(());
        }
        self.adb(&["root"])?;
        self.adb(&["wait-for-device"])?;
        if !self.is_root() {
            bail!("{}: no root: the suite needs a userdebug device", self.serial);
        }
        Ok(())
    }

    fn is_root(&self) -> bool {
        self.shell("id -u").is_ok_and(|id| id.trim() == "0")
    }

    /// A device that is reached by TCP has to be connected to once more after a reboot, unless somebody does that.
    pub fn reconnect(&self) {
        if self.serial.contains(':') {
            let _ = self.adb(&["connect", &self.serial]);
        }
    }

    /// An adb command that a terminal's Ctrl-C does not end: what is under way is finished or undone.
    pub fn command(args: &[&str]) -> Command {
        let mut command = Command::new("adb");
        command.args(args).process_group(0).stdin(Stdio::null());
        command
    }

    fn output(args: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", PATIENCE, "adb"]).args(args).process_group(0);
        command.stdin(Stdio::null()).output().context("adb")
    }

    /// Runs adb; an error if it fails.
    pub fn adb(&self, args: &[&str]) -> Result<String> {
        let output = Self::output(args)?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("adb {}: {} {}", args.join(" "), output.status, why.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
    }

    /// Runs a shell command on the device; an error if it fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.adb(&["shell", script])
    }

    /// Whether a shell command succeeds.
    pub fn holds(&self, script: &str) -> bool {
        self.shell(script).is_ok()
    }

    /// Whether a shell condition is fulfilled; an error if the device does not say.
    pub fn fulfils(&self, condition: &str) -> Result<bool> {
        let answer = self.shell(&format!("if {condition}; then echo yes; else echo no; fi"))?;
        match answer.trim() {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => bail!("{condition}: the device says {other:?}"),
        }
    }

    /// Copies a file to the device.
    pub fn push(&self, from: &Path, to: &str) -> Result<()> {
        let from = from.to_str().context("path")?;
        self.adb(&["push", from, to]).map(drop)
    }

    /// Copies a file from the device.
    pub fn pull(&self, from: &str, to: &Path) -> Result<()> {
        let to = to.to_str().context("path")?;
        self.adb(&["pull", from, to]).map(drop)
    }

    /// A system property; empty if it is not set.
    pub fn property(&self, name: &str) -> Result<String> {
        Ok(self.shell(&format!("getprop {name}"))?.trim().to_owned())
    }

    /// Sets a system property.
    pub fn set_property(&self, name: &str, value: &str) -> Result<()> {
        self.shell(&format!("setprop {name} '{value}'")).map(drop)
    }

    /// Waits until a shell command succeeds.
    pub fn wait_until(&self, what: &str, limit: Duration, script: &str) -> Result<()> {
        self.wait_for(what, limit, || self.holds(script))
    }

    /// Waits until something of the device is so.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !is_so() {
            crate::interrupt::check()?;
            if start.elapsed() > limit {
                bail!("{what}: not after {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}
