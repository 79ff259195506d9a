# shellcheck shell=bash
# The library's tests and the integration tests that need no rights; tests/host_*.rs belong to the stage `host`.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
set -o pipefail
export CARGO_TERM_COLOR=never

# Integration tests by name, as both runners take them.
targets=(--lib --bins --example pocket --example suite)
for file in tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in '*' | host_*) ;; *) targets+=(--test "$name") ;; esac
done

run_tests "$(nproc)" "${targets[@]}"
status=$?
cargo test --doc 2>&1 | cargo_results || status=1
check "suite: no scenario of a stage is lost" bash tests/suite/stage_test.sh
exit $status
