#!/bin/sh
# The part of Android's init that is about this guest's hardware and kernel: mounts, modules, network.
set -u
export PATH=/bin:/sbin
/bin/busybox mount -t proc -o hidepid=2,gid=3009 proc /proc
echo -1000 >/proc/self/oom_score_adj
echo -1000 >/proc/1/oom_score_adj
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs -o mode=0755 dev /dev
/bin/busybox --install -s /bin
mkdir -p /dev/pts /dev/socket /dev/cpuset /tmp /data/local/tmp
mount -t devpts devpts /dev/pts
mount -t tracefs -o mode=0755 tracefs /sys/kernel/tracing
mount -t bpf -o mode=0711 bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
if mount -t cgroup -o cpuset,noprefix none /dev/cpuset 2>/dev/null; then
    for group in foreground system-background; do
        mkdir /dev/cpuset/$group
        cat /dev/cpuset/cpus >/dev/cpuset/$group/cpus
        cat /dev/cpuset/mems >/dev/cpuset/$group/mems
    done
fi

# Android's init leaves performance events to SELinux, and its widening of the gap between the watermarks
# (extra_free_kbytes) comes to some 10 MB for a 720p screen.
echo -1 >/proc/sys/kernel/perf_event_paranoid
echo 200 >/proc/sys/vm/watermark_scale_factor

# As Android's init.rc: logd's socket holds so many lines before they are lost.
echo 600 >/proc/sys/net/unix/max_dgram_qlen

while read -r module; do
    insmod "/lib/modules/$module" || echo "pocket: no $module"
done </lib/modules/order

# The second disk, where there is one, is the system.
[ ! -b /dev/vdb ] || mount -t ext4 -o ro /dev/vdb /system || exit 1

ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
# A kernel without PSI has no file to hand over.
[ -e /proc/pressure/memory ] || echo "pocket: this kernel has no PSI"
exit 0
