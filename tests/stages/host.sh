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
run_tests 12 "${targets[@]}"
