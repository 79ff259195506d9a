//! Cargo.toml and Android.bp describe one program: neither may know more than the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blueprint;

use blueprint::sources;
use blueprint::sources::Source;
use blueprint::Module;
use blueprint::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use toml::Table;

/// Crates that AOSP's external/rust/android-crates-io builds, of those this project may want.
const IN_AOSP: &[&str] = &[
    "android_logger",
    "anyhow",
    "arrayvec",
    "bitflags",
    "clap",
    "googletest",
    "libc",
    "libfuzzer_sys",
    "log",
    "mockall",
    "nix",
    "quickcheck",
    "rstest",
    "rustix",
    "serde",
    "serde_json",
    "smallvec",
    "tempfile",
    "thiserror",
    "zerocopy",
];

/// What AOSP's librustix 1.1.4 is built with.
const RUSTIX_FEATURES: &[&str] = &[
    "alloc",
    "event",
    "fs",
    "libc",
    "libc_errno",
    "mm",
    "net",
    "param",
    "pipe",
    "process",
    "std",
    "termios",
    "thread",
    "time",
    "use-libc",
    "use-libc-auxv",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn cargo() -> Table {
    read("Cargo.toml").parse().unwrap()
}

fn soong() -> Vec<Module> {
    blueprint::modules(&read("Android.bp"))
}

fn module(name: &str) -> Module {
    let found = soong().into_iter().find(|module| module.text("name") == name);
    found.unwrap_or_else(|| panic!("Android.bp has no {name}"))
}

/// Soong's name of a crate's module.
fn module_of(krate: &str) -> String {
    match krate {
        // liblog is the C library.
        "log" => "liblog_rust".to_owned(),
        _ => format!("lib{}", krate.replace('-', "_")),
    }
}

/// Crates that a dependency table of Cargo.toml names, optional ones left out.
fn required_crates(table: &Table) -> BTreeSet<String> {
    let optional =
        |spec: &toml::Value| spec.get("optional").and_then(toml::Value::as_bool).unwrap_or(false);
    table.iter().filter(|(_, spec)| !optional(spec)).map(|(name, _)| name.clone()).collect()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Whether a file uses a crate by path or import.
fn uses(file: &Path, krate: &str) -> bool {
    let name = krate.replace('-', "_");
    fs::read_to_string(file).unwrap().lines().any(|line| {
        let code = line.split("//").next().unwrap_or("");
        code.contains(&format!("{name}::")) || code.contains(&format!("use {name};"))
    })
}

/// Of these crates, the modules that a set of files needs.
fn modules_used(files: &[PathBuf], crates: &BTreeSet<String>) -> BTreeSet<String> {
    let used = crates.iter().filter(|krate| files.iter().any(|file| uses(file, krate)));
    used.map(|krate| module_of(krate)).collect()
}

/// Crates that a feature switches on.
fn crates_of_feature(name: &str) -> BTreeSet<String> {
    let cargo = cargo();
    let parts = cargo["features"][name].as_array().unwrap();
    parts.iter().filter_map(|part| Some(part.as_str()?.strip_prefix("dep:")?.to_owned())).collect()
}

fn rustlibs(module: &Module) -> BTreeSet<String> {
    module.texts("rustlibs").into_iter().collect()
}

#[test]
fn every_file_that_android_bp_names_is_there() {
    for module in soong() {
        for property in ["srcs", "init_rc", "license_text", "data"] {
            for file in module.texts(property) {
                assert!(root().join(&file).is_file(), "{}: no {file}", module.text("name"));
            }
        }
        for property in ["test_config", "src", "dictionary"] {
            let file = module.text(property);
            assert!(root().join(file).exists(), "{}: no {file}", module.text("name"));
        }
    }
}

#[test]
fn every_property_is_one_that_the_type_of_the_module_takes() {
    for module in soong() {
        let refused = blueprint::properties::refused(&module);
        assert!(refused.is_empty(), "{} {}: {refused:?}", module.kind, module.text("name"));
    }
}

#[test]
fn both_builds_use_one_edition_and_the_device_build_no_feature() {
    let edition = cargo()["package"]["edition"].as_str().unwrap().to_owned();
    for module in soong().iter().filter(|module| module.kind.starts_with("rust_")) {
        let name = module.text("name");
        assert_eq!(module.text("edition"), edition, "{name}");
        assert!(module.texts("features").is_empty(), "{name}: features are what AOSP lacks");
        assert_eq!(module.text("lints"), "android", "{name}");
        assert_eq!(module.text("clippy_lints"), "android", "{name}");
    }
}

/// Every crate that Cargo.toml names, by the name of Soong's module.
fn known_crates() -> BTreeMap<String, String> {
    let cargo = cargo();
    let mut tables = vec![&cargo["dependencies"], &cargo["dev-dependencies"]];
    tables
        .extend(cargo["target"].as_table().unwrap().values().map(|target| &target["dependencies"]));
    let named = tables.into_iter().flat_map(|table| table.as_table().unwrap().keys().cloned());
    let mut crates: BTreeMap<_, _> = named.map(|krate| (module_of(&krate), krate)).collect();
    // The package's own library, to its programs.
    crates.insert("liblmkd_rs".to_owned(), "lmkd".to_owned());
    crates
}

#[test]
fn every_module_links_the_crates_that_its_sources_use_and_no_others() {
    let crates = known_crates();
    let mut wrong = Vec::new();
    for module in built_by_rustc() {
        let name = module.text("name");
        let sources = sources(&module);
        let own = if module.text("crate_name") == "lmkd" { "liblmkd_rs" } else { "" };
        let used: BTreeSet<_> = crates
            .iter()
            .filter(|(_, krate)| sources.iter().any(|source| source.uses(krate)))
            .map(|(lib, _)| lib.clone())
            .filter(|lib| lib != own)
            .collect();
        let mut linked = rustlibs(&module);
        linked.extend(module.texts("target.android.rustlibs"));
        let missing: Vec<_> = used.difference(&linked).collect();
        let idle: Vec<_> = linked.difference(&used).collect();
        if linked != used {
            wrong.push(format!("{name}: needs {missing:?}, does not use {idle:?}"));
        }
    }
    assert!(wrong.is_empty(), "rustlibs in Android.bp: {wrong:#?}");
}

#[test]
fn what_only_android_has_is_linked_only_there() {
    let android = cargo()["target"]["cfg(target_os = \"android\")"]["dependencies"].clone();
    let expected: Vec<_> =
        required_crates(android.as_table().unwrap()).iter().map(|krate| module_of(krate)).collect();
    assert_eq!(module("liblmkd_rs").texts("target.android.rustlibs"), expected);
}

#[test]
fn what_only_a_host_needs_of_the_tool_is_left_out_of_the_device_build() {
    let on_device: Vec<_> = crates_of_feature("lmkctl").into_iter().collect();
    assert!(on_device.iter().all(|krate| IN_AOSP.contains(&krate.as_str())), "{on_device:?}");
    let main = read("src/bin/lmkctl/main.rs");
    let mut lines = main.lines().peekable();
    let mut gated = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(feature = \"pages\")]" {
            let module = lines.peek().and_then(|next| next.strip_prefix("mod "));
            gated.extend(module.and_then(|name| name.strip_suffix(';')));
        }
    }
    let host: BTreeSet<_> = crates_of_feature("pages");
    for file in rust_files("src/bin/lmkctl") {
        let inside = file.strip_prefix(root().join("src/bin/lmkctl")).unwrap();
        let first = Path::new(inside.components().next().unwrap().as_os_str()).with_extension("");
        if !gated.contains(first.to_str().unwrap()) {
            let used = modules_used(std::slice::from_ref(&file), &host);
            assert!(used.is_empty(), "{}: {used:?} without `pages`", inside.display());
        }
    }
}

#[test]
fn aosp_has_every_crate_that_the_device_build_links() {
    let known: BTreeSet<_> = IN_AOSP.iter().map(|krate| module_of(krate)).collect();
    let ours: BTreeSet<_> = soong().iter().map(|module| module.text("name").to_owned()).collect();
    for module in soong() {
        for lib in rustlibs(&module).into_iter().chain(module.texts("target.android.rustlibs")) {
            assert!(known.contains(&lib) || ours.contains(&lib), "{lib} is not in AOSP");
        }
    }
    for feature in cargo()["dependencies"]["rustix"]["features"].as_array().unwrap() {
        let feature = feature.as_str().unwrap();
        assert!(RUSTIX_FEATURES.contains(&feature), "AOSP builds rustix without {feature}");
    }
}

/// The files that Soong compiles for a Rust module.
fn sources(module: &Module) -> Vec<Source> {
    let root_file = module.texts("srcs").into_iter().next().unwrap_or_default();
    sources::of_crate(&root().join(root_file), module.kind.starts_with("rust_test"))
}

fn built_by_rustc() -> Vec<Module> {
    let mut modules = soong();
    modules.retain(|module| module.kind.starts_with("rust_") && module.kind != "rust_defaults");
    modules
}

#[test]
fn both_builds_have_one_version() {
    let version = cargo()["package"]["version"].as_str().unwrap().to_owned();
    for module in built_by_rustc() {
        let name = module.text("name");
        let set = module.text("cargo_pkg_version");
        assert!(set.is_empty() || set == version, "{name}: version {set}");
        assert_eq!(module.is("cargo_env_compat"), !set.is_empty(), "{name}: each needs the other");
        for source in sources(&module) {
            for variable in source.cargo_variables() {
                let file = source.path.display();
                assert_eq!(variable, "PKG_VERSION", "{name}, {file}: Soong sets none other");
                assert!(!set.is_empty(), "{name}, {file}: has Soong no cargo_pkg_version to set");
            }
        }
    }
}

/// Soong knows of these under the module's folder without being told, and refuses a compilation that
/// has read another file: from Android 17 on it holds rustc's own list against its inputs.
const KNOWN_TO_SOONG: &[&str] = &["rs", "md", "h"];

#[test]
fn nothing_is_compiled_in_that_soong_does_not_know_of() {
    for module in built_by_rustc() {
        for source in sources(&module) {
            for file in source.included() {
                let end = file.rsplit('.').next().unwrap_or_default();
                let (name, path) = (module.text("name"), source.path.display());
                assert!(KNOWN_TO_SOONG.contains(&end), "{name}, {path}: {file} is no input");
            }
        }
    }
}

/// Where code is chosen for Android when it is compiled: bionic's properties, logd's library, the C
/// library's heap. Everything else asks `device::is_android()`, so that it runs on the stand-in too.
const SEAMS: &[&str] = &[
    "src/config/mod.rs",
    "src/config/source.rs",
    "src/device.rs",
    "src/logging/mod.rs",
    "src/sys/heap.rs",
    "src/sys/mod.rs",
];

#[test]
fn code_is_chosen_for_an_operating_system_at_the_seams_alone() {
    let found: BTreeSet<_> = rust_files("src")
        .into_iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().any(|line| line.contains("cfg") && line.contains("target_os"))
        })
        .map(|file| file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, SEAMS.iter().map(|file| (*file).to_owned()).collect());
}

