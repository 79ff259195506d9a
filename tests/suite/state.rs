//! What the device was like before the suite came, so that it can be so again.

use crate::adb::Device;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Properties that scenarios set: this, and all below the prefix.
const TUNABLES: &str = "persist.device_config.lmkd_native.";
const BOOTED: &str = "sys.boot_completed";
/// One that is set for as long as the daemon under test is there.
const NO_FATAL: &str = "init.svc_debug.no_fatal.lmkd";
const RESERVE: &str = "/proc/sys/vm/min_free_kbytes";
/// A folder of the suite's own: what a user keeps beside it may have any name.
pub const FOLDER: &str = "/data/local/tmp/lmkd_suite";
/// What is in it: programs, the recording of a scenario on its way to the host, and what stands for the code of apps.
pub const ACTOR: &str = "/data/local/tmp/lmkd_suite/actor";
pub const LMKCTL: &str = "/data/local/tmp/lmkd_suite/lmkctl";
pub const RECORDING: &str = "/data/local/tmp/lmkd_suite/recording";
pub const CACHE: &str = "/data/local/tmp/lmkd_suite/cache";
/// Files and folders that the suite leaves on the device while it runs, a folder after what is in it.
const LEAVINGS: [&str; 6] = [ACTOR, LMKCTL, RECORDING, CACHE, FOLDER, TRACE];
/// The actor's own buffer of kernel events: a folder, which one removes to be rid of it.
const TRACE: &str = "/sys/kernel/tracing/instances/lmkd_actor";

/// Prints a line a swap, its path and priority. Android's kernels name a disk as if /dev were the root.
pub const SWAPS: &str = "tail -n +2 /proc/swaps | while read -r file type size used priority; do
    [ -e \"$file\" ] || file=/dev$file; echo \"$file $priority\"; done";

/// A device's state, as far as scenarios change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Those with a value; one cannot be taken away, but an empty one counts as none.
    properties: BTreeMap<String, String>,
    /// The device's daemon was not stopped.
    runs: bool,
    /// Devices and files that are swapped to, with their priorities; a negative one is the kernel's choice.
    swaps: BTreeMap<String, i32>,
    /// Bytes of the first zram disk; 0 or nothing is one that was never set up.
    zram: String,
    /// How that disk compresses.
    algorithm: String,
    /// kB that the kernel keeps free.
    reserve: String,
    /// Those of the leavings that are there.
    files: Vec<String>,
}

impl State {
    /// Looks at the device.
    pub fn of(device: &Device) -> Result<Self> {
        let script = format!(
            "echo == swaps; {SWAPS}
            echo == zram; cat /sys/block/zram0/disksize 2>/dev/null
            echo == algorithm; cat /sys/block/zram0/comp_algorithm 2>/dev/null
            echo == reserve; cat {RESERVE}
            echo == files; ls -d {} 2>/dev/null
            echo == properties; getprop",
            LEAVINGS.join(" ")
        );
        Self::told(&device.shell(&script)?)
    }

    /// From the words of that script.
    fn told(text: &str) -> Result<Self> {
        let part = |name: &str| {
            let (_, rest) = text.split_once(&format!("== {name}\n"))?;
            // Properties are the last, and may hold anything.
            let end = if name == "properties" { None } else { rest.find("== ") };
            Some(rest.get(..end.unwrap_or(rest.len()))?.trim())
        };
        let part = |name: &str| part(name).with_context(|| format!("{name}: {text:?}"));
        let mut properties = properties(part("properties")?);
        let runs = properties.get("init.svc.lmkd").is_some_and(|state| state != "stopped");
        properties.retain(|name, value| {
            let known = name.starts_with(TUNABLES) || [BOOTED, NO_FATAL].contains(&name.as_str());
            known && !value.is_empty()
        });
        let swap = |line: &str| {
            let (file, priority) = line.rsplit_once(' ')?;
            Some((file.to_owned(), priority.parse().ok()?))
        };
        // The one in force is in brackets.
        let algorithm =
            part("algorithm")?.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        Ok(Self {
            properties,
            runs,
            swaps: part("swaps")?.lines().filter_map(swap).collect(),
            zram: part("zram")?.to_owned(),
            algorithm: algorithm.map_or("", |(name, _)| name).to_owned(),
            reserve: part("reserve")?.to_owned(),
            files: part("files")?.lines().map(str::to_owned).collect(),
        })
    }

