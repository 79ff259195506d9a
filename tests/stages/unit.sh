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

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast --final-status-level none --no-tests=pass "${targets[@]}" 2>&1 | cargo_results
else
    cargo test --no-fail-fast "${targets[@]}" 2>&1 | cargo_results
fi
status=$?
cargo test --doc 2>&1 | cargo_results || status=1
check "suite: no scenario of a stage is lost" bash tests/suite/stage_test.sh
exit $status
