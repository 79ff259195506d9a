//! What the device was like before the suite came, so that it can be so again.

use crate::adb::Device;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Properties that scenarios set: these, and all below the prefix.
const TUNABLES: &str = "persist.device_config.lmkd_native.";
const SINGLE: [&str; 2] = ["init.svc_debug.no_fatal.lmkd", "sys.boot_completed"];
/// Files and folders that the suite leaves on the device while it runs.
const LEAVINGS: [&str; 6] = [
    "/data/local/tmp/actor",
    "/data/local/tmp/lmkctl",
    "/data/local/tmp/suite.rec",
    "/data/local/tmp/suite.cache",
    "/data/local/tmp/empty",
    TRACE,
];
/// The actor's own buffer of kernel events: a folder, which one removes to be rid of it.
const TRACE: &str = "/sys/kernel/tracing/instances/lmkd_actor";

/// A device's state, as far as scenarios change it.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// Those with a value; one cannot be taken away, but an empty one counts as none.
    properties: BTreeMap<String, String>,
    /// The device's daemon was not stopped.
    runs: bool,
    /// Devices and files that are swapped to.
    swaps: Vec<String>,
    /// Bytes of the first zram disk; 0 or nothing is one that was never set up.
    zram: String,
    /// Those of the leavings that are there.
    files: Vec<String>,
}

impl State {
    /// Looks at the device.
    pub fn of(device: &Device) -> Result<Self> {
        let mut properties = properties(&device.shell("getprop")?);
        let runs = properties.get("init.svc.lmkd").is_some_and(|state| state != "stopped");
        properties.retain(|name, value| {
            !value.is_empty() && (name.starts_with(TUNABLES) || SINGLE.contains(&name.as_str()))
        });
        let swaps = device.shell("cat /proc/swaps")?;
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let zram = device.shell("cat /sys/block/zram0/disksize 2>/dev/null || true")?;
        let list = format!("ls -d {} 2>/dev/null || true", LEAVINGS.join(" "));
        Ok(Self {
            properties,
            runs,
            swaps: swaps.map(str::to_owned).collect(),
            zram: zram.trim().to_owned(),
            files: device.shell(&list)?.lines().map(str::to_owned).collect(),
        })
    }

    /// The shell commands that lead from another state to this one, a line each.
    fn way_from(&self, now: &Self) -> String {
        let mut script = String::new();
        let mut say = |line: String| {
            let _ = writeln!(script, "{line}");
        };
        for name in now.properties.keys().filter(|name| !self.properties.contains_key(*name)) {
            say(format!("setprop {name} ''"));
        }
        for (name, value) in &self.properties {
            if now.properties.get(name) != Some(value) {
                say(format!("setprop {name} {}", quoted(value)));
            }
        }
        for swap in now.swaps.iter().filter(|swap| !self.swaps.contains(swap)) {
            say(format!("swapoff {swap}"));
        }
        let unused = |size: &str| size.is_empty() || size == "0";
        if unused(&self.zram) && !unused(&now.zram) {
            say("echo 1 >/sys/block/zram0/reset".to_owned());
        }
        for swap in self.swaps.iter().filter(|swap| !now.swaps.contains(swap)) {
            say(format!("swapon {swap}"));
        }
        for file in now.files.iter().filter(|file| !self.files.contains(file)) {
            let command = if file == TRACE { "rmdir" } else { "rm" };
            say(format!("{command} {file}"));
        }
        if self.runs && !now.runs {
            say("start lmkd".to_owned());
        }
        script
    }

    /// Makes the device as it was; an error names what is not.
    pub fn restore(&self, device: &Device) -> Result<()> {
        for command in self.way_from(&Self::of(device)?).lines() {
            // The rest is undone all the same.
            let _ = device.shell(command);
        }
        let left = self.way_from(&Self::of(device)?);
        anyhow::ensure!(left.is_empty(), "still to do: {}", left.trim().replace('\n', "; "));
        Ok(())
    }
}

/// The lines `[NAME]: [VALUE]` of getprop. A value of several lines is cut: those that scenarios set have one.
fn properties(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix('[')?.split_once("]: [")?;
        Some((name.to_owned(), value.strip_suffix(']').unwrap_or(value).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// For the device's shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// A device that gets its state back when this is dropped, however the suite ends.
pub struct Ledger {
    device: Device,
    before: State,
}

impl Ledger {
    /// Remembers the device's state.
    pub fn open(device: &Device) -> Result<Self> {
        let before = State::of(device).context("what the device is like")?;
        Ok(Self { device: device.clone(), before })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        crate::interrupt::put_off();
        if let Err(error) = self.before.restore(&self.device) {
            eprintln!("the device is not as it was: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(properties: &str, swaps: &[&str], zram: &str, files: &[&str]) -> State {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        State {
            properties: super::properties(properties),
            runs: true,
            swaps: own(swaps),
            zram: zram.to_owned(),
            files: own(files),
        }
    }

    #[test]
    fn an_untouched_device_needs_nothing() {
        let state = || state("[a]: [1]", &["/dev/zram0"], "4096", &["/data/local/tmp/actor"]);
        assert_eq!(state().way_from(&state()), "");
    }

    #[test]
    fn every_change_is_undone() {
        let before = state("[a]: [1]\n[b]: [it's]", &["/dev/block/zram0"], "4096", &[]);
        let leavings = [LEAVINGS[0], TRACE];
        let mut after = state("[a]: [2]\n[c]: [3]", &["/data/swap"], "4096", &leavings);
        after.runs = false;
        let way = before.way_from(&after);
        let expected = [
            "setprop c ''",
            "setprop a '1'",
            "setprop b 'it'\\''s'",
            "swapoff /data/swap",
            "swapon /dev/block/zram0",
            "rm /data/local/tmp/actor",
            "rmdir /sys/kernel/tracing/instances/lmkd_actor",
            "start lmkd",
        ];
        assert_eq!(way.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_zram_disk_that_the_suite_set_up_is_given_back() {
        let way = state("", &[], "0", &[]).way_from(&state("", &["/dev/zram0"], "4096", &[]));
        assert_eq!(way, "swapoff /dev/zram0\necho 1 >/sys/block/zram0/reset\n");
    }
}
