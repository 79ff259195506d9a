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
