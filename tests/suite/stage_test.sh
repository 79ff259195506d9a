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
adb() { [ ! -e "$folder/dead" ]; }
timeout() { shift 4; "$@"; }
suite_renew() { rm -f "$folder/dead"; echo renewed >>"$folder/renewed"; }
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
case_of "one fails once" 'for name in a ab; do echo 1 >$folder/$name.lmkd.json; echo 1 >$folder/$name.rec; done
    echo pass a x; echo "fail ab: why"; echo pass b; exit 1' \
    'for name in a ab; do echo 2 >$folder/$name.lmkd.json; echo 2 >$folder/$name.rec; done; echo "fail a: y"; echo pass ab; exit 1' \
    $'pass s a x\npass s ab, at the second try\npass s b'
for kept in json rec; do
    [ -e "$folder/ab.first.$kept" ] || { echo "wrong: the first try is lost: $kept"; wrong=1; }
done
[ "$(tail -n 1 "$folder/tries")" = "--out $folder --only a,ab" ] || { echo "wrong: the second try's options"; wrong=1; }
[ "$(cat "$folder"/a.{lmkd.json,rec} "$folder"/ab.{lmkd.json,rec} | tr -d '\n')" = 1122 ] ||
    { echo "wrong: the scenario in front has another story than its result's"; wrong=1; }
[ -e "$folder/renewed" ] || { echo "wrong: the second try is on the device that failed the first"; wrong=1; }
case_of "the first fails once" 'echo "fail a: why"; echo pass ab; echo pass b; exit 1' 'echo pass a' \
    $'pass s a, at the second try\npass s ab\npass s b'
[ "$(tail -n 1 "$folder/tries")" = "--out $folder --only a" ] || { echo "wrong: the first is played twice"; wrong=1; }
case_of "the emulator dies" 'echo pass a; echo "broken: not as it was"; touch $folder/dead; exit 1' \
    'echo pass a; echo pass ab; echo pass b' $'pass s a\npass s ab, at the second try\npass s b, at the second try'
case_of "is not as it was" 'echo pass a; echo "broken: not as it was"; exit 1' 'echo pass a; echo pass ab; echo pass b' \
    $'pass s a\npass s ab, at the second try\npass s b, at the second try\nfail s suite: not as it was'
case_of "breaks off after a failure" 'echo fail a; exit 1' 'echo pass a; echo pass b; exit 1' \
    $'pass s a, at the second try\nfail s ab: not played to its end, neither at the second try\npass s b, at the second try'
case_of "says nothing" : : \
    $'fail s a: not played to its end, neither at the second try\nfail s ab: not played to its end, neither at the second try\nfail s b: not played to its end, neither at the second try'
case_of "fails for no scenario" 'echo pass a; echo skip ab: why; echo pass b; exit 3' : \
    $'pass s a\nskip s ab: why\npass s b\nfail s suite: ended with status 3'
race='     not: memory was made: 1 deaths' fault='     not: victims fall in oom_score_adj: [800, 900]'
case_of "a race is tried again" "echo 'fail a (lmkd, 1 s)'; echo '$race'; echo pass ab; echo pass b; exit 1" 'echo pass a' \
    $'pass s a, at the second try\npass s ab\npass s b'
case_of "a fault is not" "echo pass a; echo 'fail ab (lmkd, 1 s)'; echo '$fault'; echo pass b; exit 1" 'echo pass ab' \
    $'pass s a\nfail s ab: victims fall in oom_score_adj\npass s b'
[ "$(wc -l <"$folder/tries")" = 1 ] || { echo "wrong: a fault is tried again"; wrong=1; }
case_of "a fault beside a race is not" "echo 'fail a (lmkd, 1 s)'; echo '$race'; echo '$fault'; echo 'fail ab (lmkd, 1 s)'
    echo '$race'; echo pass b; exit 1" 'echo pass a; echo pass ab' \
    $'fail s a: victims fall in oom_score_adj\npass s ab, at the second try\npass s b'
[ "$(tail -n 1 "$folder/tries")" = "--out $folder --only a,ab" ] || { echo "wrong: the second try's options"; wrong=1; }
case_of "a fault at the second try" "echo 'fail a (lmkd, 1 s)'; echo '$race'; echo pass ab; echo pass b; exit 1" \
    "echo 'fail a (lmkd, 2 s)'; echo '$fault'; exit 1" \
    $'fail s a (lmkd, 2 s), at the second try\npass s ab\npass s b'
case_of "the device is not put back" 'echo pass a; echo pass ab; echo pass b; echo "broken: why"; exit 1' : \
    $'pass s a\npass s ab\npass s b\nfail s suite: why'
case_of "nor after a failure" 'echo fail a; echo pass ab; echo pass b; echo "broken: why"; exit 1' 'echo pass a' \
    $'pass s a, at the second try\npass s ab\npass s b\nfail s suite: why'
suite_has_all=yes
CI=true case_of "skipped where it should be played" 'echo pass a; echo "skip ab: needs x"; echo pass b' : \
    $'pass s a\nfail s ab: needs x, and this device should have it\npass s b'
CI='' case_of "skipped elsewhere" 'echo pass a; echo "skip ab: needs x"; echo pass b' : \
    $'pass s a\nskip s ab: needs x\npass s b'
suite_has_all=''
suite_ended=yes
case_of "told to end" 'echo pass a; exit 1' 'echo pass ab; echo pass b' \
    $'pass s a\nfail s ab: not played to its end, neither at the second try\nfail s b: not played to its end, neither at the second try'
suite_ended=''
# A fault is named as the suite names the check.
for fault in "${suite_faults[@]}"; do
    grep -rqF --include='*.rs' "\"$fault\"" tests/suite || { echo "wrong: no check is named $fault"; wrong=1; }
done
suite_renew() { return 1; }
case_of "there is one device" 'echo pass a; exit 1' 'echo pass ab; echo pass b' \
    $'pass s a\npass s ab, at the second try\npass s b, at the second try'
adb() { return 1; }
case_of "the device is gone" 'echo pass a; exit 1' 'echo pass ab; echo pass b' \
    $'pass s a\nfail s ab: not played to its end, neither at the second try\nfail s b: not played to its end, neither at the second try'
exit $wrong
