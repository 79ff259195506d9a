# shellcheck shell=bash
# The pocket device: a QEMU guest with Debian's kernel and Debian's adbd, reached as a phone or Cuttlefish is, by adb.
# Its init (tests/pocket/device) reads init/lmkd_rs.rc as Android's does.
#
# Source tests/stages/lib.sh and this, then: pocket_build, pocket_prepare, pocket_boot, pocket_adb, pocket_stop; or
# see tests/pocket/run.
#
#   POCKET_KERNEL=6.1       or 6.12, 7.x, arm64-16k
#   POCKET_MEMORY=512       MiB; more for 7.x and arm64-16k, whose watermarks are 8 and 30 MiB higher
#   POCKET_CMDLINE=psi=1    for the kernel
#   POCKET_PROPS=           properties that it starts with, NAME=VALUE, separated by spaces
#   POCKET_STOCK=FILE       the daemon of a device that knows nothing of ours: it has the stock daemon's name, and its
#                           service file too. Such a device has /system on a disk, read-only and with verity at first, and
#                           may be rebooted

# shellcheck source=tests/pocket/debian.sh
. tests/pocket/debian.sh

POCKET_KERNEL=${POCKET_KERNEL:-6.1}
POCKET_CMDLINE=${POCKET_CMDLINE:-psi=1}
POCKET_PROPS=${POCKET_PROPS:-}
POCKET_STOCK=${POCKET_STOCK:-}
# Software emulation on a loaded machine is slow, but a boot of more than this is dead.
POCKET_BOOT_SECONDS=${POCKET_BOOT_SECONDS:-120}
# The device ends itself after this, whatever became of us.
POCKET_LIFE_SECONDS=${POCKET_LIFE_SECONDS:-900}

# pocket_describe: what the kernel's name means.
pocket_describe() {
    pocket_machine=() pocket_console=ttyS0 pocket_arch=amd64 pocket_qemu=qemu-system-x86_64
    pocket_target=x86_64-unknown-linux-gnu pocket_meta=linux-image-cloud-amd64
    # QEMU 7.2's emulation of cmpxchg16b makes newer kernels panic at random.
    pocket_cpu=max,-cx16 pocket_memory=512
    case $POCKET_KERNEL in
    6.1) pocket_suite=bookworm-security pocket_cpu=max ;;
    6.12) pocket_suite=bookworm-backports ;;
    7.x) pocket_suite=trixie-backports pocket_memory=560 ;;
    arm64-16k)
        pocket_machine=(-M virt) pocket_console=ttyAMA0 pocket_arch=arm64 pocket_qemu=qemu-system-aarch64
        pocket_target=aarch64-unknown-linux-gnu pocket_meta=linux-image-arm64-16k
        pocket_suite=bookworm-backports pocket_cpu=max,pauth-impdef=on pocket_memory=640
        ;;
    *)
        echo "pocket: no kernel named $POCKET_KERNEL; there are 6.1, 6.12, 7.x, arm64-16k" >&2
        return 2
        ;;
    esac
    pocket_kernel=$POCKET_DIR/kernel-$pocket_meta-$pocket_suite
}

# pocket_needs STAGE: the tools of the host, or the stage is skipped.
pocket_needs() {
    pocket_describe || exit
    local cross=()
    [ "$pocket_arch" = amd64 ] || cross=(gcc-aarch64-linux-gnu=aarch64-linux-gnu-gcc
        libc6-dev-arm64-cross=/usr/aarch64-linux-gnu/lib/libc.a qemu-system-arm="$pocket_qemu")
    need_packages "$1" qemu-system-x86=qemu-system-x86_64 cpio=cpio binutils=readelf xz-utils=xz e2fsprogs=mke2fs "${cross[@]}"
}

# pocket_cargo ARGUMENTS...: cargo for the device. What it builds is static (.cargo/config.toml), so it needs no libc of
# the build machine, and is in $pocket_built.
pocket_cargo() {
    pocket_describe || return
    local words=("$1")
    shift
    pocket_built=$PWD/target/$pocket_target/release
    if [ "$pocket_arch" = amd64 ]; then
        cargo "${words[@]}" --release --target "$pocket_target" "$@"
        return
    fi
    pocket_built=$PWD/target/pocket-std/$pocket_target/release
    (
        build_std_for "$PWD/target/std" "$pocket_target" || exit
        export CARGO_TARGET_DIR=$PWD/target/pocket-std CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        # shellcheck disable=SC2154
        cargo "${words[@]}" --release --target "$pocket_target" "${build_std[@]}" "$@"
    )
}

