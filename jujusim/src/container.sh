# Creates the network and the containers of a pod. A model's addresses belong to the loopback
# network. A pod's address is routed to the pod's end of a pair of interfaces; from there all other
# addresses lead back to the host.
set -euo pipefail

# PID INTERFACE ADDRESS GATEWAY: connects the network namespace of a process to the host.
network() {
    local pid=$1 interface=$2 address=$3 gateway=$4 setting
    ip link add "$interface" type veth peer name eth0 netns "$pid"
    ip link set "$interface" up
    # Between two pods the host forwards.
    for setting in route_localnet forwarding proxy_arp; do
        echo 1 >"/proc/sys/net/ipv4/conf/$interface/$setting"
    done
    # The host answers for the other pods at once: by default it waits up to 0.8 seconds, and under
    # load a pod gave up before.
    echo 0 >"/proc/sys/net/ipv4/neigh/$interface/proxy_delay"
    ip route add unicast "$address/32" dev "$interface" table local src "$gateway"
    nsenter --target "$pid" --net bash -euc '
        ip link set lo up
        ip addr del 127.0.0.1/8 dev lo
        ip addr add 127.0.0.1/32 dev lo
        echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
        ip addr add "$0/24" dev eth0
        ip link set eth0 up' "$address"
}

# ROOT NAME PORT PEBBLE LIMIT [IMAGE]: becomes the first process of a container, in its own
# namespaces.
container() {
    local unit=$1 name=$2 port=$3 pebble=$4 limit=$5 image=${6-} root directory
    # Only this mount namespace sees the mount, so any existing directory serves.
    root=/mnt
    mount -t tmpfs -o mode=755 container "$root"
    mkdir -p "$root"/{usr,etc,proc,sys/fs/cgroup,sys/devices/system/cpu,dev/shm,tmp}
    mkdir -p "$root"/{run,root,var/lib,opt/image}
    mkdir -p "$root"/charm/{bin,container}
    chmod 1777 "$root/tmp"
    read_only /usr "$root/usr"
    for directory in bin sbin lib lib64; do
        if [[ -L /$directory ]]; then
            cp --no-dereference "/$directory" "$root/$directory"
        elif [[ -d /$directory ]]; then
            mkdir "$root/$directory"
            read_only "/$directory" "$root/$directory"
        fi
    done
    # The users of the image in the charm's metadata.
    printf '%s\n' 'root:x:0:0:root:/root:/bin/bash' \
        'postgres:x:584788:584788::/var/lib:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'postgres:x:584788:' >"$root/etc/group"
    cp /etc/ld.so.cache /etc/nsswitch.conf /etc/resolv.conf /etc/hosts "$root/etc/" \
        2>"$root/dev/cp" || true
    rm "$root/dev/cp"
    mount -t proc proc "$root/proc"
    printf '%s\n' "$limit" >"$root/sys/fs/cgroup/cpu.max"
    cp /sys/devices/system/cpu/online "$root/sys/devices/system/cpu/"
    for directory in null zero random urandom; do
        touch "$root/dev/$directory"
        mount --bind "/dev/$directory" "$root/dev/$directory"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    # The pod's volumes.
    mount --bind "$unit/dev/shm" "$root/dev/shm"
    mount --bind "$unit/charm/containers/$name" "$root/charm/container"
    touch "$root/charm/bin/pebble"
    read_only "$pebble" "$root/charm/bin/pebble"
    [[ -z $image ]] || read_only "$image" "$root/opt/image"
    cd /
    exec chroot "$root" /usr/bin/env -i \
        PATH=/opt/image:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        JUJU_CONTAINER_NAME="$name" PEBBLE_SOCKET=/charm/container/pebble.socket \
        PEBBLE=/charm/container/pebble PEBBLE_COPY_ONCE=/var/lib/pebble/default \
        /charm/bin/pebble run --create-dirs --hold --http ":$port" --verbose
}

read_only() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

"$@"
