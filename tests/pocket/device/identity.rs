//! Names that Android knows without a file: users, groups, capabilities.

use anyhow::anyhow;
use anyhow::Result;
use rustix::thread::CapabilitySet;

/// `android_filesystem_config.h`, as far as services here need it.
const IDS: [(&str, u32); 7] = [
    ("root", 0),
    ("system", 1000),
    ("log", 1007),
    ("shell", 2000),
    ("logd", 1036),
    ("lmkd", 1069),
    ("readproc", 3009),
];

/// capability.h, in its order.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a user or group.
pub fn id(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let known = IDS.iter().find(|(known, _)| *known == name);
    known.map(|(_, id)| *id).ok_or_else(|| anyhow!("'{name}' is no user or group here"))
}

/// A set with this capability alone.
pub fn capability(name: &str) -> Result<CapabilitySet> {
    let number = CAPABILITIES.iter().position(|known| *known == name);
    let number = number.ok_or_else(|| anyhow!("'{name}' is no capability"))?;
    Ok(CapabilitySet::from_bits_retain(1 << number))
}

/// Every capability there may be, one at a time.
pub fn each_capability() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number))
}
