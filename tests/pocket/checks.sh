# shellcheck shell=bash
# Single quotes hold what the device expands; the functions are called through check.
# Subshells change their own copies, and the caller gives $logs.
# shellcheck disable=SC2016,SC2317,SC2030,SC2031,SC2034,SC2154
# What the device's init does with init/lmkd_rs.rc, seen from outside. Source pocket.sh first; $logs is a folder.

# check_on_device NAME COMMAND...: check, of a device that is up. If that has died meanwhile, as an emulator may (its kernel
# panics, its reboot hangs), nothing was shown: the check is made once more on another one, and its result says so.
check_on_device() {
    local name=$1
    shift
    check "$name" on_device "$@"
}

on_device() {
    "$@" && return
    ! pocket_answers || return 1
    echo "-- once more: the device had died, and said last"
    tail -n 20 "$pocket_log"
    pocket_renew && second_try=yes && "$@"
}

# until_true COMMAND: waits on the device until the command succeeds, 20 s at most.
until_true() {
    pocket_adb shell "n=0; until { $1; } >/dev/null 2>&1; do
        [ \$n -lt 200 ] || exit 1
        sleep 0.1; n=\$((n + 1)); done" </dev/null || { echo "never: $1"; return 1; }
}

# logged TEXT: the daemon says it, or has said it.
logged() {
    until_true "logcat -d -s lowmemorykiller | grep -qF \"$1\""
}

# capability_mask NAME...: as /proc/PID/status shows a set.
capability_mask() {
    local name mask=0 names="CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
        LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
        SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE"
    local -A bits=()
    local bit=0
    for name in $names; do
        bits[$name]=$bit
        bit=$((bit + 1))
    done
    for name in "$@"; do
        mask=$((mask | 1 << ${bits[$name]:?no capability $name}))
    done
    printf '%016x\n' "$mask"
}

