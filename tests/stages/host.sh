# shellcheck shell=bash
# The real daemon on this machine: real sockets, real children, real kills.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
set -o pipefail
export CARGO_TERM_COLOR=never

targets=()
for file in tests/host_*.rs; do
    [ ! -e "$file" ] || targets+=(--test "$(basename "$file" .rs)")
done
[ ${#targets[@]} -gt 0 ] || { report skip "host: there is no test of this kind yet"; exit 0; }
# They wait for most of their time: many at once, whatever the number of CPUs.
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast --final-status-level none --test-threads 12 "${targets[@]}" 2>&1 | cargo_results
else
    cargo test --no-fail-fast "${targets[@]}" -- --test-threads 12 2>&1 | cargo_results
fi