    /// The shell commands that swap to what is swapped to in this state, a line each, but for those in another.
    fn swapon(&self, now: &BTreeMap<String, i32>) -> String {
        let mut script = String::new();
        for (file, priority) in self.swaps.iter().filter(|(file, _)| !now.contains_key(*file)) {
            // The kernel takes no negative one, it counts down itself.
            let option = if *priority < 0 { String::new() } else { format!("-p {priority} ") };
            let _ = writeln!(script, "swapon {option}{file}");
        }
        script
    }

    /// The shell commands that turn the device's own swap on; nothing if it has none.
    pub fn own_swap(&self) -> String {
        self.swapon(&BTreeMap::new())
    }

    /// The shell commands that set those properties that differ and are asked for, a line each.
    fn properties_from(&self, now: &Self, asked: impl Fn(&str) -> bool) -> String {
        let mut script = String::new();
        for name in now.properties.keys().filter(|name| asked(name)) {
            if !self.properties.contains_key(name) {
                let _ = writeln!(script, "setprop {name} ''");
            }
        }
        for (name, value) in self.properties.iter().filter(|(name, _)| asked(name)) {
            if now.properties.get(name) != Some(value) {
                let _ = writeln!(script, "setprop {name} {}", quoted(value));
            }
        }
        script
    }

    /// What scenarios have in common, and one that fails may leave: tunables, the end of boot, the kernel's reserve.
    fn common_from(&self, now: &Self) -> String {
        let mut script = self.properties_from(now, |name| name != NO_FATAL);
        if self.reserve != now.reserve {
            let _ = writeln!(script, "echo {} >{RESERVE}", self.reserve);
        }
        script
    }

    /// The shell commands that lead from another state to this one, a line each.
    fn way_from(&self, now: &Self) -> String {
        let mut script = self.common_from(now);
        script.push_str(&self.properties_from(now, |name| name == NO_FATAL));
        for swap in now.swaps.keys().filter(|swap| !self.swaps.contains_key(*swap)) {
            let _ = writeln!(script, "swapoff {swap}");
        }
        let unused = |size: &str| size.is_empty() || size == "0";
        if unused(&self.zram) && !unused(&now.zram) {
            script.push_str("echo 1 >/sys/block/zram0/reset\n");
        }
        if self.algorithm != now.algorithm {
            let _ = writeln!(script, "echo {} >/sys/block/zram0/comp_algorithm", self.algorithm);
        }
        script.push_str(&self.swapon(&now.swaps));
        let has = |state: &Self, file: &str| state.files.iter().any(|one| one == file);
        for file in LEAVINGS.iter().filter(|file| has(now, file) && !has(self, file)) {
            let command = if [FOLDER, TRACE].contains(file) { "rmdir" } else { "rm" };
            let _ = writeln!(script, "{command} {file}");
        }
        if self.runs && !now.runs {
            script.push_str("start lmkd\n");
        }
        script
    }

