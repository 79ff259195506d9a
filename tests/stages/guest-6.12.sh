# shellcheck shell=bash
# The core of the stage guest on Linux 6.12.
POCKET_KERNEL=6.12
GUEST_SET=core
# shellcheck source=tests/stages/guest.sh
. tests/stages/guest.sh
