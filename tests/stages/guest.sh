# shellcheck shell=bash
# Functions are called through check; single quotes hold what the device expands.
# shellcheck disable=SC2317,SC2016
# The release daemon under real memory pressure, in a QEMU guest reached by adb.
#
# GUEST_DAEMON=sleep replaces the daemon by a process that does nothing: every scenario must then fail.
# GUEST_SCENARIOS="NAME..." runs only these (see the function scenario; anonymous-only is not run by default: once
# kswapd has given up, direct reclaim is the first that the daemon hears, and the OOM killer is at times quicker).
# POCKET_KERNEL=6.12 boots another kernel.
# GUEST_BINARY=PATH tests another (static) lmkd than the one built here.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages guest qemu-system-x86=qemu-system-x86_64 cpio=cpio binutils=readelf xz-utils=xz
# shellcheck source=tests/pocket/pocket.sh
. tests/pocket/pocket.sh

target=x86_64-unknown-linux-gnu
logs=$PWD/target/test-logs/guest-$POCKET_KERNEL
mkdir -p "$logs"

# Static, so that the device needs no libc of the build machine.
RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build -q --release --target "$target" --bin lmkd --example actor || exit 1
built=target/$target/release
memevents=$(RUSTFLAGS="-C target-feature=+crt-static" \
    cargo test -q --release --target "$target" --test memevents --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*memevents-[^"]*\)".*/\1/p' | tail -n 1)
[ -n "$memevents" ] || exit 1
if ! pocket_prepare "${GUEST_BINARY:-$built/lmkd}=/system/bin/lmkd" "$built/examples/actor=/system/bin/actor" \
    "$memevents=/system/bin/memevents"; then
    report skip "guest: the Debian packages of the device could not be downloaded"
    exit 0
fi
trap pocket_stop EXIT
trap 'exit 1' INT TERM

# zram SIZE: swap in compressed memory, as devices have it.
zram='echo lzo-rle >/sys/block/zram0/comp_algorithm; echo 240M >/sys/block/zram0/disksize;
    mkswap /dev/zram0 >/dev/null && swapon /dev/zram0'

# play NAME DAEMON SETUP OPTIONS...: boots a device, starts the daemon as init would, runs one scenario.
play() {
    local name=$1 daemon=$2 setup=$3 pid status
    shift 3
    pocket_boot "$logs/$name.console" || return 1
    pocket_adb shell "$setup" || return 1
    case $daemon in
    lmkd) pocket_adb shell "actor init /tmp/lmkd.log /system/bin/lmkd & echo \$! >/tmp/lmkd.pid" ;;
    sleep) pocket_adb shell "actor init /tmp/lmkd.log /bin/sleep 1000 & echo \$! >/tmp/lmkd.pid" ;;
    esac </dev/null
    # Until the daemon listens; without one, its socket is there but refuses.
    pocket_adb shell 'n=0; until grep -q "00010000 .*/dev/socket/lmkd" /proc/net/unix || [ $n = 30 ]; do
        sleep 0.1; n=$((n + 1)); done'
    pid=$(pocket_adb shell cat /tmp/lmkd.pid)
    pocket_adb shell "timeout 180 actor play --name $name --daemon $pid $*" >"$logs/$name.$daemon.jsonl" 2>&1
    status=$?
    pocket_adb shell 'cat /tmp/lmkd.log; echo "-- dmesg"; dmesg | tail -n 40; echo "-- trace"; cat /sys/kernel/tracing/trace' >"$logs/$name.$daemon.log" 2>&1
    pocket_stop
    grep -E '"check"|no daemon|hog died|Error' "$logs/$name.$daemon.jsonl"
    grep "Kill '" "$logs/$name.$daemon.log"
    return "$status"
}

scenario() {
    case $1 in
    slow-growth) play "$1" "$2" : --cache 60 --hog 300 --speed 25 --kills 3 ;;
    slow-growth-zram) play "$1" "$2" "$zram" --cache 40 --hog 250 --speed 25 --kills 3 ;;
    anonymous-only) play "$1" "$2" 'echo 3 >/proc/sys/vm/drop_caches' --hog 300 --speed 25 --kills 3 ;;
    spike) play "$1" "$2" "$zram" --cache 40 --hog 210 --speed 400 --kills 2 ;;
    thrashing) play "$1" "$2" : --cache 200 --hog 200 --speed 25 --kills 1 ;;
    esac
}

for name in ${GUEST_SCENARIOS:-slow-growth slow-growth-zram spike thrashing}; do
    check "guest $POCKET_KERNEL $name" scenario "$name" "${GUEST_DAEMON:-lmkd}"
done

# The ring of direct-reclaim events against the kernel's own counters, while one process takes all the memory.
memevents_match() {
    local log=$logs/memevents.log status
    pocket_boot "$logs/memevents.console" || return 1
    pocket_adb shell "LMKD_TEST_MAY_EXHAUST_MEMORY=1 timeout 60 memevents --nocapture" >"$log" 2>&1
    status=$?
    pocket_stop
    cat "$log"
    # A test that skipped itself has shown nothing.
    [ "$status" -eq 0 ] && grep -q allocstall "$log"
}
if [ -z "${GUEST_SCENARIOS:-}" ]; then
    check "guest $POCKET_KERNEL: reclaim events match allocstall" memevents_match
fi

# The suite's own test: what it asserts must not hold without a daemon.
without_daemon_it_fails() {
    ! scenario slow-growth sleep && grep -q '"no daemon"' "$logs/slow-growth.sleep.jsonl" &&
        grep -q '"ok":false' "$logs/slow-growth.sleep.jsonl"
}
if [ "${GUEST_DAEMON:-lmkd}" = lmkd ] && [ -z "${GUEST_SCENARIOS:-}" ]; then
    check "guest $POCKET_KERNEL: without a daemon the scenario fails" without_daemon_it_fails
fi
exit 0
