//! From a child of init to a service: sockets, rights, then the service's program.

use crate::identity;
use crate::rc::Configuration;
use crate::service::Service;
use crate::service::Socket;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::process::Rlimit;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Where `task_profiles ServiceCapacityLow` puts a process.
const BACKGROUND: &str = "/dev/cpuset/system-background/tasks";

/// `launch SERVICE`: never returns unless something is wrong.
pub fn run(arguments: &[String]) -> Result<()> {
    let [name] = arguments else { bail!("usage: launch SERVICE") };
    let all = Configuration::read()?;
    let service = all.services.iter().find(|service| service.name == *name);
    let service = service.with_context(|| format!("there is no service {name}"))?;
    become_service(service).with_context(|| name.clone())
}

fn become_service(service: &Service) -> Result<()> {
    rustix::process::setsid()?;
    let mut command = Command::new(&service.command[0]);
    command.args(&service.command[1..]).envs(service.environment.iter().cloned());
    // Descriptors stay open over exec: what keeps them is dropped only with this process.
    let mut sockets = Vec::new();
    for socket in &service.sockets {
        let fd = bind(socket).with_context(|| format!("socket {}", socket.name))?;
        command.env(format!("ANDROID_SOCKET_{}", socket.name), fd.as_raw_fd().to_string());
        sockets.push(fd);
    }
    fs::write("/proc/self/oom_score_adj", service.oom_score_adj.to_string())?;
    for (resource, current, maximum) in &service.rlimits {
        let limit = Rlimit { current: *current, maximum: *maximum };
        rustix::process::setrlimit(*resource, limit)?;
    }
    for profile in &service.task_profiles {
        join(profile)?;
    }
    take_rights(service)?;
    Err(command.exec()).with_context(|| service.command[0].clone())
}

fn bind(socket: &Socket) -> Result<OwnedFd> {
    let path = format!("/dev/socket/{}", socket.name);
    let _ = fs::remove_file(&path);
    let fd = rustix::net::socket(AddressFamily::UNIX, socket.kind, None)?;
    rustix::net::sockopt::set_socket_passcred(&fd, socket.passcred)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(&path)?)?;
    rustix::fs::chown(&path, Some(Uid::from_raw(socket.uid)), Some(Gid::from_raw(socket.gid)))?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(socket.mode))?;
    if socket.listen {
        rustix::net::listen(&fd, 8)?;
    }
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?;
    Ok(fd)
}

fn join(profile: &str) -> Result<()> {
    match profile {
        // A kernel without cpusets in the old hierarchy has no such place.
        "ServiceCapacityLow" if Path::new(BACKGROUND).exists() => {
            fs::write(BACKGROUND, std::process::id().to_string()).context(BACKGROUND)
        }
        "ServiceCapacityLow" => Ok(()),
        _ => bail!("task profile '{profile}' is not known here"),
    }
}

/// The first group is the process's own. Capabilities outlast the change of the user by
/// "keep capabilities", and exec by being ambient; nothing outside the list can come back.
fn take_rights(service: &Service) -> Result<()> {
    let groups: Vec<Gid> = service.groups.iter().copied().map(Gid::from_raw).collect();
    let uid = Uid::from_raw(service.user.unwrap_or(0));
    if let Some(kept) = service.capabilities {
        for one in identity::each_capability().filter(|one| !kept.contains(*one)) {
            // Beyond the last that the kernel knows there is nothing to drop.
            let _ = rustix::thread::remove_capability_from_bounding_set(one);
        }
        rustix::thread::set_keep_capabilities(true)?;
    }
    rustix::thread::set_thread_groups(groups.get(1..).unwrap_or_default())?;
    let gid = groups.first().copied().unwrap_or(Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    if let Some(kept) = service.capabilities {
        keep(kept).context("capabilities")?;
    }
    Ok(())
}

fn keep(kept: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    rustix::thread::set_capabilities(None, sets)?;
    for one in identity::each_capability().filter(|one| kept.contains(*one)) {
        rustix::thread::configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}
