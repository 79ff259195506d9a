//! Whether this process runs on an Android device.
//!
//! Only bionic's calls are chosen when this is compiled. Everything else that Android has and plain
//! Linux has not is chosen here, when it runs, so that a Linux build goes the same ways on a
//! stand-in for a device: a plain kernel whose init sets [`VARIABLE`] for all it starts.

/// Names the directory in which the stand-in's init keeps properties, one file for each. The other
/// things are where Android has them: sockets under `/dev/socket`, BPF pins under `/sys/fs/bpf`.
pub const VARIABLE: &str = "LMKD_STAND_IN_PROPERTIES";

/// Whether to do what is done on Android.
#[must_use]
pub fn is_android() -> bool {
    #[cfg(target_os = "android")]
    let answer = true;
    #[cfg(not(target_os = "android"))]
    let answer = stand_in_properties().is_some();
    answer
}

/// The directory of the stand-in's properties, if this is one. Looked up once.
#[cfg(not(target_os = "android"))]
#[must_use]
pub fn stand_in_properties() -> Option<&'static std::path::Path> {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIRECTORY.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_deref()
}
