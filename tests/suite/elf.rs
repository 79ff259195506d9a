//! What loads a program: by this a build for Android is told from others.

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;

/// Type of the program header that names the loader.
const PT_INTERP: u64 = 3;

/// The loader that an ELF program names; None for a static one.
pub fn loader(file: &[u8]) -> Result<Option<String>> {
    ensure!(file.starts_with(b"\x7fELF"), "not a program");
    // Where the number of an address's size and others are, in files of 32 and of 64 bits.
    let wide = file.get(4) == Some(&2);
    ensure!(file.get(5) == Some(&1), "not little-endian");
    let word = if wide { 8 } else { 4 };
    let table = number(file, if wide { 0x20 } else { 0x1c }, word)?;
    let size = number(file, if wide { 0x36 } else { 0x2a }, 2)?;
    let count = number(file, if wide { 0x38 } else { 0x2c }, 2)?;
    for index in 0..count {
        let header = size.checked_mul(index).and_then(|at| at.checked_add(table));
        let header = usize::try_from(header.context("headers")?)?;
        let header = file.get(header..).context("headers")?;
        if number(header, 0, 4)? == PT_INTERP {
            let start = usize::try_from(number(header, if wide { 8 } else { 4 }, word)?)?;
            let length = usize::try_from(number(header, if wide { 0x20 } else { 0x10 }, word)?)?;
            let end = start.checked_add(length).context("the loader's name")?;
            let name = file.get(start..end).context("the loader's name")?;
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

/// The number of so many bytes at a place.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let end = at.checked_add(length).context("cut short")?;
    let bytes = bytes.get(at..end).context("cut short")?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of 64 bits with these program headers' types, the first of which is followed by a name.
    fn program(types: &[u32], name: &str) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * types.len()];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 64;
        file[0x36] = 56;
        file[0x38] = u8::try_from(types.len()).unwrap();
        let end = u64::try_from(file.len()).unwrap();
        for (index, kind) in types.iter().enumerate() {
            let header = &mut file[64 + 56 * index..];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&end.to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(name.len() as u64 + 1).to_le_bytes());
        }
        file.extend_from_slice(name.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn a_program_for_android_names_its_loader() {
        let loader = loader(&program(&[1, 3], "/system/bin/linker64")).unwrap();
        assert_eq!(loader.as_deref(), Some("/system/bin/linker64"));
    }

    #[test]
    fn a_static_program_names_none() {
        assert_eq!(loader(&program(&[1, 2], "")).unwrap(), None);
    }

    #[test]
    fn the_program_of_a_linux_host_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(loader(&own).unwrap().is_none_or(|loader| loader.contains("/ld")));
    }

    #[test]
    fn what_is_no_program_or_cut_short_is_an_error() {
        assert!(loader(b"#!/bin/sh").is_err());
        let whole = program(&[3], "/system/bin/linker64");
        for length in [4, 0x30, 80, 125] {
            assert!(loader(&whole[..length]).is_err(), "{length}");
        }
    }
}
