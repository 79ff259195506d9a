# shellcheck shell=bash
# The pocket device: a QEMU guest with Debian's kernel and Debian's adbd, reached as a phone or Cuttlefish is, by adb.
# Source it, then: pocket_prepare, pocket_boot, pocket_adb, pocket_stop.

# shellcheck source=tests/pocket/debian.sh
. tests/pocket/debian.sh

POCKET_KERNEL=${POCKET_KERNEL:-6.1}
POCKET_MEMORY=${POCKET_MEMORY:-512}
POCKET_CMDLINE=${POCKET_CMDLINE:-psi=1}
# Software emulation on a loaded machine is slow, but a boot of more than this is dead.
POCKET_BOOT_SECONDS=${POCKET_BOOT_SECONDS:-90}

pocket_describe() {
    pocket_machine=() pocket_console=ttyS0 pocket_arch=amd64 pocket_qemu=qemu-system-x86_64
    pocket_suite=$POCKET_SUITE-backports pocket_meta=linux-image-cloud-amd64 pocket_cpu=max,-cx16
    pocket_modules="failover net_failover virtio_net virtio_blk lzo-rle zsmalloc zram"
    case $POCKET_KERNEL in
    6.1)
        pocket_suite=$POCKET_SUITE-security
        pocket_cpu=max
        pocket_modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci $pocket_modules"
        ;;
    # QEMU 7.2's emulation of cmpxchg16b makes newer kernels panic at random.
    6.12) ;;
    arm64-16k)
        pocket_machine=(-M virt) pocket_console=ttyAMA0 pocket_arch=arm64 pocket_qemu=qemu-system-aarch64
        pocket_meta=linux-image-arm64-16k pocket_cpu=max,pauth-impdef=on
        ;;
    *)
        echo "pocket: no kernel named $POCKET_KERNEL" >&2
        return 2
        ;;
    esac
    pocket_kernel=$POCKET_DIR/kernel-$pocket_meta-$pocket_suite
}

# pocket_prepare FILE=PATH...: packages, then an initramfs with each host FILE at PATH of the device.
pocket_prepare() {
    pocket_describe && debian_sysroot amd64 && debian_sysroot "$pocket_arch" &&
        debian_kernel "$pocket_arch" "$pocket_meta" "$pocket_suite" || return
    local root=$POCKET_DIR/root-$POCKET_KERNEL sysroot=$POCKET_DIR/sysroot-$pocket_arch module file pair
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,usr/bin,usr/sbin,lib/modules,system/bin}
    cp tests/pocket/init "$root/init"
    cp "$sysroot/bin/busybox" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    ln -s /bin/sh "$root/usr/bin/sh"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    cp "$sysroot/usr/lib/android-sdk/platform-tools/adbd" "$root/usr/sbin/adbd"
    pocket_libraries "$sysroot" "$root" || return
    for module in $pocket_modules; do
        file=$(find "$pocket_kernel/lib/modules" -name "$module.ko*" | head -n 1)
        [ -n "$file" ] || continue # built in
        case $file in
        *.xz) xz -dc "$file" >"$root/lib/modules/$module.ko" ;;
        *) cp "$file" "$root/lib/modules/$module.ko" ;;
        esac
        echo "$module.ko" >>"$root/lib/modules/order"
    done
    for pair in "$@"; do
        mkdir -p "$(dirname "$root${pair#*=}")"
        cp "${pair%%=*}" "$root${pair#*=}" || return
    done
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$POCKET_DIR/initrd-$POCKET_KERNEL.gz"
    # Contents do not matter: the device reads it as file cache.
    [ -e "$POCKET_DIR/disk" ] || truncate -s 512M "$POCKET_DIR/disk"
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

# pocket_tool_adb ARGUMENTS...: adb from the same packages, with a server of our own that ends with the device.
pocket_tool_adb() {
    local sysroot=$POCKET_DIR/sysroot-amd64
    LD_LIBRARY_PATH=$sysroot/usr/lib/x86_64-linux-gnu/android:$sysroot/usr/lib/x86_64-linux-gnu:$sysroot/lib/x86_64-linux-gnu \
        HOME=$POCKET_DIR ANDROID_ADB_SERVER_PORT=$pocket_server_port \
        "$sysroot/usr/lib/android-sdk/platform-tools/adb" "$@"
}

# pocket_adb ARGUMENTS...: adb, bound to the device that is up.
pocket_adb() {
    pocket_tool_adb -s "$ANDROID_SERIAL" "$@"
}

pocket_free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# pocket_boot CONSOLE: starts the device and waits for its adbd. A boot that dies before that may be tried again.
pocket_boot() {
    local try
    for try in 1 2 3; do
        pocket_boot_once "$1" && return
        echo "pocket: boot $try of $POCKET_KERNEL did not get ready" >&2
        tail -n 5 "$1" >&2
        pocket_stop
    done
    return 1
}

pocket_boot_once() {
    local console=$1 vmlinuz port deadline=$((SECONDS + POCKET_BOOT_SECONDS))
    vmlinuz=$(find "$pocket_kernel/boot" -name 'vmlinuz-*' | head -n 1)
    port=$(pocket_free_port)
    pocket_server_port=$(pocket_free_port)
    export ANDROID_SERIAL=127.0.0.1:$port
    : >"$console"
    timeout -k 5 "${POCKET_LIFE_SECONDS:-900}" "$pocket_qemu" "${pocket_machine[@]}" \
        -accel tcg,thread=multi -cpu "$pocket_cpu" -m "$POCKET_MEMORY" -smp 2 -no-reboot \
        -display none -monitor none -serial "file:$console" \
        -kernel "$vmlinuz" -initrd "$POCKET_DIR/initrd-$POCKET_KERNEL.gz" \
        -append "console=$pocket_console quiet panic=-1 $POCKET_CMDLINE" \
        -drive "file=$POCKET_DIR/disk,format=raw,if=none,id=disk,readonly=on" -device virtio-blk-pci,drive=disk \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-10.0.2.15:5555" \
        -device virtio-net-pci,netdev=net,romfile= </dev/null &
    pocket_pid=$!
    pocket_tool_adb nodaemon server >"$console.adb" 2>&1 </dev/null &
    pocket_server_pid=$!
    until grep -q 'pocket: ready' "$console"; do
        kill -0 "$pocket_pid" 2>/dev/null && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.2
    done
    until [ "$(pocket_tool_adb connect "$ANDROID_SERIAL" >/dev/null 2>&1; pocket_adb shell echo up 2>/dev/null)" = up ]; do
        kill -0 "$pocket_pid" 2>/dev/null && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.2
    done
}

# pocket_stop: nothing is left running.
pocket_stop() {
    [ -z "${pocket_pid:-}" ] || { kill "$pocket_pid"; wait "$pocket_pid"; } 2>/dev/null
    [ -z "${pocket_server_pid:-}" ] || { kill "$pocket_server_pid"; wait "$pocket_server_pid"; } 2>/dev/null
    pocket_pid='' pocket_server_pid=''
}
