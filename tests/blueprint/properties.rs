//! Which properties a module type takes: Soong refuses a whole tree over one that it does not know.
//!
//! From the property structures of Soong's sources, Android 16 and 17: what either release lacks
//! is left out, and so is what no module here could want.

use super::Map;
use super::Module;
use super::Value;

/// Of every module: `android/module.go`.
const MODULE: &[&str] = &["defaults", "enabled", "name", "required", "visibility"];

/// Of everything that is installed: `android/module.go`.
const INSTALLED: &[&str] = &[
    "compile_multilib",
    "host_supported",
    "init_rc",
    "overrides",
    "product_specific",
    "system_ext_specific",
];

/// Of everything that rustc makes: `rust/compiler.go`, `rust/rust.go`, `rust/clippy.go`.
const RUST: &[&str] = &[
    "apex_available",
    "cargo_env_compat",
    "cargo_pkg_version",
    "cfgs",
    "clippy_lints",
    "crate_name",
    "crate_root",
    "edition",
    "features",
    "flags",
    "ld_flags",
    "lints",
    "lto.thin",
    "min_sdk_version",
    "prefer_rlib",
    "proc_macros",
    "relative_install_path",
    "rlibs",
    "rustlibs",
    "shared_libs",
    "srcs",
    "static_libs",
    "stem",
    "suffix",
];

/// `rust/binary.go`.
const RUST_BINARY: &[&str] = &["static_executable"];

/// `rust/test.go`.
const RUST_TEST: &[&str] = &[
    "auto_gen_config",
    "data",
    "data_bins",
    "data_libs",
    "require_root",
    "test_config",
    "test_config_template",
    "test_harness",
    "test_options.unit_test",
    "test_suites",
];

/// `fuzz/fuzz_common.go`.
const FUZZ: &[&str] =
    &["corpus", "data", "dictionary", "fuzz_config.cc", "fuzz_config.componentid"];

/// `sh/sh_binary.go`.
const SH_TEST: &[&str] = &[
    "auto_gen_config",
    "data",
    "data_bins",
    "data_device_bins",
    "data_device_libs",
    "data_libs",
    "filename",
    "filename_from_src",
    "installable",
    "require_root",
    "src",
    "sub_dir",
    "symlinks",
    "test_config",
    "test_config_template",
    "test_options.unit_test",
    "test_suites",
];

/// The lists that a module type takes; None for a type that is not used here.
fn accepted(kind: &str) -> Option<&'static [&'static [&'static str]]> {
    Some(match kind {
        "package" => &[&["default_applicable_licenses", "default_visibility"]],
        "license" => &[MODULE, &["copyright_notice", "license_kinds", "license_text"]],
        "phony" => &[MODULE, INSTALLED],
        "rust_defaults" => &[MODULE, INSTALLED, RUST, RUST_BINARY, RUST_TEST, FUZZ],
        "rust_library" => &[MODULE, INSTALLED, RUST],
        "rust_binary" | "rust_binary_host" => &[MODULE, INSTALLED, RUST, RUST_BINARY],
        "rust_test" | "rust_test_host" => &[MODULE, INSTALLED, RUST, RUST_BINARY, RUST_TEST],
        "rust_fuzz" => &[MODULE, INSTALLED, RUST, RUST_BINARY, FUZZ],
        "sh_test_host" => &[MODULE, INSTALLED, SH_TEST],
        _ => return None,
    })
}

/// What stands in a module that its type does not take, by dots through maps.
///
/// # Panics
///
/// The type is none that is known here.
pub fn refused(module: &Module) -> Vec<String> {
    let lists = accepted(&module.kind).unwrap_or_else(|| panic!("{}: no such type", module.kind));
    let takes = |path: &str| {
        // Of one operating system alone, with the property's own name behind it.
        let path = ["target.android.", "target.host."]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix))
            .unwrap_or(path);
        lists.iter().any(|list| list.contains(&path))
    };
    let mut refused = paths(&module.properties);
    refused.retain(|path| !takes(path));
    refused
}

fn paths(map: &Map) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in map {
        match value {
            Value::Map(inner) => {
                all.extend(paths(inner).into_iter().map(|rest| format!("{name}.{rest}")));
            }
            _ => all.push(name.clone()),
        }
    }
    all
}
