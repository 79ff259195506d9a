# shellcheck shell=bash
# This daemon beside none and beside earlyoom: a table in target/test-logs/guest-6.1/comparison.md.
GUEST_SET=compare
# shellcheck source=tests/stages/guest.sh
. tests/stages/guest.sh
