# shellcheck shell=bash
# Pages as headless Chromium shows them: of the recordings in tests/data/recordings, drawn and replayed, and of the
# suite's results, those of this run and one that is kept in tests/data/results. Pictures of what was seen are left in
# target/test-logs/pages, to be looked at.
# shellcheck source=tests/stages/lib.sh
. tests/stages/lib.sh
need_packages pages chromium=chromium

seen=$PWD/target/test-logs/pages
mkdir -p "$seen"
rm -f "$seen"/*.html "$seen"/*.png
cargo build -q --bin lmkctl --example report || exit 1
# As small and as large as settings can make the difference.
other=(--set thrashing_limit=20 --set swap_free_low_percentage=60 --set lowmem_min_oom_score=1001)

draw() {
    local recording name
    for recording in tests/data/recordings/*.rec; do
        name=$(basename "$recording" .rec)
        target/debug/lmkctl report "$recording" -o "$seen/$name.html" &&
            target/debug/lmkctl replay "$recording" "${other[@]}" --html "$seen/$name-replayed.html" || return
    done
    target/debug/examples/report -o "$seen/results.html" tests/data/results/*.json &&
        tests/report/draw "$seen/run.html" target/test-logs/started
}
check "pages are drawn" draw

look_at() {
    local log=$seen/look.log
    PAGES=$(printf '%s\n' "$seen"/*.html) CHROMIUM=chromium SHOTS=$seen \
        cargo test -q --test pages_browser -- --ignored --nocapture >"$log" 2>&1
    cat "$log"
    # cargo is as content when no test is left to be run.
    grep -q '^test result: ok. 1 passed' "$log"
}
check "pages: no request, no complaint, no overflow, every mark has words and can be reached" look_at