#[test]
fn the_library_has_the_name_that_soong_demands() {
    let library = module("liblmkd_rs");
    let name = cargo()["lib"]["name"].as_str().unwrap().to_owned();
    assert_eq!(library.text("crate_name"), name);
    assert_eq!(library.text("stem"), format!("lib{name}"));
}

/// A test that Soong could not build: it asks Cargo for paths or programs, or needs a crate that
/// AOSP lacks.
fn needs_cargo(file: &Path) -> bool {
    let mut files = vec![file.to_owned()];
    let text = fs::read_to_string(file).unwrap();
    for part in text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        files.extend(rust_files(&format!("tests/{part}")));
    }
    let cargo = cargo();
    let crates = required_crates(cargo["dev-dependencies"].as_table().unwrap());
    let lacking = crates.iter().filter(|krate| !IN_AOSP.contains(&krate.as_str()));
    let asks_cargo =
        |file: &PathBuf| fs::read_to_string(file).unwrap().contains(concat!("\"CARGO", "_"));
    files.iter().any(asks_cargo)
        || lacking.into_iter().any(|krate| files.iter().any(|file| uses(file, krate)))
}

#[test]
fn soong_builds_every_test_that_it_can() {
    let in_soong: BTreeSet<_> = soong()
        .iter()
        .filter(|module| module.kind.starts_with("rust_test"))
        .flat_map(|module| module.texts("srcs"))
        .collect();
    for root_file in ["src/lib.rs", "src/bin/lmkctl/main.rs"] {
        assert!(in_soong.contains(root_file), "the unit tests of {root_file}");
    }
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let needs_cargo = needs_cargo(&path);
        assert_eq!(
            in_soong.contains(name),
            !needs_cargo,
            "{name}: needs Cargo or a crate that AOSP lacks: {needs_cargo}; so it must \
             {}stand in Android.bp",
            if needs_cargo { "not " } else { "" }
        );
    }
}

