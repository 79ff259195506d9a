# shellcheck shell=bash
# Functions are called through check; single quotes hold what the device expands.
# shellcheck disable=SC2317,SC2016
# The release daemon under real memory pressure, in a QEMU guest reached by adb, started by init from init/lmkd_rs.rc.
#
# GUEST_SET=core runs the scenarios that every kernel has to pass, GUEST_SET=compare those by which daemons are
# compared, with this daemon, with none and with earlyoom.
# GUEST_SCENARIOS="NAME..." runs only these, in one boot (see target/debug/examples/suite --list).
# POCKET_KERNEL=6.12 boots another kernel.
# GUEST_BINARY=PATH tests another (static) lmkd than the one built here.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
# shellcheck source=tests/pocket/pocket.sh
. tests/pocket/pocket.sh
# shellcheck source=tests/suite/stage.sh
. tests/suite/stage.sh
pocket_needs guest

logs=$PWD/target/test-logs/guest-$POCKET_KERNEL
mkdir -p "$logs"
rm -f "$logs"/*.rec "$logs"/*.json

pocket_build && pocket_cargo build -q --bin lmkctl || exit 1
files=("${GUEST_BINARY:-$pocket_built/lmkd}=/system/bin/lmkd_rs")
if [ -z "${GUEST_SET:-}${GUEST_SCENARIOS:-}" ]; then
    pocket_cargo build -q --example bad || exit 1
    # What these tests start is where they were built.
    for name in memevents host_memcg; do
        built=$(pocket_cargo test -q --test "$name" --no-run --message-format=json |
            sed -n "s/.*\"executable\":\"\([^\"]*$name-[^\"]*\)\".*/\1/p" | tail -n 1)
        [ -n "$built" ] || exit 1
        files+=("$built=/system/bin/$name")
    done
    files+=("$pocket_built/lmkd=$pocket_built/lmkd" "$(command -v sleep)=/usr/lib/android/bin/sleep")
fi
if [ "${GUEST_SET:-}" = compare ]; then
    # The table is made of what is here.
    rm -f "$logs"/*.json
    debian_program amd64 earlyoom || lacks "guest: earlyoom could not be downloaded"
    files+=("$POCKET_DIR/program-amd64-earlyoom/usr/bin/earlyoom=/system/bin/earlyoom")
fi
trap pocket_clean EXIT
trap 'exit 1' INT TERM
pocket_prepare "${files[@]}" || lacks "guest: the Debian packages of the device could not be downloaded"

# shellcheck source=tests/pocket/checks.sh
. tests/pocket/checks.sh
[ -n "${GUEST_SCENARIOS:-}" ] || [ "${GUEST_SET:-}" = compare ] || device_checks "${GUEST_SET:-}"

# play NAME SUITE-OPTION...: boots a device and runs scenarios on it.
play() {
    # suite_results has a name of its own while it calls this.
    local boot=$1
    shift
    pocket_boot "$logs/$boot.console" || { report fail "guest $POCKET_KERNEL: $boot: no boot"; return; }
    suite_renew() {
        keep_log "$boot.first"
        pocket_renew
    }
    suite_results "guest $POCKET_KERNEL" --actor "$pocket_built/examples/actor" --lmkctl "$pocket_built/lmkctl" \
        --out "$logs" "$@"
    keep_log "$boot"
    pocket_stop
}

# keep_log NAME: what the device has to say of it all, if it answers.
keep_log() {
    timeout --foreground -k 5 30 adb shell 'logcat -d -b all; echo "-- dmesg"; dmesg | tail -n 40' >"$logs/$1.log" 2>&1 </dev/null
}

# What a scenario needs is there, or it is not selected.
suite_has_all=yes
# A boot with nearly all scenarios takes its time.
POCKET_LIFE_SECONDS=1700
case ${GUEST_SCENARIOS:-}/${GUEST_SET:-} in
?*/*) play scenarios --only "${GUEST_SCENARIOS// /,}" ;;
/core) play core --core ;;
/compare)
    # adbd's libraries have the C library that earlyoom needs.
    play compare --compare --earlyoom "env LD_LIBRARY_PATH=/usr/lib/android /system/bin/earlyoom -r 0"
    ;;
