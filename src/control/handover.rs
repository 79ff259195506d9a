//! Where the listening socket comes from: init, or the daemon itself.

use crate::device;
use crate::sys::socket;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrAny;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// The variable in which init hands over the descriptor's number.
pub const VARIABLE: &str = "ANDROID_SOCKET_lmkd";
/// Where init binds the socket.
pub const ANDROID_PATH: &str = "/dev/socket/lmkd";

/// Why there is no socket.
#[derive(Debug)]
pub enum HandoverError {
    /// The variable does not hold a number.
    NotANumber(&'static str, OsString),
    /// The number in the variable is no open descriptor, or no socket.
    NotASocket(&'static str, i32, Errno),
    /// The socket is bound to another path than init's, which is the last.
    WrongPath(&'static str, i32, &'static str),
    /// The socket is not of type SOCK_SEQPACKET.
    WrongType(&'static str, i32),
    /// Somebody answers at this path.
    InUse(PathBuf),
    /// There is something at this path that is no socket.
    NotOurs(PathBuf),
    /// The directory of the socket cannot be made, or is not safe.
    Directory(PathBuf, std::io::Error),
    /// The socket cannot be made.
    Open(PathBuf, Errno),
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber(name, value) => {
                write!(f, "{name}={} is no descriptor number", value.to_string_lossy())
            }
            Self::NotASocket(name, fd, error) => write!(f, "{name}={fd} is no socket: {error}"),
            Self::WrongPath(name, fd, path) => {
                write!(f, "the socket of {name}={fd} is not bound to {path}")
            }
            Self::WrongType(name, fd) => {
                write!(f, "the socket of {name}={fd} is not of type seqpacket")
            }
            Self::InUse(path) => write!(
                f,
                "another daemon answers at {}; stop it, or give another path with --socket",
                path.display()
            ),
            Self::NotOurs(path) => write!(f, "{} exists and is no socket", path.display()),
            Self::Directory(path, error) => {
                write!(f, "cannot use the directory {}: {error}", path.display())
            }
            Self::Open(path, error) => {
                write!(f, "cannot open a socket at {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for HandoverError {}

/// Takes the socket that init handed over in `variable`, bound to `path`; None if it did not. To be
/// called once, before anything else could have closed the descriptor and reused its number.
///
/// # Errors
///
/// The variable is there but what it says is not init's socket: as `android_get_control_socket` of
/// libcutils, this checks that the descriptor is open and bound to the path that init uses.
pub fn from_init(
    variable: &'static str,
    path: &'static str,
) -> Result<Option<OwnedFd>, HandoverError> {
    std::env::var_os(variable).map(|value| adopt(variable, &value, path)).transpose()
}

fn adopt(
    variable: &'static str,
    value: &OsStr,
    expected: &'static str,
) -> Result<OwnedFd, HandoverError> {
    let number = value.to_str().and_then(|text| text.trim().parse().ok()).filter(|fd| *fd >= 0);
    let number: i32 =
        number.ok_or_else(|| HandoverError::NotANumber(variable, value.to_owned()))?;
    let not_a_socket = |error| HandoverError::NotASocket(variable, number, error);
    let socket = socket::adopt(number).map_err(not_a_socket)?;
    let address = rustix::net::getsockname(&socket).map_err(not_a_socket)?;
    if bound_path(address).as_deref() != Some(Path::new(expected)) {
        return Err(HandoverError::WrongPath(variable, number, expected));
    }
    match rustix::net::sockopt::socket_type(&socket) {
        Ok(SocketType::SEQPACKET) => Ok(socket),
        _ => Err(HandoverError::WrongType(variable, number)),
    }
}

fn bound_path(address: SocketAddrAny) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(address).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(address.path()?.to_bytes())))
}

/// Where the daemon of this user listens if nobody says otherwise: init's path on Android;
/// elsewhere /run/lmkd/lmkd.sock for root, `$XDG_RUNTIME_DIR/lmkd/lmkd.sock` for others (in a
/// directory of their own under /tmp without that variable).
#[must_use]
pub fn default_path() -> PathBuf {
    if device::is_android() {
        return PathBuf::from(ANDROID_PATH);
    }
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/lmkd/lmkd.sock");
    }
    std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()).map_or_else(
        || PathBuf::from(format!("/tmp/lmkd-{}/lmkd.sock", uid.as_raw())),
        |dir| Path::new(&dir).join("lmkd/lmkd.sock"),
    )
}

/// Makes and binds a socket: the directory with mode 0755 if it is missing, the socket with mode
/// 0660 for root and 0600 for others. A socket that a dead daemon left behind is replaced.
///
/// # Errors
///
/// Another daemon answers there, or what is there is no socket, or a system call fails.
pub fn open(path: &Path) -> Result<OwnedFd, HandoverError> {
    let failed = |error| HandoverError::Open(path.to_owned(), error);
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .and_then(|()| is_safe(dir))
            .map_err(|error| HandoverError::Directory(dir.to_owned(), error))?;
    }
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    remove_stale(path, &address)?;
    let socket = new_socket().map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    // Nobody can connect before listen(2), so there is no moment at which the mode is wrong.
    let mode = if rustix::process::geteuid().is_root() { 0o660 } else { 0o600 };
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(socket)
}

