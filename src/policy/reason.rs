//! Why a process is killed.

use crate::codec::coded_enum;

/// The reason of a kill. Clients, metrics and Android's statsd read the numbers: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KillReason {
    /// 0: still below the min watermark right after a kill.
    PressureAfterKill,
    /// 1: all tasks stalled for most of a window.
    NotResponding,
    /// 2: swap is low and the file cache thrashes.
    LowSwapAndThrashing,
    /// 3: memory and swap are low.
    LowMemAndSwap,
    /// 4: memory is low and the file cache thrashes.
    LowMemAndThrashing,
    /// 5: tasks reclaim memory themselves and the file cache thrashes.
    DirectReclaimAndThrashing,
    /// 6: memory is low and too much of it is in swap.
    LowMemAndSwapUtil,
    /// 7: thrashing has left too little file cache.
    LowFilecacheAfterThrashing,
    /// 8: memory is low.
    LowMem,
    /// 9: a task is stuck in direct reclaim.
    DirectReclaimStuck,
    /// 1000 to 1999: the vendor's kernel asked, with a reason of its own from 0 to 999.
    Vendor(u16),
    /// -1, which clients read as "no reason given": below a level of the minfree table.
    Minfree,
    /// -1 likewise: a handler of the daemon is stuck, and no decision was made.
    Watchdog,
}

// Numbers of recordings, which tell Minfree and Watchdog apart.
coded_enum!(KillReason, "reason to kill" {
    0 => PressureAfterKill,
    1 => NotResponding,
    2 => LowSwapAndThrashing,
    3 => LowMemAndSwap,
    4 => LowMemAndThrashing,
    5 => DirectReclaimAndThrashing,
    6 => LowMemAndSwapUtil,
    7 => LowFilecacheAfterThrashing,
    8 => LowMem,
    9 => DirectReclaimStuck,
    10 => Vendor(reason),
    11 => Minfree,
    12 => Watchdog,
});

impl KillReason {
    /// The number that clients and the event log get.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::PressureAfterKill => 0,
            Self::NotResponding => 1,
            Self::LowSwapAndThrashing => 2,
            Self::LowMemAndSwap => 3,
            Self::LowMemAndThrashing => 4,
            Self::DirectReclaimAndThrashing => 5,
            Self::LowMemAndSwapUtil => 6,
            Self::LowFilecacheAfterThrashing => 7,
            Self::LowMem => 8,
            Self::DirectReclaimStuck => 9,
            Self::Vendor(reason) => i32::from(reason).saturating_add(1000),
            Self::Minfree | Self::Watchdog => -1,
        }
    }

    /// A short stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PressureAfterKill => "PRESSURE_AFTER_KILL",
            Self::NotResponding => "NOT_RESPONDING",
            Self::LowSwapAndThrashing => "LOW_SWAP_AND_THRASHING",
            Self::LowMemAndSwap => "LOW_MEM_AND_SWAP",
            Self::LowMemAndThrashing => "LOW_MEM_AND_THRASHING",
            Self::DirectReclaimAndThrashing => "DIRECT_RECL_AND_THRASHING",
            Self::LowMemAndSwapUtil => "LOW_MEM_AND_SWAP_UTIL",
            Self::LowFilecacheAfterThrashing => "LOW_FILECACHE_AFTER_THRASHING",
            Self::LowMem => "LOW_MEM",
            Self::DirectReclaimStuck => "DIRECT_RECL_STUCK",
            Self::Vendor(_) => "VENDOR",
            Self::Minfree => "MINFREE",
            Self::Watchdog => "WATCHDOG",
        }
    }
}
