# shellcheck shell=bash
# Format, lints, documentation and scripts, with warnings denied.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages lint shellcheck=shellcheck

scripts() {
    git ls-files -co --exclude-standard -- .ci tests | while read -r file; do
        [ -f "$file" ] || continue
        case $file in
        *.sh) echo "$file" ;;
        *) head -c 64 "$file" | grep -aqE '^#!/bin/(ba)?sh' && echo "$file" ;;
        esac
    done
}

check fmt cargo fmt --check
check clippy cargo clippy -q --all-targets -- -D warnings
check rustdoc env RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps --document-private-items
mapfile -t files < <(scripts)
check shellcheck shellcheck -x "${files[@]}"

# dry_run: what tests/cuttlefish/run would do, with a build tree of which it has to find the right files.
dry_run() {
    local tree=target/test-logs/cuttlefish-tree file
    rm -rf "$tree"
    for file in system/bin/lmkd_rs testcases/lmkd_rs_actor/x86_64/lmkd_rs_actor \
        testcases/lmkd_tests/x86_64/lmkd_tests testcases/lmkd_tests/x86_64/lmkd_tests64 \
        testcases/lmkd_unit_test/x86_64/lmkd_unit_test; do
        mkdir -p "$tree/$(dirname "$file")"
        install -m 755 /dev/null "$tree/$file"
    done
    # Not programs.
    : >"$tree/testcases/lmkd_tests/x86_64/lmkd_tests64.config"
    mkdir "$tree/testcases/lmkd_unit_test/y"
    : >"$tree/testcases/lmkd_unit_test/y/lmkd_unit_test"
    env -u ANDROID_SERIAL ANDROID_PRODUCT_OUT="$tree" tests/cuttlefish/run --dry-run --low-memory --images images \
        --fetch BUILD -- --core &&
        env -u ANDROID_SERIAL -u ANDROID_PRODUCT_OUT tests/cuttlefish/run --dry-run --attach
}
check "cuttlefish: the commands are those of tests/cuttlefish/dry-run.txt" \
    diff tests/cuttlefish/dry-run.txt <(dry_run 2>&1)
