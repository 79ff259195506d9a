# shellcheck shell=bash
# The scenario suite on the device that ANDROID_SERIAL names: a phone with a userdebug build, Cuttlefish, or a pocket
# device (tests/pocket/run 6.1 tests/run device).
#
# DEVICE_DAEMON=FILE, DEVICE_ACTOR=FILE and DEVICE_LMKCTL=FILE are the programs for it (default: static ones for x86-64,
# built here); by the last each scenario's recording is fetched, and replayed here. On Android the daemon has to be a
# build tree's (m lmkd_rs): one that is built here knows no bionic, and finds neither properties nor logd.
# SUITE_OPTIONS="OPTION..." goes to the suite.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
# shellcheck source=tests/suite/stage.sh
. tests/suite/stage.sh
[ -n "${ANDROID_SERIAL:-}" ] || { report skip "device: ANDROID_SERIAL names no device"; exit 0; }
need_packages device adb=adb
if [ -z "${DEVICE_DAEMON:-}" ] && adb shell 'test -e /system/bin/linker64 || test -e /system/bin/linker'; then
    lacks "device: $ANDROID_SERIAL is Android: DEVICE_DAEMON names no lmkd_rs of a build tree (m lmkd_rs)"
fi

if [ -z "${DEVICE_DAEMON:-}" ] || [ -z "${DEVICE_ACTOR:-}" ] || [ -z "${DEVICE_LMKCTL:-}" ]; then
    built=target/x86_64-unknown-linux-gnu/release
    RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --release --target x86_64-unknown-linux-gnu \
        --bin lmkd --bin lmkctl --example actor || exit 1
    DEVICE_DAEMON=${DEVICE_DAEMON:-$built/lmkd} DEVICE_ACTOR=${DEVICE_ACTOR:-$built/examples/actor}
    DEVICE_LMKCTL=${DEVICE_LMKCTL:-$built/lmkctl}
fi
# The suite hears it as well, and puts the device back; this waits for it.
trap 'suite_ended=yes' INT TERM
logs=target/test-logs/device
rm -f "$logs"/*.rec "$logs"/*.json
# Words are meant to be split.
# shellcheck disable=SC2086
suite_results device --daemon "$DEVICE_DAEMON" --actor "$DEVICE_ACTOR" --lmkctl "$DEVICE_LMKCTL" --out "$logs" \
    ${SUITE_OPTIONS:-}
replay_recordings device "$logs"
