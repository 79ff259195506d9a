//! Where the tunables and the socket come from on this platform.

use crate::config::Options;
use crate::config::Tunables;
use crate::control::handover;
use crate::control::server::Server;
use crate::control::wire::Targets;
use anyhow::Context;
use std::path::PathBuf;

/// The sources of settings.
pub(super) struct Settings {
    socket: PathBuf,
}

impl Settings {
    pub(super) fn new(options: &Options) -> Self {
        Self { socket: options.socket.clone().unwrap_or_else(handover::default_path) }
    }

    pub(super) fn load(&self) -> Tunables {
        Tunables::default()
    }

    pub(super) fn boot_completed(&self) -> bool {
        true
    }

    pub(super) fn publish_minfree(&self, _targets: &Targets) {}

    pub(super) fn socket_name(&self) -> String {
        self.socket.display().to_string()
    }

    /// Init's socket if there is one, else one of our own.
    pub(super) fn listen(&self) -> anyhow::Result<Server> {
        let listener = match handover::from_init() {
            Ok(Some(socket)) => socket,
            Ok(None) => handover::open(&self.socket)?,
            Err(error) => return Err(error.into()),
        };
        Server::new(listener).context("listening on the lmkd socket")
    }
}
