//! bionic's system properties.

use rustix::io::Errno;
use std::ffi::c_char;
use std::ffi::c_void;
use std::ffi::CStr;
use std::ffi::CString;

extern "C" {
    // bionic has it since API level 26; the libc crate does not declare it.
    fn __system_property_read_callback(
        info: *const libc::prop_info,
        callback: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, u32),
        cookie: *mut c_void,
    );
}

/// The value; None if the property is not set, may not be read, or is no text.
#[must_use]
pub fn get(name: &str) -> Option<String> {
    /// Called by bionic, once, with the name and value that it holds stable meanwhile.
    unsafe extern "C" fn take(
        cookie: *mut c_void,
        _name: *const c_char,
        value: *const c_char,
        _serial: u32,
    ) {
        // SAFETY: the cookie is the `found` below, which outlives the call and which nothing else
        // touches during it; the value is a NUL-terminated string.
        let (found, value) =
            unsafe { (&mut *cookie.cast::<Option<String>>(), CStr::from_ptr(value)) };
        *found = value.to_str().ok().map(str::to_owned);
    }
    let name = CString::new(name).ok()?;
    let mut found: Option<String> = None;
    // SAFETY: the name is NUL-terminated; the result is null or lives as long as the process.
    let info = unsafe { libc::__system_property_find(name.as_ptr()) };
    if info.is_null() {
        return None;
    }
    let cookie: *mut Option<String> = &mut found;
    // SAFETY: info is a property's; `take` matches the signature, and the cookie is what it expects.
    unsafe { __system_property_read_callback(info, take, cookie.cast()) };
    found
}

/// Sets a property through init.
///
/// # Errors
///
/// EINVAL if name or value has a NUL inside; EPERM if init refuses, as it does without the right
/// SELinux rule.
pub fn set(name: &str, value: &str) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let value = CString::new(value).map_err(|_| Errno::INVAL)?;
    // SAFETY: both are NUL-terminated strings, and bionic copies them.
    match unsafe { libc::__system_property_set(name.as_ptr(), value.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Errno::PERM),
    }
}