*)
    # These need a device of another kind.
    suite_build || exit 1
    own=" low-ram no-psi many-small "
    list=$(target/debug/examples/suite --list | while read -r name _; do
        case $own in *" $name "*) ;; *) printf '%s,' "$name" ;; esac
    done)
    play all --daemon "$pocket_built/lmkd" --only "${list%,}"
    POCKET_MEMORY=256 POCKET_PROPS=ro.config.low_ram=true play low-ram --only low-ram
    POCKET_CMDLINE=psi=0 play no-psi --only no-psi
    POCKET_MEMORY=1536 play many-small --only many-small
    ;;
esac
replay_recordings "guest $POCKET_KERNEL" "$logs"
if [ -n "${GUEST_SCENARIOS:-}${GUEST_SET:-}" ]; then
    check "guest $POCKET_KERNEL: nothing is left running at the end" nothing_is_left
    exit 0
fi

# The ring of direct-reclaim events against the kernel's own counters, while one process takes all the memory.
memevents_match() {
    local log=$logs/memevents.log status
    # The daemon would read the ring as well.
    pocket_adb shell 'stop lmkd; rm -r /sys/fs/bpf/memevents'
    # By the programs of a plain Linux: what init exports would make it wait for Android's.
    pocket_adb shell "unset LMKD_STAND_IN_PROPERTIES
        LMKD_TEST_MAY_EXHAUST_MEMORY=1 timeout 60 memevents --nocapture" >"$log" 2>&1
    status=$?
    cat "$log"
    # A test that skipped itself has shown nothing.
    [ "$status" -eq 0 ] && grep -q allocstall "$log"
}

# Apps' own groups in the hierarchy that has memory.low; the machine of the stage `host` may have another.
memory_low_is_given() {
    local log=$logs/memcg.log
    pocket_adb shell "unset LMKD_STAND_IN_PROPERTIES; umask 022; TMPDIR=/tmp PATH=/usr/lib/android/bin:\$PATH LD_LIBRARY_PATH=/usr/lib/android
        export TMPDIR PATH LD_LIBRARY_PATH
        host_memcg --nocapture --test-threads 1 an_apps_group what_is_no_app" >"$log" 2>&1
    cat "$log"
    grep -q 'test result: ok. 2 passed' "$log" && ! grep "^skip " "$log" &&
        pocket_adb shell 'grep memory /sys/fs/cgroup/cgroup.subtree_control'
}
if pocket_boot "$logs/memevents.console"; then
    check_on_device "guest $POCKET_KERNEL: apps' groups are given memory.low" memory_low_is_given
    check_on_device "guest $POCKET_KERNEL: reclaim events match allocstall" memevents_match
    pocket_stop
else
    report fail "guest $POCKET_KERNEL: its own tests did not boot"
fi

# notices MODE CHECK: the suite fails for a daemon that is wrong in that way, by that check. If it failed before a
# scenario could be played, on a device that was too slow, it is tried once more.
notices() {
    notices_once "$@" && return
    ! grep -q '^[a-z]* falling-order (' "$logs/bad-$1.log" || return
    echo "-- once more"
    pocket_answers || suite_renew || return
    # shellcheck disable=SC2034
    second_try=yes
    notices_once "$@"
}

notices_once() {
    local log=$logs/bad-$1.log
    pocket_adb shell "mkdir -p /data/local/tmp; echo $1 >/data/local/tmp/bad" || { : >"$log"; return 1; }
    if target/debug/examples/suite --actor "$pocket_built/examples/actor" --daemon "$pocket_built/examples/bad" \
        --out "$logs/bad" --only falling-order >"$log" 2>&1; then
        cat "$log"
        return 1
    fi
    cat "$log"
    grep -q "not: $2" "$log"
}

# The suite's own test.
suite_renew() {
    pocket_renew
}
if pocket_boot "$logs/bad.console"; then
    check "suite: notices a wrong order" notices order "victims fall in oom_score_adj"
    check "suite: notices two at once" notices overlap "no second SIGKILL before an exit or the timeout"
    check "suite: notices a daemon that hangs" notices hang "the kernel's OOM killer stayed out"
    check "suite: notices a daemon that crashes" notices crash "the daemon is the process it was"
    pocket_stop
else
    report fail "suite: its own test did not boot"
fi
# shellcheck source=tests/pocket/stock.sh
. tests/pocket/stock.sh
stock_checks
check "guest $POCKET_KERNEL: nothing is left running at the end" nothing_is_left
exit 0
