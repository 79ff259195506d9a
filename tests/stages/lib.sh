# shellcheck shell=bash
# What the stages share. A stage sources it first.

# report pass|fail|skip TEXT
report() {
    echo "$1 $2" >>"$RESULTS"
    echo "$1 $2"
}

# check NAME COMMAND...: one test, which is the command's exit status.
check() {
    local name=$1
    shift
    echo "-- $name: $*"
    if "$@"; then report pass "$name"; else report fail "$name"; fi
}

# need_packages STAGE PACKAGE=COMMAND...: the commands are there, or root installs their Debian packages, or the
# stage is skipped and says what it lacks.
need_packages() {
    local stage=$1 pair missing=()
    shift
    for pair in "$@"; do
        command -v "${pair#*=}" >/dev/null || missing+=("${pair%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" && return 0
    fi
    report skip "$stage: needs the Debian packages ${missing[*]}"
    exit 0
}

# cargo_results: turns the output of `cargo nextest run` or `cargo test` into results, and passes it on.
cargo_results() {
    local line
    while IFS= read -r line; do
        echo "$line"
        # Colour and progress are off: every test has a line of its own.
        if [[ $line =~ ^[[:space:]]+(PASS|FAIL|TIMEOUT|SIGABRT|SIGSEGV|LEAK)[[:space:]]+\[[^]]*\][[:space:]]+(.*)$ ]]; then
            case ${BASH_REMATCH[1]} in
            PASS | LEAK) echo "pass ${BASH_REMATCH[2]}" ;;
            *) echo "fail ${BASH_REMATCH[2]}" ;;
            esac >>"$RESULTS"
        elif [[ $line =~ ^test\ (.*)\ \.\.\.\ (ok|FAILED|ignored)(.*)$ ]]; then
            case ${BASH_REMATCH[2]} in
            ok) echo "pass ${BASH_REMATCH[1]}" ;;
            FAILED) echo "fail ${BASH_REMATCH[1]}" ;;
            ignored) echo "skip ${BASH_REMATCH[1]}${BASH_REMATCH[3]:-: ignored}" ;;
            esac >>"$RESULTS"
        fi
    done
}

# debian_mirror: the server that this machine's own apt gets Debian from, without the last /debian.
debian_mirror() {
    # apt's own words, not the shell's.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(SITE)' 2>/dev/null | sed -n 's|/debian/*$||p' | head -n 1
}