# The user, groups, socket and each set of capabilities that the .rc names, and nothing beyond.
runs_as_its_rc_says() {
    local names mask expected found
    read -r -a names < <(sed -n 's/^ *capabilities //p' init/lmkd_rs.rc)
    mask=$(capability_mask "${names[@]}")
    expected="1069 1069 1069 1069|1069 1069 1069 1069|1000 3009|$mask $mask $mask $mask $mask|-1000|660 1000 1000|660 1000 1000"
    found=$(pocket_adb shell 'cd /proc/$(getprop init.svc_debug_pid.lmkd)
        field() { sed -n "s/^$1:[[:space:]]*//p" status | tr "\t" " " | sed "s/ *$//"; }
        echo "$(field Uid)|$(field Gid)|$(field Groups)|$(echo $(field "Cap.*"))|$(cat oom_score_adj)|$(stat -c "%a %u %g" /dev/socket/lmkd)|$(stat -c "%a %u %g" /dev/socket/lmkctl)"')
    echo "expected $expected"
    echo "found    $found"
    [ "$found" = "$expected" ]
}

# Without the right to load BPF programs it uses those that the loader has pinned.
uses_pinned_programs() {
    logged "reclaim: told by Android's BPF programs" && ! pocket_adb shell ls /sys/fs/bpf | grep -v memevents
}

# Programs that are pinned after the daemon looked for them are found when the boot is over.
uses_programs_pinned_late() {
    pocket_adb shell 'setprop sys.boot_completed 0; rm -r /sys/fs/bpf/memevents' &&
        restarted_by 'setprop ctl.restart lmkd' || return 1
    ! pocket_adb shell logcat -d | grep 'reclaim: told by Android' || return 1
    pocket_adb shell 'bpfloader && setprop sys.boot_completed 1' && logged "reclaim: told by Android's BPF programs"
}

# What system_server and tools read: kills are told, and these are the levels in force.
publishes_properties() {
    until_true '[ "$(getprop sys.lmk.reportkills)" = 1 ]' || return 1
    pocket_adb shell actor target 18432:0 23040:100 73728:950 || return 1
    until_true '[ "$(getprop sys.lmk.minfree_levels)" = 18432:0,23040:100,73728:950 ]'
}

# Perfetto sees each kill: victim, reason, its adj, the least adj that was on offer, thrashing.
marks_kills_in_the_trace() {
    local pid
    suite_build && pid=$(daemon_pid) || return
    # Its own verdict is of another check.
    target/debug/examples/suite --actor "$pocket_built/examples/actor" --out "$logs/trace" --only log-lines
    pocket_adb shell cat /sys/kernel/tracing/trace | grep -F 'lowmemorykiller|' |
        grep -E "N\|$pid\|lowmemorykiller\|lmk,[0-9]+,[0-9]+,1000,[0-9]+,-?[0-9]+"
}

# A tunable that is set before the end of boot is read when the boot is over, and later ones at once; init's trigger
# is free again after each.
reads_tunables_when_they_change() {
    local stall=persist.device_config.lmkd_native.psi_partial_stall_ms
    [ "$(pocket_adb shell getprop sys.boot_completed)" = 0 ] || return 1
    logged 'monitors armed: some 70 ms' || return 1
    pocket_adb shell setprop $stall 90 && until_true '[ "$(getprop lmkd.reinit)" = 0 ]' || return 1
    ! pocket_adb shell logcat -d | grep 'some 90 ms' || return 1
    pocket_adb shell setprop sys.boot_completed 1 && logged 'monitors armed: some 90 ms' || return 1
    until_true '[ -z "$(getprop lmkd.reinit)" ]' || return 1
    pocket_adb shell setprop $stall 110 && logged 'monitors armed: some 110 ms' || return 1
    until_true '[ -z "$(getprop lmkd.reinit)" ]'
}

# daemon_pid: of a daemon that runs. Between fork and exec init says that it runs, and it is still init.
daemon_pid() {
    until_true 'readlink /proc/$(getprop init.svc_debug_pid.lmkd)/exe | grep -q lmkd' &&
        pocket_adb shell getprop init.svc_debug_pid.lmkd
}

# restarted_by COMMAND: another process runs under init's hand, and says that it watches.
restarted_by() {
    local before
    before=$(daemon_pid) && pocket_adb shell "logcat -c; $1" &&
        until_true "[ \"\$(getprop init.svc.lmkd)\" = running ] && [ \"\$(getprop init.svc_debug_pid.lmkd)\" != $before ]" &&
        logged 'monitors armed'
}

is_restarted() {
    restarted_by 'setprop ctl.restart lmkd' && restarted_by 'kill -9 $(getprop init.svc_debug_pid.lmkd)' || return 1
    pocket_adb shell stop lmkd && until_true '[ "$(getprop init.svc.lmkd)" = stopped ]' || return 1
    pocket_adb shell start lmkd && until_true '[ "$(getprop init.svc.lmkd)" = running ]' && daemon_pid
}

# Five crashes within four minutes would reboot a device; ends on request are none.
crashes_count() {
    local n
    for n in 1 2 3 4 5 6; do
        [ -z "$(pocket_adb shell getprop pocket.would_reboot)" ] || break
        restarted_by 'kill -9 $(getprop init.svc_debug_pid.lmkd)' || return 1
    done
    # One of them was the check before, if it was this device's.
    [ "$n" = "$([ -n "$second_try" ] && echo 6 || echo 5)" ] && until_true '[ "$(getprop pocket.would_reboot)" = lmkd ]'
}

# What the kernel refused would be in its log.
kernel_log_is_clean() {
    local log
    log=$(pocket_adb shell dmesg) && ! grep -E 'lmkd.*(segfault|trap)|Oops|BUG:|WARNING:' <<<"$log"
}

# clean_up_at_the_end: in a subshell, which begins without the traps of its parent.
clean_up_at_the_end() {
    trap pocket_clean EXIT
    trap 'exit 1' INT TERM
}

# A second device beside the first, on ports of its own; afterwards nothing of it is left, and the first still answers.
runs_side_by_side() {
    (
        export ANDROID_SERIAL ANDROID_ADB_SERVER_PORT
        first=$ANDROID_SERIAL pocket_pid='' pocket_server_pid='' pocket_run=''
        POCKET_PROPS=ro.pocket.second=true
        clean_up_at_the_end
        pocket_prepare && pocket_boot "$logs/second.console" && [ "$ANDROID_SERIAL" != "$first" ] &&
            [ "$(pocket_adb shell getprop ro.pocket.second)" = true ]
        status=$?
        folder=$pocket_run
        pocket_clean
        [ -z "$(pocket_processes "$folder")" ] && exit "$status"
    ) && [ -z "$(pocket_adb shell getprop ro.pocket.second)" ] && daemon_pid
}

# A word in an .rc that init does not know fails the boot, and says where.
refuses_what_it_does_not_know() {
    local rc=$logs/unknown.rc status
    printf 'service unknown /bin/true\n    user root\n    frobnicate 1\n' >"$rc"
    (
        pocket_pid='' pocket_server_pid='' pocket_run=''
        clean_up_at_the_end
        pocket_prepare "$rc=/system/etc/init/unknown.rc" && pocket_boot "$logs/refused.console"
        exit
    )
    status=$?
    [ "$status" -eq 3 ] && grep -F "unknown.rc:3: 'frobnicate 1' is not understood here" "$logs/refused.console"
}

# device_checks [core]: boots a device whose boot is not declared over, and looks. All but the core needs boots of
# their own.
device_checks() {
    local props=$POCKET_PROPS
    POCKET_PROPS="pocket.boot_completed=0"
    check "pocket $POCKET_KERNEL: boots" pocket_boot "$logs/device.console"
    [ -n "$pocket_pid" ] || { POCKET_PROPS=$props; return; }
    check_on_device "pocket $POCKET_KERNEL: the daemon runs as its .rc says" runs_as_its_rc_says
    check_on_device "pocket $POCKET_KERNEL: tunables are read when they change" reads_tunables_when_they_change
    check_on_device "pocket $POCKET_KERNEL: pinned programs tell of reclaim" uses_pinned_programs
    check_on_device "pocket $POCKET_KERNEL: programs pinned late are used once the boot is over" uses_programs_pinned_late
    check_on_device "pocket $POCKET_KERNEL: properties say what is in force" publishes_properties
    check_on_device "pocket $POCKET_KERNEL: kills are marked in the kernel's trace" marks_kills_in_the_trace
    check_on_device "pocket $POCKET_KERNEL: the daemon is restarted" is_restarted
    if [ "${1:-}" != core ]; then
        check_on_device "pocket $POCKET_KERNEL: crashes of a critical service are counted" crashes_count
        check_on_device "pocket $POCKET_KERNEL: two devices side by side" runs_side_by_side
        check_on_device "pocket $POCKET_KERNEL: what a killed run has left is swept up" sweeps_up
    fi
    check_on_device "pocket $POCKET_KERNEL: no complaint in the kernel's log" kernel_log_is_clean
    pocket_stop
    POCKET_PROPS=$props
    check "pocket $POCKET_KERNEL: nothing is left running" nothing_is_left
    if [ "${1:-}" != core ]; then
        check "pocket $POCKET_KERNEL: init refuses what it does not know" refuses_what_it_does_not_know
    fi
}

nothing_is_left() {
    local pids
    mapfile -t pids < <(pocket_processes "$pocket_run")
    [ ${#pids[@]} -eq 0 ] || { ps -o pid,args -p "${pids[@]}"; return 1; }
}

# What a run leaves that is killed goes when the next begins, and nothing else does.
sweeps_up() {
    local gone=$POCKET_DIR/run-1-1-gone me=$BASHPID mine theirs own status
    mine=$POCKET_DIR/run-$me-$(pocket_start "$me")-mine
    mkdir -p "$gone/bin" "$mine"
    HOME=$gone sleep 60 & theirs=$!
    HOME=$mine sleep 60 & own=$!
    pocket_sweep
    [ ! -e "$gone" ] && [ -e "$mine" ] && ! kill -0 "$theirs" 2>/dev/null && kill -0 "$own"
    status=$?
    kill "$theirs" "$own" 2>/dev/null
    wait "$theirs" "$own" 2>/dev/null
    rm -rf "$mine" "$gone"
    return "$status"
}
