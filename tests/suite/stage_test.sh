#!/bin/bash
# What stage.sh makes of a suite that fails, breaks off, or says nothing: each case is a stand-in for the suite.
# The quoted lines are the stand-in's; functions replace those of stage.sh.
# shellcheck disable=SC2016,SC2317
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export folder
suite_program=$folder/suite
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
# shellcheck source=tests/suite/stage.sh
. tests/suite/stage.sh
suite_build() { :; }
adb() { :; }
timeout() { shift; "$@"; }
suite_renew() { echo renewed >>"$folder/renewed"; }
wrong=0

# case_of WHAT FIRST SECOND EXPECTED: the scenarios are a, ab and b; FIRST and SECOND are what the two tries do.
case_of() {
    rm -f "$folder"/*.json "$folder"/*.rec "$folder/tries" "$folder/renewed"
    cat >"$suite_program" <<EOT
#!/bin/bash
case "\$*" in *--list) printf 'a   first\nab  other\nb   last\n'; exit ;; esac
echo "\$*" >>"\$folder/tries"
case \$(wc -l <"\$folder/tries") in
1) $2 ;;
*) $3 ;;
esac
EOT
    chmod +x "$suite_program"
    RESULTS=$folder/results
    : >"$RESULTS"
    suite_results s --out "$folder" --core >"$folder/said" 2>&1
    if [ "$(cat "$RESULTS")" != "$4" ]; then
        echo "wrong: $1:"
        diff <(echo "$4") "$RESULTS"
        wrong=1
    fi
}

case_of "all pass" 'echo pass a x; echo pass ab x; echo pass b x' : $'pass s a x\npass s ab x\npass s b x'
case_of "one fails once" 'echo >$folder/ab.lmkd.json; echo >$folder/ab.rec; echo pass a; echo "fail ab: why"; echo pass b; exit 1' \
    'echo pass ab' $'pass s a\npass s ab, at the second try\npass s b'
for kept in json rec; do
    [ -e "$folder/ab.first.$kept" ] || { echo "wrong: the first try is lost: $kept"; wrong=1; }
done
[ "$(tail -n 1 "$folder/tries")" = "--out $folder --only ab" ] || { echo "wrong: the second try's options"; wrong=1; }
case_of "breaks off after a failure" 'echo fail a; exit 1' 'echo pass a; echo pass b; exit 1' \
    $'pass s a, at the second try\nfail s ab: not played to its end, neither at the second try\npass s b, at the second try'
case_of "says nothing" : : \
    $'fail s a: not played to its end, neither at the second try\nfail s ab: not played to its end, neither at the second try\nfail s b: not played to its end, neither at the second try'
case_of "fails for no scenario" 'echo pass a; echo skip ab: why; echo pass b; exit 3' : \
    $'pass s a\nskip s ab: why\npass s b\nfail s suite: ended with status 3'
adb() { return 1; }
case_of "the device is gone" 'echo pass a; exit 1' 'echo pass ab; echo pass b' \
    $'pass s a\npass s ab, at the second try\npass s b, at the second try'
[ -e "$folder/renewed" ] || { echo "wrong: no new device for the second try"; wrong=1; }
exit $wrong
