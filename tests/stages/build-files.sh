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

# The versions that Android 17's tree has of the crates that a device build links. Cargo.lock has newer ones, and what a
# newer one added would be missed only in a tree.
in_aosp=(anyhow=1.0.104 clap=4.5.53 libc=0.2.189 log=0.4.33 rustix=1.1.4)

# lock_as_aosp FOLDER: the package there, of links, with these versions in its Cargo.lock. Without what only hosts have,
# which wants a newer clap.
lock_as_aosp() {
    local folder=$1 name pair
    rm -rf "$folder" && mkdir -p "$folder" || return
    for name in benches src tests README.md; do ln -s "$PWD/$name" "$folder/$name"; done
    cp Cargo.lock "$folder"
    sed '/^clap_\(complete\|mangen\) = /d; s/^pages = .*/pages = ["lmkctl"]/' Cargo.toml >"$folder/Cargo.toml"
    for pair in "${in_aosp[@]}"; do
        (cd "$folder" && cargo update -q --precise "${pair#*=}" "${pair%=*}") || return
    done
}

as_in_aosp() (
    target=$PWD/target/soong
    cd "$1" && CARGO_TARGET_DIR=$target cargo check -q --no-default-features --features lmkctl --lib --bins
)

if lock_as_aosp target/aosp-versions; then
    check "the device build with AOSP's versions: ${in_aosp[*]}" as_in_aosp target/aosp-versions
else
    report skip "the device build with AOSP's versions: no registry has ${in_aosp[*]}"
fi

need_packages build-files blueprint-tools=bpfmt

# bpfmt's exit status does not tell whether a file differs from its form; its output does.
bp_is_formatted() {
    local difference
    difference=$(bpfmt -s -d Android.bp 2>&1) || { echo "$difference"; return 1; }
    echo "$difference"
    [ -z "$difference" ]
}

check "Android.bp is formatted" bp_is_formatted
