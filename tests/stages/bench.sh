# shellcheck shell=bash
# Benchmarks, as tables: figures to be read, which no one run can fail by. Not part of `tests/run` without arguments.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
export CARGO_TERM_COLOR=never

for name in record sample registry heaviest daemon socket kill; do
    check "bench $name" cargo bench --quiet --bench "$name"
done
