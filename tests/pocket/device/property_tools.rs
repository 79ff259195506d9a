//! getprop, setprop, start, stop, reboot.

use crate::properties::DIRECTORY;
use crate::properties::SERVICE;
use crate::properties::SETPROP2;
use crate::properties::SUCCESS;
use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// `getprop [NAME [DEFAULT]]`
pub fn getprop(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {
            let mut lines = Vec::new();
            for entry in fs::read_dir(DIRECTORY).context(DIRECTORY)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if let Some(value) = read(&name).filter(|_| name != ".new") {
                    lines.push(format!("[{name}]: [{value}]"));
                }
            }
            lines.sort();
            lines.iter().for_each(|line| println!("{line}"));
        }
        [name] => println!("{}", read(name).unwrap_or_default()),
        [name, default] => println!("{}", read(name).as_ref().unwrap_or(default)),
        _ => bail!("usage: getprop [NAME [DEFAULT]]"),
    }
    Ok(())
}

/// `setprop NAME VALUE`
pub fn setprop(arguments: &[String]) -> Result<()> {
    match arguments {
        [name, value] => set(name, value),
        _ => bail!("usage: setprop NAME VALUE"),
    }
}

/// `start SERVICE...` and `stop SERVICE...`
pub fn control(what: &str, services: &[String]) -> Result<()> {
    ensure!(!services.is_empty(), "usage: {what} SERVICE...");
    services.iter().try_for_each(|service| set(&format!("ctl.{what}"), service))
}

/// `reboot [WHY]`
pub fn reboot(arguments: &[String]) -> Result<()> {
    set("sys.powerctl", &format!("reboot,{}", arguments.first().map_or("shell", String::as_str)))
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(DIRECTORY).join(name)).ok()
}

fn set(name: &str, value: &str) -> Result<()> {
    let mut init = UnixStream::connect(SERVICE).context(SERVICE)?;
    let mut message = SETPROP2.to_le_bytes().to_vec();
    for text in [name, value] {
        message.extend(u32::try_from(text.len())?.to_le_bytes());
        message.extend(text.as_bytes());
    }
    init.write_all(&message)?;
    let mut answer = [0; 4];
    init.read_exact(&mut answer)?;
    ensure!(u32::from_le_bytes(answer) == SUCCESS, "init refuses to set '{name}' to '{value}'");
    Ok(())
}
