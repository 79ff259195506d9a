#!/bin/bash
# The suite as tradefed runs it: ANDROID_SERIAL is set, and what it needs lies beside this file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# Programs for the device are in a folder of its architecture.
find_one() {
    find "$here" -name "$1" -type f | head -n 1
}
exec "$(find_one lmkd_rs_suite)" --daemon "$(find_one lmkd_rs)" --actor "$(find_one lmkd_rs_actor)" \
    --rc "$(find_one lmkd_rs.rc)" --out "${TEST_UNDECLARED_OUTPUTS_DIR:-$here/out}" "$@"
