# shellcheck shell=bash
# What AOSP builds this project with: Android.bp's form, and a build as Soong configures it. What Android.bp says is
# held against Cargo.toml by tests/build_files.rs, which is among the unit tests.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages build-files blueprint-tools=bpfmt

# bpfmt's exit status does not tell whether a file differs from its form; its output does.
bp_is_formatted() {
    local difference
    difference=$(bpfmt -s -d Android.bp 2>&1) || { echo "$difference"; return 1; }
    echo "$difference"
    [ -z "$difference" ]
}

check "Android.bp is formatted" bp_is_formatted
# No crate that AOSP lacks, rustix on libc as AOSP builds it.
check "the device build's feature set" \
    env CARGO_TARGET_DIR=target/soong RUSTFLAGS="--cfg rustix_no_linux_raw --cfg soong" \
    cargo check -q --no-default-features --features lmkctl
