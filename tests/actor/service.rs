//! The part of init that the daemon depends on: its socket and the environment that names it.

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::chmod;
use rustix::fs::Mode;
use rustix::io::fcntl_setfd;
use rustix::io::FdFlags;
use rustix::net::bind;
use rustix::net::socket;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketType;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where init puts the daemon's control socket.
pub const SOCKET: &str = "/dev/socket/lmkd";

/// `init LOG COMMAND...`: never returns unless the command cannot be run.
pub fn become_daemon(args: &[String]) -> Result<()> {
    let [log, program, rest @ ..] = args else { bail!("init: LOG and COMMAND") };
    let _ = std::fs::remove_file(SOCKET);
    let control = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    set_socket_passcred(&control, true)?;
    bind(&control, &SocketAddrUnix::new(SOCKET)?).context(SOCKET)?;
    chmod(SOCKET, Mode::from_raw_mode(0o660))?;
    fcntl_setfd(&control, FdFlags::empty())?;
    let log = File::create(log).context("log")?;
    let error = Command::new(program)
        .args(rest)
        .env("ANDROID_SOCKET_lmkd", control.as_raw_fd().to_string())
        .stdout(log.try_clone()?)
        .stderr(log)
        .exec();
    Err(error).with_context(|| program.clone())
}
