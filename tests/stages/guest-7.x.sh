# shellcheck shell=bash
# The core of the stage guest on Linux 7.x.
POCKET_KERNEL=7.x
GUEST_SET=core
# shellcheck source=tests/stages/guest.sh
. tests/stages/guest.sh
