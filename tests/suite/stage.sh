# shellcheck shell=bash
# The scenario suite as part of a stage. Source tests/stages/lib.sh first.

suite_program=${suite_program:-target/debug/examples/suite}

# suite_build: the suite itself, for this host.
suite_build() {
    cargo build -q --example suite
}

# suite_renew: called before a second try, which a device that failed the first by what that has left, such as watermarks
# that the kernel has boosted, fails again; a stage that can boot another one has a function of its own here.
suite_renew() {
    return 1
}

# The checks that no race excuses: one of them that fails is a failure at once. In an emulator growth races the kernel's
# OOM killer and reclaim, the clock races both, and a busy machine takes its CPUs away for seconds: whatever else failed
# is tried once more, and says so.
suite_faults=(
    "victims fall in oom_score_adj"
    "no second SIGKILL before an exit or the timeout"
    "oom_score_adj 0 and below is alive"
    "of others, only the expendable were killed"
    "the daemon is the process it was"
    "nothing was refused"
)

# suite_is_fault CHECK-AND-DETAIL
suite_is_fault() {
    local fault
    for fault in "${suite_faults[@]}"; do
        case $1 in "$fault: "*) return ;; esac
    done
    return 1
}

# Set by a stage whose devices are all that a scenario can need: in CI a scenario that is skipped there is a failure.
suite_has_all=${suite_has_all:-}
# Set by a stage when it was told to end: the suite has heard that too, and puts the device back.
suite_ended=${suite_ended:-}

# suite_results NAME OPTION...: runs the suite; each scenario that the options select is a result of its own. One that
# was not played because the device or the suite broke before it, or in which nothing failed that no race excuses, is
# played once more, and its result says so. The first try's story and recording stay, as SCENARIO.first.*.
#
# What a daemon may open once, in the first scenario that it goes through, is then no excuse for another: the first
# scenario of all is played before those that are tried again, and its own result stays what it was.
suite_results() {
    local name=$1 out='' expected scenario again front died='' options=() first second
    shift
    suite_build || { report fail "$name: the suite does not build"; return; }
    expected=$("$suite_program" "$@" --list | sed 's/ .*//')
    [ -n "$expected" ] || { report fail "$name: no scenario is selected"; return; }
    first=$(mktemp) second=$(mktemp)
    suite_once "$first" "$@"
    again=$(suite_again "$first" "$expected")
    if [ -n "$again" ] && [ -z "$suite_ended" ]; then
        echo "-- once more: $again"
        while [ $# -gt 0 ]; do
            case $1 in
            --only) shift ;;
            --core) ;;
            --out) out=$2 options+=("$1") ;;
            *) options+=("$1") ;;
            esac
            shift
        done
        front=$(head -n 1 <<<"$expected")
        ! grep -qx "$front" <<<"$again" || front=''
        suite_put_aside "$out" "$front $again"
        timeout --foreground -k 5 30 adb shell true </dev/null >/dev/null 2>&1 || died=yes
        if suite_renew; then
            # Of an emulator that has died nothing can be put back.
            [ -z "$died" ] || { echo "-- the device had died"; sed -i '/^broken: /d' "$first"; }
            died=''
        fi
        if [ -z "$died" ]; then
            suite_once "$second" "${options[@]}" --only "$(paste -sd, <<<"${front:+$front$'\n'}$again")"
        fi
        suite_put_back "$out" "$front"
    fi
    for scenario in $expected; do
        suite_result "$scenario" "$first" "$second"
    done | sed "s|^\([a-z]*\) |\1 $name |" >>"$RESULTS"
    # What went wrong outside of scenarios.
    sed -n "s|^broken: |fail $name suite: |p" "$first" "$second" >>"$RESULTS"
    rm "$first" "$second"
}

# suite_once FILE OPTION...: one run; FILE gets a line a scenario, and before it one for each check of it that failed and
# that no race excuses: "wrong SCENARIO: CHECK".
suite_once() {
    local file=$1 line status='' scenario='' failed=''
    shift
    while IFS= read -r line; do
        echo "$line"
        case $line in
        'pass '* | 'skip '* | 'fail '*)
            scenario=${line#* } scenario=${scenario%%[ :]*}
            echo "$line" >>"$file"
            ;;
        'played '*) scenario='' ;;
        '     not: '*)
            failed=${line#     not: }
            [ -z "$scenario" ] || ! suite_is_fault "$failed" || echo "wrong $scenario: ${failed%%: *}" >>"$file"
            ;;
        'broken: '*) echo "$line" >>"$file" ;;
        'exit '*) status=${line#exit } ;;
        esac
    done < <("$suite_program" "$@" 2>&1; echo "exit $?")
    # Scenarios that failed or are missing account for it, and so does what the suite says itself.
    if [ "${status:-1}" -ne 0 ] && ! grep -q '^broken: ' "$file" &&
        [ -z "$(suite_unpassed "$file" "$("$suite_program" "$@" --list | sed 's/ .*//')")" ]; then
        echo "broken: ended with status ${status:-?}" >>"$file"
    fi
}

# suite_line FILE SCENARIO: its line there; fails if there is none.
suite_line() {
    grep -E "^(pass|fail|skip) $2([ :]|\$)" "$1" | tail -n 1 | grep .
}

# suite_unpassed FILE SCENARIOS: those of them that failed or are not there.
suite_unpassed() {
    local scenario
    for scenario in $2; do
        case $(suite_line "$1" "$scenario") in
        'pass '* | 'skip '*) ;;
        *) echo "$scenario" ;;
        esac
    done
}

# suite_wrong FILE SCENARIO: its checks that failed and that no race excuses; fails if there is none.
suite_wrong() {
    sed -n "s/^wrong $2: //p" "$1" | paste -sd, | grep .
}

# suite_again FILE SCENARIOS: those of them that are worth another try.
suite_again() {
    local scenario
    for scenario in $(suite_unpassed "$1" "$2"); do
        suite_wrong "$1" "$scenario" >/dev/null || echo "$scenario"
    done
}

# suite_result SCENARIO FIRST SECOND: its result of two tries.
suite_result() {
    local line wrong
    line=$(suite_line "$2" "$1")
    case $line in
    'pass '*) echo "$line"; return ;;
    'skip '*)
        if [ -n "$suite_has_all" ] && [ "${CI:-}" = true ]; then
            echo "fail ${line#skip }, and this device should have it"
        else
            echo "$line"
        fi
        return
        ;;
    esac
    if wrong=$(suite_wrong "$2" "$1"); then
        echo "fail $1: $wrong"
        return
    fi
    if line=$(suite_line "$3" "$1"); then
        echo "$line, at the second try"
    else
        echo "fail $1: not played to its end, neither at the second try"
    fi
}

# suite_put_back FOLDER SCENARIOS: what was put aside is the story of that scenario.
suite_put_back() {
    local scenario file
    for scenario in $2; do
        for file in "$1/$scenario".lmkd.json "$1/$scenario".rec; do
            [ ! -e "$1/$scenario.first.${file##*.}" ] || mv "$1/$scenario.first.${file##*.}" "$file"
        done
    done
}

# suite_put_aside FOLDER SCENARIOS: what a second try would overwrite is kept.
suite_put_aside() {
    local scenario file
    for scenario in $2; do
        for file in "$1/$scenario".lmkd.json "$1/$scenario".rec; do
            [ ! -e "$file" ] || mv "$file" "$1/$scenario.first.${file##*.}"
        done
    done
}