#[test]
fn soong_can_build_the_unit_tests() {
    let crates = required_crates(cargo()["dev-dependencies"].as_table().unwrap());
    let files = rust_files("src");
    let used = modules_used(&files, &crates);
    for name in ["liblmkd_rs_device_tests", "liblmkd_rs_host_tests"] {
        let missing: Vec<_> = used.difference(&rustlibs(&module(name))).cloned().collect();
        assert!(missing.is_empty(), "{name}: add {missing:?} to its rustlibs in Android.bp");
    }
}

#[test]
fn device_programs_bring_their_crates_along() {
    // A dylib of a crate is on a device only where some module of the image links it, and the suite
    // pushes its programs alone.
    for module in soong().iter().filter(|module| module.kind == "rust_binary") {
        assert!(module.is("prefer_rlib"), "{}", module.text("name"));
    }
}

#[test]
fn what_drives_a_device_is_no_unit_test_of_the_host() {
    let suite = module("lmkd_rs_suite_test");
    assert_eq!(suite.value("test_options.unit_test"), Some(&Value::Bool(false)));
}

#[test]
fn programs_have_the_same_roots_in_both_builds() {
    // Programs that no device and no tree needs.
    const CARGOS: &[&str] = &["bad", "pocket", "report"];
    let renamed = |name: &str| match name {
        "lmkd" => "lmkd_rs".to_owned(),
        "lmkctl" => name.to_owned(),
        other => format!("lmkd_rs_{other}"),
    };
    let cargo = cargo();
    let mut in_cargo = BTreeMap::new();
    for kind in ["bin", "example"] {
        for program in cargo[kind].as_array().unwrap() {
            let (name, path) =
                (program["name"].as_str().unwrap(), program["path"].as_str().unwrap());
            if !CARGOS.contains(&name) {
                in_cargo.insert(renamed(name), vec![path.to_owned()]);
            }
        }
    }
    let programs = soong().into_iter().filter(|module| module.kind.starts_with("rust_binary"));
    let in_soong: BTreeMap<_, _> =
        programs.map(|module| (module.text("name").to_owned(), module.texts("srcs"))).collect();
    assert_eq!(in_cargo, in_soong);
}

