# shellcheck shell=bash
# The code as Android's targets see it, checked and linted without an NDK: nothing is linked.
#
# A target whose std is installed is used as it is. For the others std is built from the sources that Debian packages
# for the very version of the compiler; a sysroot of links holds both, so the toolchain itself is not touched.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh

targets=(aarch64-linux-android armv7-linux-androideabi x86_64-linux-android)
work=$PWD/target/android
mkdir -p "$work"
sysroot=$(rustc --print sysroot)
version=$(rustc --version | cut -d' ' -f2)

# std_sources: prints where std's sources of this version are, downloading them if need be.
std_sources() {
    local source mirror state=$work/apt key=/usr/share/keyrings/debian-archive-keyring.gpg
    for source in "$sysroot/lib/rustlib/src/rust" "$work/rust-src/usr/src/rustc-$version"; do
        [ -e "$source/library/std/Cargo.toml" ] && { echo "$source"; return; }
    done
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    printf "deb [signed-by=%s] $mirror/debian %s main\n" \
        "$key" trixie "$key" trixie-backports "$key" sid >"$state/sources.list"
    set -- -q -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User= -o Acquire::Languages=none
    apt-get "$@" update >&2 || return
    package=$(apt-cache "$@" madison rust-src | awk -F' *[|] *' -v v="$version" 'index($2, v "+") == 1 { print $2; exit }')
    [ -n "$package" ] || return
    (cd "$work" && apt-get "$@" download "rust-src=$package" >&2 && dpkg -x rust-src_*.deb rust-src && rm rust-src_*.deb)
    source=$work/rust-src/usr/src/rustc-$version
    [ -e "$source/library/std/Cargo.toml" ] && echo "$source"
}

# sysroot_with SOURCES: a copy of the sysroot, made of links, with std's sources in it.
sysroot_with() {
    local copy=$work/sysroot
    rm -rf "$copy"
    mkdir -p "$copy/lib/rustlib/src"
    ln -s "$sysroot/bin" "$copy/bin"
    find "$sysroot/lib" -mindepth 1 -maxdepth 1 ! -name rustlib -exec ln -s {} "$copy/lib/" \;
    find "$sysroot/lib/rustlib" -mindepth 1 -maxdepth 1 ! -name src -exec ln -s {} "$copy/lib/rustlib/" \;
    ln -s "$1" "$copy/lib/rustlib/src/rust"
    printf '#!/bin/sh\nexec "%s/bin/rustc" --sysroot "%s" "$@"\n' "$sysroot" "$copy" >"$work/rustc"
    chmod +x "$work/rustc"
    export RUSTC=$work/rustc SYSROOT=$copy RUSTC_BOOTSTRAP=1
}

missing=()
for target in "${targets[@]}"; do
    [ -d "$sysroot/lib/rustlib/$target/lib" ] || missing+=("$target")
done
build_std=()
if [ ${#missing[@]} -gt 0 ]; then
    sources=$(std_sources)
    if [ -z "$sources" ]; then
        report skip "android: neither rustup target add ${missing[*]} nor Debian's rust-src $version is there"
        exit 0
    fi
    sysroot_with "$sources"
    build_std=("-Zbuild-std=std,panic_abort,test")
fi

# The switches of AOSP's build: no default features, rustix on libc, `soong` set.
export CARGO_TARGET_DIR=$work/target RUSTFLAGS="--cfg rustix_no_linux_raw --cfg soong"
for target in "${targets[@]}"; do
    check "cargo check for $target" \
        cargo check -q --no-default-features --target "$target" "${build_std[@]}"
    check "clippy for $target" \
        cargo clippy -q --no-default-features --target "$target" "${build_std[@]}" -- -D warnings
done
