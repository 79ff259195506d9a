# shellcheck shell=bash
# The code as Android's targets see it, type-checked and linted without an NDK: nothing is linked.
#
# A target whose std is installed is used as it is. For the others std is built from the sources that Debian packages
# for the very version of the compiler; a sysroot of links holds both, so the toolchain itself is not touched.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh

targets=(aarch64-linux-android armv7-linux-androideabi i686-linux-android x86_64-linux-android)
work=$PWD/target/android

if ! build_std_for "$work" "${targets[@]}"; then
    lacks "android: neither the targets ${targets[*]} nor Debian's rust-src are there"
fi

# What runs on a device beside the programs: not the tests of plain Linux.
tests=(--example actor)
for file in tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in host_* | pages_*) ;; *) tests+=(--test "$name") ;; esac
done

# The switches of AOSP's build: no default features, rustix on libc, `soong` set.
export CARGO_TARGET_DIR=$work/target RUSTFLAGS="--cfg rustix_no_linux_raw --cfg soong"
for target in "${targets[@]}"; do
    check "clippy for $target" \
        cargo clippy -q --no-default-features --features lmkctl --lib --bins \
        --target "$target" "${build_std[@]}" -- -D warnings
    check "the tests for $target" \
        cargo check -q --profile test --no-default-features --features lmkctl --lib --bins "${tests[@]}" \
        --target "$target" "${build_std[@]}"
done
