# shellcheck shell=bash
# The scenario suite as part of a stage. Source tests/stages/lib.sh first.

suite_program=${suite_program:-target/debug/examples/suite}

# suite_build: the suite itself, for this host.
suite_build() {
    cargo build -q --example suite
}

# suite_renew: called before a second try on a device that no longer answers; a stage that can boot another one has
# a function of its own here.
suite_renew() {
    return 1
}

# suite_results NAME OPTION...: runs the suite; each scenario that the options select is a result of its own. Growth
# races the daemon, and the emulator's clock races both: a scenario that fails, or was not played because the device
# or the suite broke before it, is played once more, and its result says so. The first try's story and recording stay,
# as SCENARIO.first.*.
suite_results() {
    local name=$1 out='' expected scenario again options=() first second
    shift
    suite_build || { report fail "$name: the suite does not build"; return; }
    expected=$("$suite_program" "$@" --list | sed 's/ .*//')
    [ -n "$expected" ] || { report fail "$name: no scenario is selected"; return; }
    first=$(mktemp) second=$(mktemp)
    suite_once "$first" "$@"
    again=$(suite_unpassed "$first" "$expected")
    if [ -n "$again" ]; then
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
        suite_put_aside "$out" "$again"
        if timeout 30 adb shell true </dev/null >/dev/null 2>&1 || suite_renew; then
            suite_once "$second" "${options[@]}" --only "$(paste -sd, <<<"$again")"
        fi
    fi
    for scenario in $expected; do
        suite_result "$scenario" "$first" "$second"
    done | sed "s|^\([a-z]*\) |\1 $name |" >>"$RESULTS"
    # What went wrong outside of scenarios.
    sed -n "s|^broken |fail $name suite: |p" "$first" "$second" >>"$RESULTS"
    rm "$first" "$second"
}

# suite_once FILE OPTION...: one run; FILE gets a line a scenario.
suite_once() {
    local file=$1 line status=
    shift
    while IFS= read -r line; do
        echo "$line"
        case $line in
        'pass '* | 'fail '* | 'skip '*) echo "$line" >>"$file" ;;
        'exit '*) status=${line#exit } ;;
        esac
    done < <("$suite_program" "$@" 2>&1; echo "exit $?")
    # Scenarios that failed or are missing account for it.
    if [ "${status:-1}" -ne 0 ] &&
        [ -z "$(suite_unpassed "$file" "$("$suite_program" "$@" --list | sed 's/ .*//')")" ]; then
        echo "broken ended with status ${status:-?}" >>"$file"
    fi
}

# suite_line FILE SCENARIO: its last line there; fails if there is none.
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

# suite_result SCENARIO FIRST SECOND: its result of two tries.
suite_result() {
    local line
    line=$(suite_line "$2" "$1")
    case $line in 'pass '* | 'skip '*) echo "$line"; return ;; esac
    if line=$(suite_line "$3" "$1"); then
        echo "$line, at the second try"
    else
        echo "fail $1: not played to its end, neither at the second try"
    fi
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