#[test]
fn a_product_that_counts_its_files_is_told_all_of_them() {
    let names = module("lmkd_rs_packages").texts("required");
    let files = names.iter().flat_map(|name| {
        let scripts = module(name).texts("init_rc").into_iter();
        let scripts = scripts.map(|file| format!("system/etc/{file}"));
        std::iter::once(format!("system/bin/{name}")).chain(scripts)
    });
    let product = read("tests/cuttlefish/product/lmkd_rs_cf_x86_64.mk");
    let readme = read("README.md");
    for file in files {
        assert!(product.contains(&file), "PRODUCT_ARTIFACT_PATH_REQUIREMENT_ALLOWED_LIST: {file}");
        assert!(readme.contains(&format!("`{file}`")), "README.md: {file}");
    }
}

#[test]
fn cargo_refuses_what_the_android_lint_set_refuses() {
    // rust/config/lints.go of Soong, Android 17.
    const DENIED: &[&str] =
        &["missing_docs", "undocumented_unsafe_blocks", "unsafe_op_in_unsafe_fn", "warnings"];
    const ALLOWED: &[&str] = &[
        "deprecated",
        "disallowed_names",
        "empty_line_after_doc_comments",
        "mismatched_lifetime_syntaxes",
        "type_complexity",
        "uninlined_format_args",
        "unknown_lints",
        "unnecessary_fallible_conversions",
        "unnecessary_wraps",
        "unusual_byte_groupings",
        "upper_case_acronyms",
    ];
    let cargo = cargo();
    let lints = ["rust", "clippy"].map(|tool| cargo["lints"][tool].as_table().unwrap().clone());
    let with = |level: &str| -> BTreeSet<String> {
        let all = lints.iter().flatten();
        all.filter(|(_, set)| set.as_str() == Some(level)).map(|(lint, _)| lint.clone()).collect()
    };
    let denied = with("deny");
    assert!(DENIED.iter().all(|lint| denied.contains(*lint)), "denied: {denied:?}");
    for lint in with("allow") {
        assert!(ALLOWED.contains(&lint.as_str()), "{lint}: Soong does not allow it");
    }
}

#[test]
fn test_mapping_names_every_test_and_where_it_runs() {
    // In the stock lmkd's project, which stays in the tree for its libraries.
    const STOCK: &str = "lmkd_tests";
    let mapping: serde_json::Value = serde_json::from_str(&read("TEST_MAPPING")).unwrap();
    let named: BTreeMap<_, _> = mapping
        .as_object()
        .unwrap()
        .values()
        .flat_map(|group| group.as_array().unwrap())
        .map(|test| (test["name"].as_str().unwrap().to_owned(), test["host"] == true))
        .collect();
    let tests = soong().into_iter().filter(|module| module.kind.contains("_test"));
    // The shell test runs on a host too, but only with a device at hand.
    let mut expected: BTreeMap<_, _> = tests
        .map(|module| (module.text("name").to_owned(), module.kind == "rust_test_host"))
        .collect();
    expected.insert(STOCK.to_owned(), false);
    assert_eq!(named, expected);
}

#[test]
fn every_fuzz_target_is_known_to_soong() {
    let mut in_soong: Vec<_> = soong()
        .iter()
        .filter(|module| module.kind == "rust_fuzz")
        .flat_map(|module| module.texts("srcs"))
        .collect();
    let targets = rust_files("fuzz/fuzz_targets");
    let mut in_cargo: Vec<_> = targets
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned())
        .collect();
    in_soong.sort();
    in_cargo.sort();
    assert_eq!(in_soong, in_cargo);
}
