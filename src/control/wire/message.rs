//! What the daemon sends.

use super::signed;
use super::unsigned;
use super::Command;

/// Length of every reply.
pub const REPLY_LEN: usize = 8;
/// Length of an LMK_PROCKILL.
pub const KILL_NOTICE_LEN: usize = 16;
/// Longest name in an LMK_STAT_KILL_OCCURRED, its NUL not counted.
pub const STAT_NAME_MAX: usize = 127;
/// Longest LMK_STAT_KILL_OCCURRED.
pub const STAT_MAX_LEN: usize = STAT_FIXED + STAT_NAME_MAX + 1;
/// What comes before the name: four bytes, six long fields, eight words, the name's length.
const STAT_FIXED: usize = 86;

/// The answer to `command`.
#[must_use]
pub fn reply(command: Command, value: i32) -> [u8; REPLY_LEN] {
    let mut bytes = [0; REPLY_LEN];
    let (number, rest) = bytes.split_at_mut(4);
    number.copy_from_slice(&command.number().to_be_bytes());
    rest.copy_from_slice(&value.to_be_bytes());
    bytes
}

/// LMK_PROCKILL: this process was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillNotice {
    /// Its id.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it had in memory just before, kB.
    pub rss_kb: i32,
}

impl KillNotice {
    /// The packet, in the form of Android 15 QPR1 and later.
    #[must_use]
    pub fn encode(&self) -> [u8; KILL_NOTICE_LEN] {
        let mut bytes = [0; KILL_NOTICE_LEN];
        let words = [
            Command::ProcKill.number().to_be_bytes(),
            self.pid.to_be_bytes(),
            self.uid.to_be_bytes(),
            self.rss_kb.to_be_bytes(),
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word);
        }
        bytes
    }
}

/// LMK_STAT_KILL_OCCURRED: what is known about a kill. -1 in a 64-bit field says it could not be
/// read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillStat {
    /// Minor page faults.
    pub pgfault: i64,
    /// Major page faults.
    pub pgmajfault: i64,
    /// In memory.
    pub rss_in_bytes: i64,
    /// File cache of its cgroup; 0 without one.
    pub cache_in_bytes: i64,
    /// In swap.
    pub swap_in_bytes: i64,
    /// When it was started, ns since boot.
    pub process_start_time_ns: i64,
    /// Its user.
    pub uid: u32,
    /// Its place in the kill order.
    pub oom_score_adj: i32,
    /// Lowest place that was allowed.
    pub min_oom_score: i32,
    /// Free memory of the device.
    pub free_mem_kb: i32,
    /// Free swap, as estimated.
    pub free_swap_kb: i32,
    /// [`crate::policy::KillReason`] as a number; -1 for none.
    pub kill_reason: i32,
    /// Refaults of the window, percent of the file cache.
    pub thrashing: i32,
    /// Highest thrashing since the kill before.
    pub max_thrashing: i32,
}

/// An LMK_STAT_KILL_OCCURRED ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct StatPacket {
    bytes: [u8; STAT_MAX_LEN],
    len: usize,
}

impl StatPacket {
    /// The datagram.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends; the longest packet fits, as the name is cut before.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(free) = self.bytes.get_mut(self.len..end) {
            free.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

impl KillStat {
    /// The packet in the form with six 64-bit fields; `name` is cut at a NUL and at
    /// [`STAT_NAME_MAX`] bytes.
    #[must_use]
    pub fn encode(&self, name: &[u8]) -> StatPacket {
        let mut packet = StatPacket { bytes: [0; STAT_MAX_LEN], len: 0 };
        packet.push(&Command::StatKillOccurred.number().to_be_bytes());
        for long in [
            self.pgfault,
            self.pgmajfault,
            self.rss_in_bytes,
            self.cache_in_bytes,
            self.swap_in_bytes,
            self.process_start_time_ns,
        ] {
            packet.push(&long.to_be_bytes());
        }
        packet.push(&self.uid.to_be_bytes());
        for word in [
            self.oom_score_adj,
            self.min_oom_score,
            self.free_mem_kb,
            self.free_swap_kb,
            self.kill_reason,
            self.thrashing,
            self.max_thrashing,
        ] {
            packet.push(&word.to_be_bytes());
        }
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = name.get(..STAT_NAME_MAX).unwrap_or(name);
        packet.push(&u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
        packet.push(name);
        packet.push(&[0]);
        packet
    }

    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let fixed = bytes.get(..STAT_FIXED)?;
        let long = |field: usize| {
            let at = 4 + 8 * field;
            fixed.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes)
        };
        let stat = Self {
            pgfault: long(0)?,
            pgmajfault: long(1)?,
            rss_in_bytes: long(2)?,
            cache_in_bytes: long(3)?,
            swap_in_bytes: long(4)?,
            process_start_time_ns: long(5)?,
            uid: unsigned(fixed, 13)?,
            oom_score_adj: signed(fixed, 14)?,
            min_oom_score: signed(fixed, 15)?,
            free_mem_kb: signed(fixed, 16)?,
            free_swap_kb: signed(fixed, 17)?,
            kill_reason: signed(fixed, 18)?,
            thrashing: signed(fixed, 19)?,
            max_thrashing: signed(fixed, 20)?,
        };
        let len = u16::from_be_bytes(fixed.get(84..86)?.try_into().ok()?);
        let end = STAT_FIXED.checked_add(usize::from(len))?;
        Some((stat, bytes.get(STAT_FIXED..end)?))
    }
}

/// A datagram from the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The answer to a command.
    Reply {
        /// Which.
        command: Command,
        /// Its result or count.
        value: i32,
    },
    /// A process was killed.
    Killed(KillNotice),
    /// Statistics of a kill, and the name of the process.
    Stat(KillStat, &'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads one datagram; None if no daemon sends it. An LMK_PROCKILL of 12 bytes, as before
    /// Android 15 QPR1, has an rss of 0.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        match (Command::new(unsigned(bytes, 0)?)?, bytes.len()) {
            (Command::ProcKill, 12 | KILL_NOTICE_LEN) => Some(Self::Killed(KillNotice {
                pid: signed(bytes, 1)?,
                uid: unsigned(bytes, 2)?,
                rss_kb: signed(bytes, 3).unwrap_or(0),
            })),
            (Command::StatKillOccurred, _) => {
                KillStat::decode(bytes).map(|(stat, name)| Self::Stat(stat, name))
            }
            (
                command @ (Command::GetKillCnt | Command::UpdateProps | Command::BootCompleted),
                REPLY_LEN,
            ) => Some(Self::Reply { command, value: signed(bytes, 1)? }),
            _ => None,
        }
    }
}
