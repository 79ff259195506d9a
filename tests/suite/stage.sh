# shellcheck shell=bash
# The scenario suite as part of a stage. Source tests/stages/lib.sh first.

# suite_build: the suite itself, for this host.
suite_build() {
    cargo build -q --example suite
}

# suite_results NAME OPTION...: runs the suite; each scenario is a result of its own. Growth races the daemon, and the
# emulator's clock races both: a scenario that fails is played once more, and a result says so.
suite_results() {
    local name=$1 first again failed options=()
    shift
    suite_build || return
    first=$(mktemp) again=$(mktemp)
    suite_once "$first" "$@"
    failed=$(sed -n 's/^fail \([^ ]*\) .*/\1/p' "$first" | paste -sd, -)
    if [ -n "$failed" ] && [ "$failed" != suite ]; then
        echo "-- once more: $failed"
        while [ $# -gt 0 ]; do
            case $1 in
            --only) shift ;;
            --core) ;;
            *) options+=("$1") ;;
            esac
            shift
        done
        suite_once "$again" "${options[@]}" --only "$failed"
        sed -i '/^fail /d' "$first"
        sed 's/$/, at the second try/' "$again" >>"$first"
    fi
    sed "s|^\([a-z]*\) |\1 $name |" "$first" >>"$RESULTS"
    rm "$first" "$again"
}

# suite_once FILE OPTION...: one run; FILE gets a line a scenario.
suite_once() {
    local file=$1 line status
    shift
    while IFS= read -r line; do
        echo "$line"
        case $line in
        'pass '* | 'fail '* | 'skip '*) echo "$line" >>"$file" ;;
        'exit '*) status=${line#exit } ;;
        esac
    done < <(target/debug/examples/suite "$@" 2>&1; echo "exit $?")
    if [ "${status:-1}" -ne 0 ] && ! grep -q '^fail ' "$file"; then
        echo "fail suite ended with status ${status:-?}" >>"$file"
    fi
}