/// Fails if another user could have put the directory there, or could put another socket into it:
/// the one under /tmp has a name that anybody can guess.
fn is_safe(dir: &Path) -> Result<(), std::io::Error> {
    let there = std::fs::symlink_metadata(dir)?;
    let own = rustix::process::geteuid().as_raw();
    let open = there.is_dir() && there.mode() & 0o1002 == 0o002;
    if open || ![0, own].contains(&there.uid()) {
        let why = "it belongs to another user, or everybody may write there";
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), HandoverError> {
    let failed = |error| HandoverError::Open(path.to_owned(), error);
    let there = match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => there,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
        return Err(HandoverError::NotOurs(path.to_owned()));
    }
    match rustix::net::connect(new_socket().map_err(failed)?, address) {
        Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        // An answer, or a full queue, or a socket of another type: somebody lives there.
        _ => Err(HandoverError::InUse(path.to_owned())),
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    /// In a directory of its own: a device's is the shell's.
    fn bound(name: &str) -> (PathBuf, OsString) {
        let dir = std::env::temp_dir().join(format!("lmkd-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("lmkd.sock");
        let number = open(&path).unwrap().into_raw_fd();
        (path, number.to_string().into())
    }

    #[test]
    fn a_directory_that_others_may_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("lmkd-unsafe-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let set = |mode| {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
            open(&dir.join("s")).map(drop)
        };
        let results = [set(0o777), set(0o1777), set(0o755)].map(|result| result.is_ok());
        let mut strangers = false;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
            strangers = set(0o755).is_ok();
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((results, strangers), ([false, true, true], false));
    }

    /// Paths of init's are known when this is compiled, those of tests are not.
    fn leaked(path: &Path) -> &'static str {
        path.to_str().unwrap().to_owned().leak()
    }

    #[test]
    fn inits_socket_is_taken_over_and_not_handed_on() {
        let (path, number) = bound("init");
        let socket = adopt(VARIABLE, &number, leaked(&path)).unwrap();
        let flags = rustix::io::fcntl_getfd(&socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_socket_bound_elsewhere_is_not_inits() {
        let (path, number) = bound("elsewhere");
        let error = adopt(VARIABLE, &number, ANDROID_PATH).unwrap_err();
        assert!(matches!(error, HandoverError::WrongPath(..)), "{error}");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_socket_of_another_type_is_not_inits() {
        let path = std::env::temp_dir().join(format!("lmkd-{}-stream.sock", std::process::id()));
        let stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let number = OsString::from(stream.into_raw_fd().to_string());
        let error = adopt(VARIABLE, &number, leaked(&path)).unwrap_err();
        assert!(matches!(error, HandoverError::WrongType(..)), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_number_or_no_open_descriptor_is_said() {
        for value in ["", "x", "-1", "3 4", "99999999999"] {
            let error = adopt(VARIABLE, OsStr::new(value), "/a").unwrap_err();
            assert!(matches!(error, HandoverError::NotANumber(..)), "{error}");
        }
        let error = adopt(VARIABLE, OsStr::new("1000000"), "/a").unwrap_err();
        assert!(matches!(error, HandoverError::NotASocket(_, 1_000_000, _)), "{error}");
    }
}
