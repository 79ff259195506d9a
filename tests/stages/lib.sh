# shellcheck shell=bash
# What the stages share. A stage sources it first.

# report pass|fail|skip TEXT
report() {
    echo "$1 $2" >>"$RESULTS"
    echo "$1 $2"
}

# lacks TEXT: what this stage needs is not there: it is skipped, but not in CI, where nobody would notice. Ends the stage.
lacks() {
    if [ "${CI:-}" = true ]; then report fail "$1"; else report skip "$1"; fi
    exit 0
}

# check NAME COMMAND...: one test, which is the command's exit status. A command that needed a second try says so by
# second_try=yes.
check() {
    local name=$1
    shift
    second_try=''
    echo "-- $name: $*"
    if "$@"; then report pass "$name${second_try:+, at the second try}"; else report fail "$name"; fi
}

# need_packages STAGE PACKAGE=COMMAND...: the commands (or files) are there, or root installs their Debian packages, or the
# stage is skipped and says what it lacks.
need_packages() {
    local stage=$1 pair missing=()
    shift
    for pair in "$@"; do
        command -v "${pair#*=}" >/dev/null || [ -e "${pair#*=}" ] || missing+=("${pair%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" && return 0
    fi
    lacks "$stage: needs the Debian packages ${missing[*]}"
}

# replay_recordings NAME FOLDER: each scenario that lmkd went through there has left a recording beside its story, and
# each recording is replayed to the decisions that it holds. Of first tries that are kept the story may stand alone.
replay_recordings() {
    local story recording
    if ! cargo build -q --bin lmkctl; then
        report fail "$1: lmkctl cannot be built, no recording is replayed"
        return
    fi
    for story in "$2"/*.lmkd.json; do
        recording=${story%.lmkd.json}.rec
        case $story in
        *.first.*) ;;
        "$2/*.lmkd.json") report fail "$1: no scenario has left a story in $2" ;;
        *) [ -s "$recording" ] || report fail "$1: $(basename "$story" .lmkd.json) has left no recording" ;;
        esac
    done
    for recording in "$2"/*.rec; do
        [ -e "$recording" ] || continue
        check "$1: the recording of $(basename "$recording" .rec) is replayed bit for bit" \
            target/debug/lmkctl replay "$recording"
    done
}

# run_tests THREADS SWITCH...: the tests that cargo's switches select, so many at once. On a machine that is busy with
# others time may pass that a test was not given: what failed is tried once more, alone, and its result says so. More than
# three failures are no accident, and neither is a run that was not made to its end.
run_tests() {
    local threads=$1 before output second told failed filter name status=0
    shift
    if ! cargo nextest --version >/dev/null 2>&1; then
        cargo test --no-fail-fast "$@" -- --test-threads "$threads" 2>&1 | cargo_results
        return
    fi
    output=$(mktemp) second=$(mktemp) before=$(wc -l <"$RESULTS")
    # The caller has set pipefail.
    run_nextest "$threads" "$@" | tee "$output" || status=$?
    told=$(($(wc -l <"$RESULTS") - before))
    mapfile -t failed < <(tail -n "+$((before + 1))" "$RESULTS" | sed -n 's/^fail //p')
    # 100 is nextest's word for tests that failed.
    if [ "$status" -eq 100 ] && [ ${#failed[@]} -gt 0 ] && [ ${#failed[@]} -le 3 ] &&
        grep -qE "^ +Summary \[[^]]*\] +$told tests? run: " "$output"; then
        filter='none()'
        for name in "${failed[@]}"; do
            filter="$filter or (binary_id(=${name% *}) and test(=${name##* }))"
        done
        echo "-- once more: $filter"
        RESULTS=$second run_nextest 1 "$@" -E "$filter"
        status=0
        for name in "${failed[@]}"; do
            grep -qxF "pass $name" "$second" || { status=100; continue; }
            awk -v was="fail $name" -v is="pass $name, at the second try" '$0 == was { $0 = is } 1' \
                "$RESULTS" >"$second.all" && cat "$second.all" >"$RESULTS"
        done
    fi
    rm -f "$output" "$second" "$second.all"
    return "$status"
}

run_nextest() {
    local threads=$1
    shift
    cargo nextest run --no-fail-fast --final-status-level none --no-tests=pass --test-threads "$threads" "$@" 2>&1 |
        cargo_results
}

# cargo_results: turns the output of `cargo nextest run` or `cargo test` into results, and passes it on.
cargo_results() {
    # Colour and progress are off: every test has a line of its own, STATE [TIME] (NUMBER) BINARY NAME.
    local line state='^[[:space:]]+([A-Z][A-Z0-9+ -]*[A-Z0-9])[[:space:]]+\[[^]]*\][[:space:]]+(\([^)]*\)[[:space:]]+)?(.*)$'
    while IFS= read -r line; do
        echo "$line"
        if [[ $line =~ $state ]]; then
            case ${BASH_REMATCH[1]} in
            PASS | LEAK) echo "pass ${BASH_REMATCH[3]}" ;;
            # It goes on for now.
            SLOW | TERMINATING) ;;
            # FAIL, TIMEOUT, signals, with a leak or without.
            *) echo "fail ${BASH_REMATCH[3]}" ;;
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

# std_sources FOLDER: prints where the sources of this compiler's std are, downloading them to FOLDER if need be.
std_sources() {
    local work=$1 sysroot version source mirror package state=$1/apt key=/usr/share/keyrings/debian-archive-keyring.gpg
    sysroot=$(rustc --print sysroot)
    version=$(rustc --version | cut -d' ' -f2)
    for source in "$sysroot/lib/rustlib/src/rust" "$work/rust-src/usr/src/rustc-$version"; do
        [ -e "$source/library/std/Cargo.toml" ] && { echo "$source"; return; }
    done
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    printf "deb [signed-by=%s] $mirror/debian %s main\n" \
        "$key" trixie "$key" trixie-backports "$key" sid >"$state/sources.list"
    set -- -q -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User= -o Acquire::Languages=none
    apt-get "$@" update >&2 || return
    package=$(apt-cache "$@" madison rust-src | awk -F' *[|] *' -v v="$version" 'index($2, v "+") == 1 { print $2; exit }')
    [ -n "$package" ] || return
    (cd "$work" && apt-get "$@" download "rust-src=$package" >&2 && dpkg -x rust-src_*.deb rust-src && rm rust-src_*.deb)
    source=$work/rust-src/usr/src/rustc-$version
    [ -e "$source/library/std/Cargo.toml" ] && echo "$source"
}

# sysroot_with FOLDER SOURCES: a copy of the sysroot in FOLDER, made of links, with std's sources in it.
sysroot_with() {
    local work=$1 copy=$1/sysroot sysroot
    sysroot=$(rustc --print sysroot)
    rm -rf "$copy"
    mkdir -p "$copy/lib/rustlib/src"
    ln -s "$sysroot/bin" "$copy/bin"
    find "$sysroot/lib" -mindepth 1 -maxdepth 1 ! -name rustlib -exec ln -s {} "$copy/lib/" \;
    find "$sysroot/lib/rustlib" -mindepth 1 -maxdepth 1 ! -name src -exec ln -s {} "$copy/lib/rustlib/" \;
    ln -s "$2" "$copy/lib/rustlib/src/rust"
    printf '#!/bin/sh\nexec "%s/bin/rustc" --sysroot "%s" "$@"\n' "$sysroot" "$copy" >"$work/rustc"
    chmod +x "$work/rustc"
    export RUSTC=$work/rustc SYSROOT=$copy RUSTC_BOOTSTRAP=1
}

# build_std_for FOLDER TARGET...: sets the array build_std to what cargo needs for these targets: nothing if their std
# is installed, else switches that build it from Debian's sources for the very version of the compiler. A sysroot of
# links holds both, so the toolchain itself is not touched. Fails if there are no sources.
build_std_for() {
    local work=$1 installed target sources
    # For the caller.
    # shellcheck disable=SC2034
    build_std=()
    installed=$(rustc --print sysroot)/lib/rustlib
    shift
    for target in "$@"; do
        [ -d "$installed/$target/lib" ] && continue
        mkdir -p "$work"
        sources=$(std_sources "$work")
        if [ -z "$sources" ]; then
            echo "neither rustup target add $target nor Debian's rust-src is there" >&2
            return 1
        fi
        sysroot_with "$work" "$sources"
        # shellcheck disable=SC2034
        build_std=("-Zbuild-std=std,panic_abort,test")
        return
    done
}
