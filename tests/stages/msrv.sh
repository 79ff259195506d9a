# shellcheck shell=bash
# The library and the programs as a compiler sees them that is no newer than Cargo.toml's rust-version: Debian's 1.85,
# unpacked beside the toolchain. What became stable in the standard library from there up to 1.88, and is used, is
# switched on; that nothing newer is used is clippy's concern, which knows the rust-version.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh

features=integer_sign_cast,slice_as_chunks,unsigned_is_multiple_of
work=$PWD/target/msrv

# old_compiler: makes $work/rustc, a Debian release's own compiler for programs that need a newer one than its first.
old_compiler() {
    local version
    [ -x "$work/rustc" ] && "$work/rustc" --version && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    version=$(apt-cache madison rustc-web | awk -F' *[|] *' '$2 ~ /^1\.85\./ { print $2; exit }')
    [ -n "$version" ] || return
    rm -rf "$work/root" && mkdir -p "$work/root"
    (cd "$work/root" &&
        apt-get download -q "rustc-web=$version" "libstd-rust-web-1.85=$version" "libstd-rust-web-dev=$version" libllvm19 &&
        for package in *.deb; do dpkg -x "$package" . && rm "$package" || exit; done) || return
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec "%s" "$@"\n' \
        "$(find "$work/root/usr/lib" -name 'librustc_driver*.so' -printf '%h:')$(find "$work/root/usr/lib" -name 'libLLVM.so*' -printf '%h:')" \
        "$work/root/usr/bin/rustc" >"$work/rustc"
    chmod +x "$work/rustc"
    "$work/rustc" --version
}

if ! old_compiler; then
    lacks "msrv: Debian's rustc-web 1.85 is not to be had"
fi

# Lints are today's; their number grows.
check "the library and the programs by rustc 1.85" \
    env RUSTC="$work/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
    RUSTFLAGS="--cap-lints warn -Zcrate-attr=feature($features)" \
    cargo check -q --ignore-rust-version --features lmkctl --lib --bins
