# shellcheck shell=bash
# Format, lints, documentation and scripts, with warnings denied.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages lint shellcheck=shellcheck

scripts() {
    git ls-files -co --exclude-standard -- .ci tests | while read -r file; do
        [ -f "$file" ] || continue
        case $file in
        *.sh) echo "$file" ;;
        *) head -c 64 "$file" | grep -aqE '^#!/bin/(ba)?sh' && echo "$file" ;;
        esac
    done
}

check fmt cargo fmt --check
check clippy cargo clippy -q --all-targets -- -D warnings
check rustdoc env RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps --document-private-items
mapfile -t files < <(scripts)
check shellcheck shellcheck -x "${files[@]}"
