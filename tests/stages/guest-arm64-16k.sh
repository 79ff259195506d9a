# shellcheck shell=bash
# The core of the stage guest on arm64 with pages of 16 KiB, Linux 6.12.
POCKET_KERNEL=arm64-16k
GUEST_SET=core
# shellcheck source=tests/stages/guest.sh
. tests/stages/guest.sh
