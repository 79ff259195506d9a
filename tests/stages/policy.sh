# shellcheck shell=bash
# sepolicy/ against a stub of Android's platform policy: names, labels, the way from init into the domain.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages policy checkpolicy=checkpolicy selinux-utils=sefcontext_compile setools=sesearch

work=target/policy
stub=tests/sepolicy_stub
contexts=sepolicy/private/file_contexts
mkdir -p $work
rm -f $work/*
shopt -s nullglob

# compile OUTPUT FILE...: the stub and our own rules, with these files' added.
compile() {
    local output=$1
    shift
    cat $stub/policy.conf sepolicy/private/*.te "$@" $stub/contexts.conf >"$output.conf"
    checkpolicy -M -c 30 -o "$output" "$output.conf"
}

neverallow_refuses() {
    local output
    output=$(compile $work/violation $stub/violation.te 2>&1) && { echo "it compiled"; return 1; }
    echo "$output"
    grep -q neverallow <<<"$output"
}

unknown_label_is_refused() {
    sed 's/lmkd_exec/lmkd_unknown_exec/' $contexts >$work/bad_contexts
    ! sefcontext_compile -p $work/policy -o $work/bad_contexts.bin $work/bad_contexts
}

label_is() {
    local path=$1 label=$2 type=${3:-file}
    selabel_lookup -b file -f $contexts -k "$path" -t "$type" | grep -qxF "Default context: $label"
}

not_labelled() {
    ! selabel_lookup -b file -f $contexts -k "$1" -t file
}

transition_exists() {
    sesearch -T -s init -t lmkd_exec -c process $work/policy | grep -qxF "type_transition init lmkd_exec:process lmkd;" &&
        sesearch -A -s lmkd -t lmkd_exec -c file -p entrypoint $work/policy | grep -q entrypoint
}

# granted TYPE CLASS PERMISSION: whether the domain lmkd has it.
granted() {
    [ -n "$(sesearch -A -s lmkd -t "$1" -c "$2" -p "$3" $work/policy)" ]
}

# table FILE: its lines without remarks.
table() {
    grep -vE '^(#|$)' "$stub/$1"
}

needs_are_granted() {
    local what type class permissions permission lacking=0
    while read -r what type class permissions; do
        for permission in ${permissions//,/ }; do
            granted "$type" "$class" "$permission" || { echo "$what: no $permission on $type:$class"; lacking=1; }
        done
    done < <(table needs)
    return $lacking
}

# The daemon's code as a device runs it, without tests and remarks.
daemon_code() {
    find src -name '*.rs' ! -path 'src/bin/*' ! -path 'src/pages/*' ! -name tests.rs \
        ! -path src/config/stand_in.rs -exec awk '
            { sub("//.*", "") }
            test && /^(pub.* )?mod .*\{$/ { exit }
            { test = /^#\[cfg\(test\)\]/ || test && /^#/; print }' {} \;
}

every_path_is_known() {
    local path unknown=0
    grep -q '"/proc/vmstat"' $work/code || { echo "this is not the daemon's code"; return 1; }
    while read -r path; do
        table needs | grep -q "^$path " || { echo "$path: which label has it?"; unknown=1; }
    done < <(grep -oE '"/(proc|sys|dev)[^" ]*"' $work/code | tr -d '"' | sort -u)
    return $unknown
}

nothing_refused_is_done() {
    local type class permission pattern done=0
    while read -r type class permission pattern; do
        ! granted "$type" "$class" "$permission" || { echo "the stub grants $permission on $type:$class"; done=1; }
        ! grep -E "$pattern" $work/code || { echo "wants $permission on $type:$class"; done=1; }
    done < <(table refused)
    return $done
}

check "the policy compiles" compile $work/policy
check "a domain of our own is refused" neverallow_refuses
check "every label exists" sefcontext_compile -p $work/policy -o $work/file_contexts.bin $contexts
check "a label that does not exist is refused" unknown_label_is_refused
for path in /system/bin/lmkd_rs /system_ext/bin/lmkd_rs /system/system_ext/bin/lmkd_rs; do
    check "$path is the daemon's executable" label_is $path u:object_r:lmkd_exec:s0
done
check "the operator's socket is labelled as the daemon's" \
    label_is /dev/socket/lmkctl u:object_r:lmkd_socket:s0 socket
check "no other file gets a label" not_labelled /system/bin/lmkd_rs_other
check "init enters the domain lmkd" transition_exists
check "what the daemon does is granted" needs_are_granted
daemon_code >$work/code
check "every path that the daemon opens has been asked about" every_path_is_known
check "nothing is done that the platform refuses" nothing_refused_is_done
