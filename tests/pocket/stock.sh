# shellcheck shell=bash
# Single quotes hold what the device expands; the functions are called through check; a subshell changes its own copies.
# shellcheck disable=SC2016,SC2317,SC2030,SC2031,SC2034,SC2154
# The suite on a device with a daemon of its own, which it replaces and has to put back. Source checks.sh first.

# device_state: whatever the suite changes there, and which daemon runs; fails only if the device does not answer.
device_state() {
    pocket_adb shell 'for file in /system/bin/lmkd* /system/etc/init/*.rc; do
            [ -e $file ] && stat -c "%n %a" $file && sha256sum $file; done
        getprop | grep -E "lmkd_native|svc_debug.no_fatal|init.svc.lmkd|boot_completed" | grep -v ": \[\]$"
        cat /proc/swaps /sys/block/zram0/disksize
        ls -d /data/local/tmp/* /sys/kernel/tracing/instances/*
        sha256sum </proc/$(getprop init.svc_debug_pid.lmkd)/exe
        true' 2>&1
}

# as_before STATE
as_before() {
    local now
    now=$(device_state) && diff <(echo "$1") <(echo "$now")
}

# The way with a service file: the suite reboots into the changed system, and from it into the old one.
installs_beside_by_reboot() {
    local before log=$logs/beside.log ours boot
    before=$(device_state) && boot=$(boot_id) || return 1
    ours=$(sha256sum <"$pocket_built/lmkd")
    timeout -k 120 300 target/debug/examples/suite --daemon "$pocket_built/lmkd" \
        --out "$logs/stock" --actor "$pocket_built/examples/actor" --only batch \
        --then 'adb shell "sha256sum </proc/\$(getprop init.svc_debug_pid.lmkd)/exe; ls /system/bin/lmkd* /system/etc/init
            cat /proc/sys/kernel/random/boot_id"' >"$log" 2>&1
    cat "$log"
    grep -q '^pass batch' "$log" && grep -qF "$ours" "$log" && grep -q lmkd_rs.rc "$log" &&
        ! grep -qF "$boot" "$log" && [ "$(boot_id)" != "$boot" ] && as_before "$before"
}

boot_id() {
    pocket_adb shell cat /proc/sys/kernel/random/boot_id
}

# replace OPTION...: the suite, with this daemon in the place of the device's own.
replace() {
    timeout -k 120 180 target/debug/examples/suite --replace --daemon "$pocket_built/lmkd" --out "$logs/stock" "$@"
}

# The daemon under test ran while the scenario did, and is gone with all else afterwards: by the way that a Cuttlefish
# device goes which is up already.
puts_the_stock_daemon_back() {
    local before log=$logs/stock.log ours
    before=$(device_state) || return 1
    ours=$(sha256sum <"$pocket_built/lmkd")
    timeout -k 120 240 env -u ANDROID_PRODUCT_OUT tests/cuttlefish/run --attach --daemon "$pocket_built/lmkd" \
        --actor "$pocket_built/examples/actor" --logs "$logs/stock" -- --replace --only batch \
        --then 'adb shell "sha256sum </proc/\$(getprop init.svc_debug_pid.lmkd)/exe"' >"$log" 2>&1 ||
        { cat "$log"; return 1; }
    cat "$log"
    grep -q '^pass batch' "$log" && grep -qF "$ours" "$log" && grep -q lowmemorykiller "$logs/stock/logcat.txt" &&
        as_before "$before"
}

# Android's loader is what tells such a device.
refuses_a_daemon_for_another_system() {
    local before log=$logs/refused.log status
    pocket_adb shell 'remount && : >/system/bin/linker64' || return 1
    before=$(device_state) || return 1
    replace --actor "$pocket_built/examples/actor" --only batch >"$log" 2>&1
    status=$?
    cat "$log"
    pocket_adb shell rm /system/bin/linker64
    [ "$status" -ne 0 ] && grep -q 'lmkd is not built for Android' "$log" && as_before "$before"
}

# What cannot be put back here is a file of the suite's, in whose place somebody has put a folder.
fails_if_it_cannot_put_all_back() {
    local before log=$logs/broken.log status
    before=$(device_state) || return 1
    replace --actor "$pocket_built/examples/actor" --only batch \
        --then 'adb shell mkdir -p /data/local/tmp/lmkd_suite/recording/kept' >"$log" 2>&1
    status=$?
    cat "$log"
    pocket_adb shell rm -r /data/local/tmp/lmkd_suite
    [ "$status" -eq 1 ] && grep -q '^pass batch' "$log" && grep -q '^broken: .*rm /data/local/tmp/lmkd_suite/recording' "$log" &&
        as_before "$before"
}

# The next run fails too, but not before it has undone the one that was killed.
undoes_a_run_that_was_killed() {
    local before suite log=$logs/killed.log
    before=$(device_state) || return 1
    target/debug/examples/suite --replace --daemon "$pocket_built/lmkd" --out "$logs/stock" \
        --actor "$pocket_built/examples/actor" --only reinit &
    suite=$!
    until_true '[ -n "$(getprop persist.device_config.lmkd_native.debug)" ]'
    kill -KILL "$suite" || return 1
    wait "$suite"
    as_before "$before" && return 1
    replace --actor "$logs/no-such-file" >"$log" 2>&1 && return 1
    cat "$log"
    grep -q 'an earlier run was ended' "$log" && as_before "$before" && nothing_is_left_to_undo
}

nothing_is_left_to_undo() {
    ! find "$XDG_STATE_HOME/lmkd_suite" -name journal.json | grep .
}

# In the middle of a scenario that has set properties.
puts_it_back_when_interrupted() {
    local before suite
    before=$(device_state) || return 1
    replace --actor "$pocket_built/examples/actor" --only reinit &
    suite=$!
    until_true '[ -n "$(getprop persist.device_config.lmkd_native.debug)" ]'
    # The suite itself, below timeout.
    pkill -INT -P "$suite" || return 1
    wait "$suite" && return 1
    as_before "$before"
}

# Whoever had it stopped finds it stopped.
leaves_a_stopped_daemon_stopped() {
    local before log=$logs/stopped.log
    pocket_adb shell stop lmkd && until_true '[ "$(getprop init.svc.lmkd)" = stopped ]' || return 1
    before=$(device_state) || return 1
    replace --actor "$pocket_built/examples/actor" --only batch >"$log" 2>&1
    cat "$log"
    grep -q '^pass batch' "$log" && ! grep '^broken: ' "$log" && as_before "$before" && pocket_adb shell start lmkd &&
        until_true '[ "$(getprop init.svc.lmkd)" = running ]'
}

puts_it_back_after_an_error() {
    local before
    before=$(device_state) || return 1
    replace --actor "$logs/no-such-file" && return 1
    as_before "$before"
}

# stock_checks: on a device of their own. What is wrong there kills as it should, but is another program.
stock_checks() {
    (
        pocket_pid='' pocket_server_pid='' pocket_run=''
        POCKET_STOCK=$pocket_built/examples/bad
        clean_up_at_the_end
        mkdir -p "$logs/stock"
        if pocket_prepare && pocket_boot "$logs/stock.console"; then
            check_on_device "suite: puts the stock daemon back" puts_the_stock_daemon_back
            check_on_device "suite: puts it back when it is interrupted" puts_it_back_when_interrupted
            check_on_device "suite: puts it back after an error" puts_it_back_after_an_error
            check_on_device "suite: leaves a stopped daemon stopped" leaves_a_stopped_daemon_stopped
            check_on_device "suite: refuses a daemon that is not for this system" refuses_a_daemon_for_another_system
            check_on_device "suite: fails if it cannot put all back" fails_if_it_cannot_put_all_back
            check_on_device "suite: a run that was killed is undone by the next" undoes_a_run_that_was_killed
            check_on_device "suite: installs beside the stock daemon, by reboot, and puts it back" installs_beside_by_reboot
        else
            report fail "suite: the device with a stock daemon did not boot"
        fi
    )
}