    /// Whether the device's daemon was not stopped.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// Undoes what an earlier scenario may have left; whether there was something.
    pub fn settle(&self, device: &Device) -> Result<bool> {
        let script = self.common_from(&Self::of(device)?);
        if script.is_empty() {
            return Ok(false);
        }
        device.shell(&format!("set -e\n{script}")).context("what the last scenario has left")?;
        Ok(true)
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

    /// For a file.
    pub fn to_json(&self) -> Value {
        json!({
            "properties": self.properties,
            "runs": self.runs,
            "swaps": self.swaps,
            "zram": self.zram,
            "algorithm": self.algorithm,
            "reserve": self.reserve,
            "files": self.files,
        })
    }

    /// From that file.
    pub fn from_json(value: &Value) -> Result<Self> {
        Ok(Self {
            properties: serde_json::from_value(value["properties"].clone())
                .context("properties")?,
            runs: serde_json::from_value(value["runs"].clone()).context("runs")?,
            swaps: serde_json::from_value(value["swaps"].clone()).context("swaps")?,
            zram: serde_json::from_value(value["zram"].clone()).context("zram")?,
            algorithm: serde_json::from_value(value["algorithm"].clone()).context("algorithm")?,
            reserve: serde_json::from_value(value["reserve"].clone()).context("reserve")?,
            files: serde_json::from_value(value["files"].clone()).context("files")?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(properties: &str, swaps: &[(&str, i32)], zram: &str, files: &[&str]) -> State {
        State {
            properties: super::properties(properties),
            runs: true,
            swaps: swaps.iter().map(|(file, priority)| ((*file).to_owned(), *priority)).collect(),
            zram: zram.to_owned(),
            algorithm: "lzo".to_owned(),
            reserve: "2048".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        }
    }

    #[test]
    fn an_untouched_device_needs_nothing() {
        let swaps = [("/dev/zram0", -2)];
        let state = || state("[a]: [1]", &swaps, "4096", &[FOLDER, ACTOR]);
        assert_eq!(state().way_from(&state()), "");
    }

    #[test]
    fn every_change_is_undone() {
        let swaps = [("/dev/block/zram0", 10), ("/data/own", -2)];
        let before = state("[a]: [1]\n[b]: [it's]", &swaps, "4096", &[]);
        // As ls sorts them.
        let leavings = [FOLDER, ACTOR, TRACE];
        let fatal = format!("[{NO_FATAL}]: [true]\n[a]: [2]\n[c]: [3]");
        let mut after = state(&fatal, &[("/data/swap", -2)], "4096", &leavings);
        after.runs = false;
        after.reserve = "81920".to_owned();
        let way = before.way_from(&after);
        let expected = [
            "setprop c ''",
            "setprop a '1'",
            "setprop b 'it'\\''s'",
            "echo 2048 >/proc/sys/vm/min_free_kbytes",
            "setprop init.svc_debug.no_fatal.lmkd ''",
            "swapoff /data/swap",
            "swapon /data/own",
            "swapon -p 10 /dev/block/zram0",
            "rm /data/local/tmp/lmkd_suite/actor",
            "rmdir /data/local/tmp/lmkd_suite",
            "rmdir /sys/kernel/tracing/instances/lmkd_actor",
            "start lmkd",
        ];
        assert_eq!(way.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_zram_disk_that_the_suite_set_up_is_given_back() {
        let mut after = state("", &[("/dev/zram0", -2)], "4096", &[]);
        after.algorithm = "lzo-rle".to_owned();
        let way = state("", &[], "0", &[]).way_from(&after);
        let expected = [
            "swapoff /dev/zram0",
            "echo 1 >/sys/block/zram0/reset",
            "echo lzo >/sys/block/zram0/comp_algorithm",
        ];
        assert_eq!(way.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn between_scenarios_only_what_they_have_in_common_is_undone() {
        let before = state("", &[], "0", &[]);
        let left = format!("[{NO_FATAL}]: [true]\n[{TUNABLES}debug]: [true]");
        let mut after = state(&left, &[("/dev/zram0", -2)], "4096", &[ACTOR]);
        after.reserve = "81920".to_owned();
        let expected = [
            "setprop persist.device_config.lmkd_native.debug ''",
            "echo 2048 >/proc/sys/vm/min_free_kbytes",
        ];
        assert_eq!(before.common_from(&after).lines().collect::<Vec<_>>(), expected);
    }

    /// What the script prints on a device.
    const TOLD: &str = "== swaps
/dev/block/zram0 32758
== zram
2147483648
== algorithm
lzo [lz4] zstd
== reserve
27386
== files
/data/local/tmp/lmkd_suite/actor
== properties
[init.svc.lmkd]: [running]
[persist.device_config.lmkd_native.debug]: [true]
[persist.device_config.lmkd_native.empty]: []
[ro.other]: [== swaps]
[sys.boot_completed]: [1]
";

    #[test]
    fn a_devices_words_are_understood() {
        let known = "[persist.device_config.lmkd_native.debug]: [true]\n[sys.boot_completed]: [1]";
        let swaps = [("/dev/block/zram0", 32758)];
        let mut expected = state(known, &swaps, "2147483648", &[ACTOR]);
        expected.algorithm = "lz4".to_owned();
        expected.reserve = "27386".to_owned();
        assert_eq!(State::told(TOLD).unwrap(), expected);
    }

    #[test]
    fn a_device_without_swap_and_zram_is_understood() {
        let bare = "== swaps\n== zram\n== algorithm\n== reserve\n2048\n== files\n== properties\n";
        let mut expected = state("", &[], "", &[]);
        expected.algorithm = String::new();
        expected.runs = false;
        assert_eq!(State::told(bare).unwrap(), expected);
        assert!(State::told("== swaps\n").is_err());
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let state = State::told(TOLD).unwrap();
        assert_eq!(State::from_json(&state.to_json()).unwrap(), state);
        assert!(State::from_json(&Value::Null).is_err());
    }
}
