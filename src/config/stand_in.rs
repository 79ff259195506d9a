//! Properties of a stand-in for a device: files to read, init's socket to write to.

use super::source::PropertySource;
use super::source::PropertyStore;
use crate::device;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::fs;
use std::path::Path;

/// Where init takes requests to set a property.
const SERVICE: &str = "/dev/socket/property_service";
/// `PROP_MSG_SETPROP2` of bionic: this word, then length and bytes of name and value, little
/// endian; a word comes back, 0 if the property is set.
const SETPROP2: u32 = 0x0002_0001;

/// The stand-in's properties. Anywhere else there are none, and writes go nowhere: nobody there
/// reads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProperties;

impl PropertySource for SystemProperties {
    fn get(&self, name: &str) -> Option<String> {
        read(device::stand_in_properties()?, name)
    }
}

impl PropertyStore for SystemProperties {
    fn set(&self, name: &str, value: &str) -> Result<(), Errno> {
        match device::stand_in_properties() {
            Some(_) => set(Path::new(SERVICE), name, value),
            None => Ok(()),
        }
    }
}

fn read(directory: &Path, name: &str) -> Option<String> {
    fs::read_to_string(directory.join(name)).ok()
}

fn set(service: &Path, name: &str, value: &str) -> Result<(), Errno> {
    let mut message = SETPROP2.to_le_bytes().to_vec();
    for text in [name, value] {
        let length = u32::try_from(text.len()).map_err(|_| Errno::INVAL)?;
        message.extend(length.to_le_bytes());
        message.extend(text.as_bytes());
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(service)?)?;
    rustix::net::send(&socket, &message, SendFlags::NOSIGNAL)?;
    let mut answer = [0; 4];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::WAITALL)?;
    match u32::from_le_bytes(answer) {
        0 => Ok(()),
        _ => Err(Errno::PERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("lmkd-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_property_is_the_contents_of_its_file() {
        let directory = path("properties");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("ro.lmk.debug"), "true").unwrap();
        assert_eq!(read(&directory, "ro.lmk.debug").as_deref(), Some("true"));
        assert_eq!(read(&directory, "ro.lmk.swap_util_max"), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn where_no_init_keeps_properties_there_are_none_and_setting_one_does_nothing() {
        assert_eq!(SystemProperties.get("ro.lmk.debug"), None);
        assert_eq!(SystemProperties.set("lmkd.reinit", ""), Ok(()));
    }

    #[test]
    fn a_property_is_set_in_bionics_words_and_init_may_refuse() {
        let path = path("property_service");
        let service = UnixListener::bind(&path).unwrap();
        let init = std::thread::spawn(move || {
            [0_u32, 0x18].map(|answer| {
                let (mut client, _) = service.accept().unwrap();
                let mut message = [0; 14];
                client.read_exact(&mut message).unwrap();
                client.write_all(&answer.to_le_bytes()).unwrap();
                message
            })
        });
        assert_eq!(set(&path, "a", "b"), Ok(()));
        assert_eq!(set(&path, "a", "b"), Err(Errno::PERM));
        let message = *b"\x01\x00\x02\x00\x01\x00\x00\x00a\x01\x00\x00\x00b";
        assert_eq!(init.join().unwrap(), [message; 2]);
        fs::remove_file(path).unwrap();
    }
}
