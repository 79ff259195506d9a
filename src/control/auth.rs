//! Who may do what over the socket.
//!
//! On Android the socket's mode (0660 system:system) and SELinux decide who connects, and who is
//! connected may do everything. Elsewhere root and the daemon's own user may do everything; any
//! other user may register, re-rank and remove processes of its own, and ask for kill counts.
//! It may not subscribe: the packets tell about processes of other users.

use super::wire::Request;
use crate::device;

/// The rule of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Whoever is connected may do everything.
    Socket,
    /// Users are told apart.
    Users {
        /// The daemon's own.
        own_uid: u32,
    },
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything, for processes of any user.
    All,
    /// Register and remove processes of this user only.
    OwnProcesses(u32),
}

impl Authority {
    /// The rule of the platform this is built for.
    #[must_use]
    pub fn of_this_platform() -> Self {
        if device::is_android() {
            Self::Socket
        } else {
            Self::Users { own_uid: rustix::process::geteuid().as_raw() }
        }
    }

    /// What a peer of this user may do.
    #[must_use]
    pub const fn rights(self, peer_uid: u32) -> Rights {
        match self {
            Self::Socket => Rights::All,
            Self::Users { own_uid } if peer_uid == 0 || peer_uid == own_uid => Rights::All,
            Self::Users { .. } => Rights::OwnProcesses(peer_uid),
        }
    }
}

impl Rights {
    /// Whether a process of this user may be registered or removed.
    #[must_use]
    pub const fn covers(self, uid: u32) -> bool {
        match self {
            Self::All => true,
            Self::OwnProcesses(own) => own == uid,
        }
    }

    /// Whether the command may be given at all. Where it concerns processes, [`Self::covers`] has
    /// to be asked for each: for LMK_PROCREMOVE and LMK_PROCPURGE with the user of the record, for
    /// the records of a batch with theirs.
    #[must_use]
    pub const fn allow(self, request: &Request<'_>) -> bool {
        match (self, request) {
            (Self::All, _) => true,
            (_, Request::ProcPrio(process)) => self.covers(process.uid),
            (
                _,
                Request::ProcsPrio(_)
                | Request::ProcRemove(_)
                | Request::ProcPurge
                | Request::GetKillCnt(_),
            ) => true,
            (
                _,
                Request::Target(_)
                | Request::Subscribe(_)
                | Request::UpdateProps
                | Request::StartMonitoring
                | Request::BootCompleted,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Event;
    use super::*;

    #[test]
    fn on_android_whoever_is_connected_may_do_everything() {
        let rights = Authority::Socket.rights(10_001);
        assert!(rights.covers(0));
        assert!(rights.allow(&Request::UpdateProps));
    }

    #[test]
    fn root_and_the_daemons_own_user_may_do_everything() {
        let users = Authority::Users { own_uid: 1000 };
        assert_eq!(users.rights(0), Rights::All);
        assert_eq!(users.rights(1000), Rights::All);
    }

    #[test]
    fn another_user_may_touch_its_own_processes_and_nothing_else() {
        let rights = Authority::Users { own_uid: 0 }.rights(1000);
        assert!(rights.covers(1000));
        assert!(!rights.covers(0));
        assert!(rights.allow(&Request::ProcPurge));
        for forbidden in [
            Request::UpdateProps,
            Request::StartMonitoring,
            Request::BootCompleted,
            Request::Subscribe(Event::Stat),
            Request::Target(Default::default()),
        ] {
            assert!(!rights.allow(&forbidden), "{forbidden:?}");
        }
    }
}
