# shellcheck shell=bash
# What the pocket device is made of: Debian packages, downloaded and unpacked under target/pocket, never installed.
# Of the machine's own apt set-up only the mirror and proxies are read; nothing of it is changed.

POCKET_DIR=${POCKET_DIR:-$PWD/target/pocket}
# The server of this machine's own Debian sources.
POCKET_MIRROR=${POCKET_MIRROR:-$(debian_mirror)}

# debian_apt RELEASE ARCH TOOL ARGUMENTS... : apt-get or apt-cache on sources and state folders of our own.
debian_apt() {
    local arch=$2 tool=$3 state=$POCKET_DIR/apt-$1-$2
    shift 3
    "$tool" -q \
        -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" \
        -o Dir::Cache="$state/cache" -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
        -o APT::Sandbox::User= -o Acquire::Languages=none "$@"
}

# debian_index RELEASE ARCH: the package lists, once per checkout.
debian_index() {
    local state=$POCKET_DIR/apt-$1-$2 key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$state/ready" ] && return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    cat >"$state/sources.list" <<EOT
deb [signed-by=$key] $POCKET_MIRROR/debian $1 main
deb [signed-by=$key] $POCKET_MIRROR/debian $1-backports main
deb [signed-by=$key] $POCKET_MIRROR/debian-security $1-security main
EOT
    debian_apt "$1" "$2" apt-get update && touch "$state/ready"
}

# debian_sysroot ARCH: busybox, adbd and adb with every library they load, in $POCKET_DIR/sysroot-ARCH.
debian_sysroot() {
    local arch=$1 root=$POCKET_DIR/sysroot-$1 deb
    [ -e "$root/ready" ] && return
    debian_index bookworm "$arch" || return
    debian_apt bookworm "$arch" apt-get clean
    # With an empty status file the closure of dependencies is complete.
    debian_apt bookworm "$arch" apt-get install -y --no-install-recommends --download-only \
        -t bookworm-backports adbd adb busybox-static || return
    for deb in "$POCKET_DIR/apt-bookworm-$arch"/cache/archives/*.deb; do
        dpkg -x "$deb" "$root" || return
    done
    touch "$root/ready"
}

# debian_kernel ARCH META SUITE: the kernel that the meta package stands for, in $POCKET_DIR/kernel-META-SUITE. Newer
# ones are several packages.
debian_kernel() {
    local arch=$1 meta=$2 suite=$3 release=${3%%-*} root=$POCKET_DIR/kernel-$2-$3 image part deb
    [ -e "$root/ready" ] && return
    debian_index "$release" "$arch" || return
    mkdir -p "$root"
    (cd "$root" && rm -f -- *.deb && debian_apt "$release" "$arch" apt-get download "$meta/$suite") || return
    image=$(dpkg-deb -f "$root/$meta"_*.deb Depends | grep -o 'linux-image-[0-9][^ ,]*') || return
    rm "$root/$meta"_*.deb
    (cd "$root" && debian_apt "$release" "$arch" apt-get download "$image") || return
    for part in $(dpkg-deb -f "$root/$image"_*.deb Depends | grep -oE 'linux-(binary|modules)-[0-9][^ ,]*'); do
        (cd "$root" && debian_apt "$release" "$arch" apt-get download "$part") || return
    done
    for deb in "$root"/*.deb; do
        dpkg -x "$deb" "$root" && rm "$deb" || return
    done
    touch "$root/ready"
}

# debian_program ARCH PACKAGE: one package of bookworm without what it depends on, in
# $POCKET_DIR/program-ARCH-PACKAGE.
debian_program() {
    local arch=$1 package=$2 root=$POCKET_DIR/program-$1-$2
    [ -e "$root/ready" ] && return
    debian_index bookworm "$arch" || return
    mkdir -p "$root"
    (cd "$root" && rm -f -- *.deb && debian_apt bookworm "$arch" apt-get download "$package") || return
    dpkg -x "$root"/*.deb "$root" && rm "$root"/*.deb && touch "$root/ready"
}