# pocket_build: the daemon, the device's own program, and the actor.
pocket_build() {
    pocket_cargo build -q --bin lmkd --example pocket --example actor
}

# pocket_start PID: when it started, in the kernel's ticks; with it a process id is unmistakable.
pocket_start() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    # Fields are counted from behind the name, which may hold blanks.
    read -ra stat <<<"${stat##*) }"
    echo "${stat[19]}"
}

# pocket_processes FOLDER: what runs with the files of that folder: QEMU, and adb, which has it as HOME.
pocket_processes() {
    local words=(/proc/[0-9]*/cmdline)
    {
        grep -lzxF "HOME=$1" /proc/[0-9]*/environ
        # Not in the words of this grep itself.
        grep -lzF -f - "${words[@]}" <<<"$1/"
    } 2>/dev/null | cut -d/ -f3 | sort -nu
}

# pocket_end FOLDER: ends them.
pocket_end() {
    local pids try
    for try in {1..50}; do
        mapfile -t pids < <(pocket_processes "$1")
        [ ${#pids[@]} -gt 0 ] || return 0
        [ "$try" -lt 30 ] && kill "${pids[@]}" 2>/dev/null
        [ "$try" -lt 30 ] || kill -KILL "${pids[@]}" 2>/dev/null
        sleep 0.1
    done
    echo "pocket: left running: ${pids[*]}" >&2
    return 1
}

# pocket_sweep: ends and removes what a run has left that was killed before it could; its folder is named for it.
pocket_sweep() {
    local folder owner start
    for folder in "$POCKET_DIR"/run-*; do
        [ -d "$folder" ] || continue
        IFS=- read -r _ owner start _ <<<"${folder##*/}"
        [ -n "$start" ] && [ "$(pocket_start "$owner")" = "$start" ] && continue
        pocket_end "$folder" && rm -rf "$folder"
    done
}

# pocket_prepare FILE=PATH...: packages, then an initramfs with each host FILE at PATH of the device, in a folder of
# this process's own. /system/bin/lmkd_rs is the daemon that was built unless another is given.
pocket_prepare() {
    pocket_describe || return
    mkdir -p "$POCKET_DIR"
    # As init has it: a service file that others may write to is skipped.
    umask 022
    # One process at a time downloads.
    (
        flock 9
        debian_sysroot amd64 && debian_sysroot "$pocket_arch" &&
            debian_kernel "$pocket_arch" "$pocket_meta" "$pocket_suite" || exit
        # Contents do not matter: the device reads it as file cache.
        [ -e "$POCKET_DIR/disk" ] || truncate -s 512M "$POCKET_DIR/disk"
    ) 9>"$POCKET_DIR/lock" || return
    pocket_sweep
    # In a substitution it would be another.
    local me=$BASHPID
    pocket_run=$(mktemp -d "$POCKET_DIR/run-$me-$(pocket_start "$me")-XXXXXX") || return
    local root=$pocket_run/root sysroot=$POCKET_DIR/sysroot-$pocket_arch tool pair module
    mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,data/local/tmp,usr/bin,usr/sbin,lib/modules,system/bin,system/etc/init/hw}
    cp "$sysroot/bin/busybox" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    ln -s /bin/sh "$root/usr/bin/sh"
    ln -s /bin/sh "$root/system/bin/sh"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    cp "$sysroot/usr/lib/android-sdk/platform-tools/adbd" "$root/usr/sbin/adbd"
    pocket_libraries "$sysroot" "$root" || return
    cp tests/pocket/early.sh "$root/early.sh"
    cp tests/pocket/init.rc "$root/system/etc/init/hw/init.rc"
    cp "$pocket_built/examples/pocket" "$root/system/bin/pocket"
    for tool in getprop setprop start stop reboot remount logd logcat bpfloader; do
        ln -s pocket "$root/system/bin/$tool"
    done
    ln -s /system/bin/pocket "$root/init"
    if [ -n "$POCKET_STOCK" ]; then
        cp "$POCKET_STOCK" "$root/system/bin/lmkd"
        sed -e 's|/system/bin/lmkd_rs|/system/bin/lmkd|' -e '/^ *override$/d' init/lmkd_rs.rc \
            >"$root/system/etc/init/lmkd.rc"
    else
        cp "$pocket_built/lmkd" "$root/system/bin/lmkd_rs"
        cp init/lmkd_rs.rc "$root/system/etc/init/lmkd_rs.rc"
    fi
    cp "$pocket_built/examples/actor" "$root/system/bin/actor"
    : >"$root/lib/modules/order"
    for module in virtio_pci virtio_net virtio_blk lzo-rle zram; do
        pocket_module "$module" "$root/lib/modules" || return
    done
    for pair in "$@"; do
        mkdir -p "$(dirname "$root${pair#*=}")"
        cp "${pair%%=*}" "$root${pair#*=}" || return
    done
    if [ -n "$POCKET_STOCK" ]; then
        # What init itself is has to be in the initramfs too; the rest is under the disk and not seen.
        : >"$root/system/.verity"
        mke2fs -q -t ext4 -d "$root/system" "$pocket_run/system.new" 64M || return
        cp "$pocket_run/system.new" "$pocket_run/system" || return
    fi
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$pocket_run/base.gz"
}

# pocket_module NAME FOLDER: the module with what it needs, in the order in which they are loaded; nothing if it is
# built in.
pocket_module() {
    local name=$1 folder=$2 file other
    [ ! -e "$folder/$name.ko" ] || return 0
    file=$(find "$pocket_kernel" -name "$name.ko*" | head -n 1)
    [ -n "$file" ] || return 0
    case $file in
    *.xz) xz -dc "$file" >"$folder/$name.ko" ;;
    *) cp "$file" "$folder/$name.ko" ;;
    esac || return
    for other in $(tr '\0' '\n' <"$folder/$name.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
        pocket_module "$other" "$folder" || return
    done
    echo "$name.ko" >>"$folder/order"
}

# pocket_libraries SYSROOT ROOT: the loader and the libraries of adbd, found without running a foreign binary.
pocket_libraries() {
    local sysroot=$1 root=$2 queue=("$2/usr/sbin/adbd") seen=" " name path loader
    mkdir -p "$root/usr/lib/android"
    while [ ${#queue[@]} -gt 0 ]; do
        for name in $(readelf -d "${queue[0]}" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
            case $seen in *" $name "*) continue ;; esac
            seen="$seen$name "
            path=$(find "$sysroot/lib" "$sysroot/usr/lib" -name "$name" | head -n 1)
            [ -n "$path" ] || { echo "pocket: no library $name" >&2; return 1; }
            cp -L "$path" "$root/usr/lib/android/$name"
            queue+=("$root/usr/lib/android/$name")
        done
        queue=("${queue[@]:1}")
    done
    loader=$(readelf -l "$root/usr/sbin/adbd" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
    path=$(find "$sysroot"/lib* -name "$(basename "$loader")" ! -type d | head -n 1)
    mkdir -p "$root$(dirname "$loader")"
    cp -L "$(realpath "$path")" "$root$loader"
}

# pocket_boot CONSOLE: starts the device, with what it says in CONSOLE, and waits for its adbd. From then on adb is in
# PATH, and ANDROID_SERIAL names the device. A boot that dies before the device says that it is ready may be tried
# again, unless init itself refused what it read; after that, never.
pocket_boot() {
    local try
    pocket_log=$1
    pocket_initrd || return
    for try in 1 2 3 4 5; do
        pocket_boot_once "$1" && return
        pocket_stop
        echo "pocket: boot $try of $POCKET_KERNEL did not get ready" >&2
        tail -n 5 "$1" >&2
        ! grep -q 'pocket: the boot fails' "$1" || return 3
        ! grep -q 'pocket: ready' "$1" || return 1
    done
    return 1
}

# pocket_initrd: the initramfs and, behind it, one with the properties of this boot.
pocket_initrd() {
    local properties=$pocket_run/properties property
    rm -rf "$properties"
    mkdir -p "$properties"
    for property in $POCKET_PROPS; do
        echo "$property"
    done >"$properties/default.prop"
    (cd "$properties" && find . | cpio --quiet -o -H newc | gzip -1) >"$properties.gz"
    cat "$pocket_run/base.gz" "$properties.gz" >"$pocket_run/initrd.gz"
}

pocket_boot_once() {
    local console=$1 vmlinuz port deadline=$((SECONDS + POCKET_BOOT_SECONDS)) panic=-1 disks=(-no-reboot)
    vmlinuz=$(find "$pocket_kernel" -name 'vmlinuz*' -type f | head -n 1)
    # Whether a port is free is known once it is bound: QEMU and adb end at once if it is not, and the boot is tried
    # again with others.
    port=$((20000 + RANDOM % 10000))
    export ANDROID_ADB_SERVER_PORT=$((30000 + RANDOM % 2000)) ANDROID_SERIAL=127.0.0.1:$port
    if [ -e "$pocket_run/system" ]; then
        # A panic then waits for the deadline: it must not pass for a reboot.
        panic=0 disks=(-drive "file=$pocket_run/system,format=raw,if=none,id=system" -device "virtio-blk-pci,drive=system")
    fi
    : >"$console"
    timeout -k 5 "$POCKET_LIFE_SECONDS" "$pocket_qemu" "${pocket_machine[@]}" \
        -accel tcg,thread=multi -cpu "$pocket_cpu" -m "${POCKET_MEMORY:-$pocket_memory}" -smp 2 \
        -display none -monitor none -serial "file:$console" \
        -kernel "$vmlinuz" -initrd "$pocket_run/initrd.gz" \
        -append "console=$pocket_console quiet panic=$panic $POCKET_CMDLINE" \
        -drive "file=$POCKET_DIR/disk,format=raw,if=none,id=disk,readonly=on" -device virtio-blk-pci,drive=disk "${disks[@]}" \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-10.0.2.15:5555" \
        -device virtio-net-pci,netdev=net,romfile= </dev/null 2>"$console.qemu" 9>&- &
    pocket_pid=$!
    pocket_adb_in_path
    # A server of our own, which ends with the device, and with the same limit.
    timeout -k 5 "$POCKET_LIFE_SECONDS" adb -P "$ANDROID_ADB_SERVER_PORT" nodaemon server >"$console.adb" 2>&1 </dev/null 9>&- &
    pocket_server_pid=$!
    until grep -q 'pocket: ready' "$console"; do
        pocket_lives "$deadline" || { cat "$console.qemu" >&2; return 1; }
        sleep 0.2
    done
    until [ "$(timeout --foreground -k 2 10 adb connect "$ANDROID_SERIAL" >/dev/null 2>&1; timeout --foreground -k 2 10 adb shell echo up 2>/dev/null)" = up ]; do
        pocket_lives "$deadline" || return 1
        sleep 0.2
    done
}

# pocket_lives DEADLINE
pocket_lives() {
    kill -0 "$pocket_pid" 2>/dev/null && kill -0 "$pocket_server_pid" 2>/dev/null && [ $SECONDS -lt "$1" ]
}

# pocket_adb_in_path: the adb that fits the device's adbd, with keys and state of its own.
pocket_adb_in_path() {
    local sysroot=$POCKET_DIR/sysroot-amd64 bin=$pocket_run/bin
    mkdir -p "$bin"
    cat >"$bin/adb" <<EOT
#!/bin/sh
export HOME="$pocket_run"
export LD_LIBRARY_PATH="$sysroot/usr/lib/x86_64-linux-gnu/android:$sysroot/usr/lib/x86_64-linux-gnu:$sysroot/lib/x86_64-linux-gnu"
exec "$sysroot/usr/lib/android-sdk/platform-tools/adb" "\$@"
EOT
    chmod +x "$bin/adb"
    case $PATH in "$bin:"*) ;; *) PATH=$bin:$PATH ;; esac
    # What the suite keeps of a device goes with it: the next one may have its port.
    export XDG_STATE_HOME=$pocket_run/state
}

# pocket_adb ARGUMENTS...: adb, bound to the device that is up. On one that has died it may wait, deaf to SIGTERM.
pocket_adb() {
    timeout --foreground -k 5 90 adb "$@"
}

# pocket_answers: whether the device is alive.
pocket_answers() {
    timeout --foreground -k 5 30 adb shell true </dev/null >/dev/null 2>&1
}

# pocket_renew: another device in the place of this one, as new.
pocket_renew() {
    pocket_stop
    # What was to be undone there.
    rm -rf "$XDG_STATE_HOME"
    [ ! -e "$pocket_run/system.new" ] || cp "$pocket_run/system.new" "$pocket_run/system" || return
    pocket_boot "${pocket_log%.console}.again.console"
}

# pocket_stop: nothing is left running. May be called twice.
pocket_stop() {
    local pid
    for pid in ${pocket_server_pid:-} ${pocket_pid:-}; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    pocket_pid='' pocket_server_pid=''
    # An adb client that finds no server starts one, which nobody else would end.
    [ -z "${pocket_run:-}" ] || pocket_end "$pocket_run"
}

# pocket_clean: pocket_stop, and the files of this process are gone.
pocket_clean() {
    pocket_stop
    [ -z "${pocket_run:-}" ] || rm -rf "$pocket_run"
}
