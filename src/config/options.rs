//! What the command line says.

use std::path::Path;
use std::path::PathBuf;

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--psi`
    pub psi: Option<PathBuf>,
    /// Not `--no-adopt`
    pub adopt: bool,
    /// `--dry-run`
    pub dry_run: bool,
}

impl Options {
    /// The pressure file to watch.
    #[must_use]
    pub fn pressure_file(&self) -> &Path {
        self.psi.as_deref().unwrap_or(Path::new("/proc/pressure/memory"))
    }
}
