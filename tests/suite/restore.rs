//! A device that gets back what was changed on it, however the suite ends.

use crate::adb::Device;
use crate::install;
use crate::journal;
use crate::journal::Journal;
use crate::journal::Replaced;
use crate::journal::Saved;
use crate::state::State;
use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Where a file of /system is until it is whole: on the same file system, and where init looks for no service files.
const STAGED: &str = "/system/bin/.lmkd_suite";

/// Knows what to put back, and does so at the latest when it is dropped.
pub struct Restoration {
    device: Device,
    journal: Journal,
    done: bool,
    _lock: File,
}

impl Restoration {
    /// Puts back what an earlier run has left that was killed, and notes what the device is like then.
    pub fn begin(device: &Device) -> Result<Self> {
        let folder = journal::folder(&device.serial)?;
        let lock = journal::lock(&folder)?;
        if let Some(earlier) = Journal::read(&folder)? {
            println!(
                "     an earlier run was ended before it had put the device back: that is done now"
            );
            undo_earlier(device, earlier).with_context(|| {
                let folder = folder.display();
                format!("an earlier run is not undone; what it has saved is in {folder}: remove that to go on without")
            })?;
        }
        let state = State::of(device).context("what the device is like")?;
        let journal = Journal::new(&folder, state);
        journal.write()?;
        Ok(Self { device: device.clone(), journal, done: false, _lock: lock })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The device before the suite came.
    pub fn state(&self) -> &State {
        &self.journal.state
    }

    /// The device has to boot anew after its files are back.
    pub fn wants_reboot(&mut self) -> Result<()> {
        self.journal.reboot = true;
        self.journal.write()
    }

    /// Puts `file` at `path` of the device. Without a label it gets that of what was there.
    pub fn replace(
        &mut self,
        file: &Path,
        path: &str,
        mode: &str,
        label: Option<&str>,
    ) -> Result<()> {
        let device = &self.device;
        let saved = match sum(device, path)? {
            None => None,
            Some(sum) => {
                device.pull(path, &self.journal.copy_of(path))?;
                let mode = device.shell(&format!("stat -c %a {path}"))?.trim().to_owned();
                let label = || device.shell(&format!("ls -dZ {path} | cut -d' ' -f1"));
                let label = install::has_selinux(device)?.then(label).transpose()?;
                Some(Saved { sum, mode, label: label.map(|label| label.trim().to_owned()) })
            }
        };
        let own = saved.as_ref().and_then(|saved| saved.label.clone());
        let label = label.map(str::to_owned).or(own);
        let ours = host_sum(file)?;
        // Before anything is changed.
        self.journal.files.push(Replaced { path: path.to_owned(), ours: ours.clone(), saved });
        self.journal.write()?;
        put(device, file, path, mode, label.as_deref())?;
        ensure!(sum(device, path)? == Some(ours), "{path} is not what was sent");
        Ok(())
    }

    /// Puts everything back; an error names what is not, and leaves the journal to the next run.
    pub fn finish(mut self) -> Result<()> {
        self.undo()
    }

    fn undo(&mut self) -> Result<()> {
        crate::interrupt::put_off();
        self.done = true;
        put_back(&self.device, &self.journal)?;
        self.journal.remove()
    }
}

impl Drop for Restoration {
    fn drop(&mut self) {
        if !self.done {
            if let Err(error) = self.undo() {
                println!("broken: the device is not as it was: {error:#}");
            }
        }
    }
}

/// Undoes an earlier run. A file that is neither that run's nor the device's own is of another system, which has
/// been put on the device since.
fn undo_earlier(device: &Device, mut earlier: Journal) -> Result<()> {
    let files = std::mem::take(&mut earlier.files);
    for file in files {
        let now = sum(device, &file.path)?;
        if now.as_ref() == Some(&file.ours) || now.as_ref() == file.own() {
            earlier.files.push(file);
        } else {
            println!("     {} is of another system by now: left alone", file.path);
        }
    }
    put_back(device, &earlier)?;
    earlier.remove()
}

/// All of it, as far as possible.
fn put_back(device: &Device, journal: &Journal) -> Result<()> {
    let mut wrong = Vec::new();
    let mut note = |what: Result<()>| wrong.extend(what.err().map(|error| format!("{error:#}")));
    if !journal.files.is_empty() {
        // After a reboot it is read-only again.
        note(install::remount(device).context("/system cannot be written"));
    }
    for file in journal.files.iter().rev() {
        note(file.put_back(device, journal).with_context(|| file.path.clone()));
    }
    note(journal.state.restore(device));
    if !journal.files.is_empty() {
        let restarted = match (journal.reboot, journal.state.runs()) {
            (true, _) => install::reboot(device),
            (false, true) => install::restart(device),
            (false, false) => Ok(()),
        };
        note(restarted.context("the device's own daemon does not run"));
    }
    if !journal.state.runs() {
        // The suite has started it, or the boot.
        note(stop_again(device).context("the device's own daemon, which was stopped, runs"));
    }
    for file in &journal.files {
        note(file.is_back(device));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Has init stop the daemon, if the device has one.
fn stop_again(device: &Device) -> Result<()> {
    if device.property("init.svc.lmkd")?.is_empty() {
        return Ok(());
    }
    install::stop(device)
}

impl Replaced {
    /// The sum of what there was.
    fn own(&self) -> Option<&String> {
        self.saved.as_ref().map(|saved| &saved.sum)
    }

    fn put_back(&self, device: &Device, journal: &Journal) -> Result<()> {
        let now = sum(device, &self.path)?;
        if now.as_ref() == self.own() {
            return Ok(());
        }
        ensure!(now.as_ref() == Some(&self.ours), "somebody else has changed it");
        match &self.saved {
            None => device.shell(&format!("rm {}", self.path)).map(drop),
            Some(saved) => {
                let (copy, label) = (journal.copy_of(&self.path), saved.label.as_deref());
                put(device, &copy, &self.path, &saved.mode, label)
            }
        }
    }

    fn is_back(&self, device: &Device) -> Result<()> {
        ensure!(sum(device, &self.path)?.as_ref() == self.own(), "{} is not as it was", self.path);
        Ok(())
    }
}

/// Puts a file at a path of the device, whole or not at all.
fn put(device: &Device, file: &Path, path: &str, mode: &str, label: Option<&str>) -> Result<()> {
    device.push(file, STAGED)?;
    let label = label.map(|label| format!("chcon {label} {STAGED} && ")).unwrap_or_default();
    let staged = device.shell(&format!("chmod {mode} {STAGED} && {label}mv -f {STAGED} {path}"));
    if staged.is_err() {
        let _ = device.shell(&format!("rm -f {STAGED}"));
    }
    staged.map(drop)
}

/// The SHA-256 of a file of the device; None if there is no such file.
fn sum(device: &Device, path: &str) -> Result<Option<String>> {
    let text = device.shell(&format!("test ! -e {path} || sha256sum {path}"))?;
    Ok(text.split_whitespace().next().map(str::to_owned))
}

/// The SHA-256 of a file of the host.
fn host_sum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.split_whitespace().next() {
        // It marks names that it has to quote.
        Some(sum) if output.status.success() => Ok(sum.trim_start_matches('\\').to_owned()),
        _ => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
