# shellcheck shell=bash
# What AOSP builds this project with: Android.bp's form, and a build as Soong configures it. What Android.bp says is
# held against Cargo.toml by tests/build_files.rs, which is among the unit tests.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh

# No crate that AOSP lacks, and rustix as AOSP builds it: on libc, without its raw system calls. It heeds the second
# switch only together with the first, which Android's targets imply.
export RUSTFLAGS="--cfg rustix_use_libc --cfg rustix_no_linux_raw --cfg soong"
device_build() {
    env CARGO_TARGET_DIR=target/soong cargo check -q --no-default-features --features lmkctl "$@"
}
check "the device build's feature set" device_build

# As rustix's own build script has it.
rustix_is_on_libc_alone() {
    local configured
    configured=$(device_build --message-format=json | grep '"build-script-executed"' | grep -E 'rustix[@#]')
    echo "$configured"
    grep -q '"libc"' <<<"$configured" && ! grep -q linux_raw <<<"$configured"
}
check "rustix makes no raw system calls there" rustix_is_on_libc_alone

need_packages build-files blueprint-tools=bpfmt

# bpfmt's exit status does not tell whether a file differs from its form; its output does.
bp_is_formatted() {
    local difference
    difference=$(bpfmt -s -d Android.bp 2>&1) || { echo "$difference"; return 1; }
    echo "$difference"
    [ -z "$difference" ]
}

check "Android.bp is formatted" bp_is_formatted
