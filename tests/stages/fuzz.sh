# shellcheck shell=bash
# What clients and the kernel send against the decoders, for FUZZ_SECONDS each (20). libFuzzer needs no more of the
# compiler than coverage counters, which stable ones can make too; overflows count as crashes.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages fuzz g++=c++

work=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
if ! (cd fuzz && CARGO_TARGET_DIR=$work RUSTFLAGS=$flags cargo build -q --release --target "$host"); then
    report fail "the fuzz targets are built"
    exit 1
fi
report pass "the fuzz targets are built"
for source in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    mkdir -p "$work/corpus/$name"
    check "fuzz $name" "$work/$host/release/$name" -max_total_time="${FUZZ_SECONDS:-20}" \
        -artifact_prefix="$work/$name-" "$work/corpus/$name"
done
