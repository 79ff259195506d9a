//! The program's own pages. What is touched for the first time under pressure has to be read from a
//! disk that has other things to do then.

use super::check;
use rustix::io::Errno;
use std::ops::Range;

/// `mlock(2)` of the program and of the libraries that it was linked with, as far as they cannot be
/// written to: they are read now, and stay.
///
/// # Errors
///
/// ENOMEM or EPERM without CAP_IPC_LOCK and a fitting RLIMIT_MEMLOCK; those of reading
/// `/proc/self/maps`.
pub fn lock_program() -> Result<(), Errno> {
    let maps = std::fs::read_to_string("/proc/self/maps");
    let maps = maps.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    for Range { start, end } in program(&maps) {
        let address = std::ptr::null::<libc::c_void>().wrapping_byte_add(start);
        // SAFETY: mlock changes no contents of memory, and of a range that is not mapped it says so.
        let locked = unsafe { libc::mlock(address, end.saturating_sub(start)) };
        check(libc::c_long::from(locked))?;
    }
    Ok(())
}

/// The private mappings, not to be written to, of files that code is executed from: `START-END PERMS
/// OFFSET DEVICE INODE [PATH]`, by proc_pid_maps(5).
fn program(maps: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let fields = |line: &'_ str| -> Option<(Range<usize>, [u8; 4], u64)> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let perms = fields.next()?.as_bytes().try_into().ok()?;
        Some((hex(start)?..hex(end)?, perms, fields.nth(2)?.parse().ok()?))
    };
    let all = move || maps.lines().filter_map(fields).filter(|(.., inode)| *inode != 0);
    let code: Vec<u64> =
        all().filter(|(_, perms, _)| perms == b"r-xp").map(|(.., inode)| inode).collect();
    all()
        .filter(move |(_, perms, inode)| {
            matches!(perms, [b'r', b'-', _, b'p']) && code.contains(inode)
        })
        .map(|(range, ..)| range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_constants_are_found_and_nothing_else() {
        let maps = "\
            b5c0a000-b5c0e000 r--p 00000000 fe:00 3932   /system/bin/lmkd\n\
            b5c0e000-b5c20000 r-xp 00004000 fe:00 3932   /system/bin/lmkd\n\
            b5c20000-b5c21000 rw-p 00016000 fe:00 3932   /system/bin/lmkd\n\
            b6000000-b6021000 rw-p 00000000 00:00 0      [heap]\n\
            f7c00000-f7c20000 r--s 00000000 00:13 77     /dev/__properties__/a b\n\
            f7d00000-f7d20000 r--p 00000000 fe:00 4040   /usr/share/locale\n\
            ffd10000-ffd12000 r-xp 00000000 00:00 0      [vdso]\n";
        let found: Vec<_> = program(maps).collect();
        assert_eq!(found, [0xb5c0_a000..0xb5c0_e000, 0xb5c0_e000..0xb5c2_0000]);
    }

    #[test]
    fn all_of_a_locked_program_is_present() {
        if let Err(errno) = lock_program() {
            return eprintln!("skipped: locking memory: {errno}");
        }
        let ranges: Vec<_> =
            program(&std::fs::read_to_string("/proc/self/maps").unwrap()).collect();
        assert!(!ranges.is_empty());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        for Range { start, end } in ranges {
            let of = smaps.split(&format!("{start:x}-{end:x} ")).nth(1).unwrap();
            let kb = |name: &str| {
                let line = of.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
            };
            assert_eq!(kb("Rss:"), kb("Size:"), "{start:x}");
        }
    }
}
