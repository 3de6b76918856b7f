#!/usr/bin/env bash
# `ray up cluster-local.yaml` on three machines with names, addresses, homes and sshd of their own, here namespaces of one
# machine: the file's own commands install and start everything, a sweep runs on both workers, `ray down` ends it.
# Root. What machines would download is fetched before; from then on nothing outside these namespaces is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
    for program in /usr/sbin/sshd ssh rsync ip uv; do
        command -v $program >/dev/null && continue
        echo "error: there is no $program here" >&2
        echo "hint: apt-get install openssh-server openssh-client rsync iproute2; pip install uv" >&2
        exit 5
    done
    exec unshare --pid --mount --fork --mount-proc --kill-child bash "$0" inside
fi

# a home whose changes stay in memory, an empty /tmp, and this checkout where both leave it in sight
export HOME; HOME=$(getent passwd root | cut -d: -f6)
uv=$(command -v uv)
mount -t tmpfs tmpfs /run
mkdir -p /run/checkout /run/netns /run/sshd /run/etc /run/laptop/{up,work}
mount --bind . /run/checkout
mount -t overlay -o lowerdir="$HOME",upperdir=/run/laptop/up,workdir=/run/laptop/work overlay "$HOME"
mkdir -p ~/.local/bin && cp --remove-destination "$(readlink -f "$uv")" ~/.local/bin/uv
mount -t tmpfs tmpfs /tmp
cd /run/checkout
unset TMPDIR VIRTUAL_ENV PYTHONPATH SWEEP_ENV_DIR SWEEP_DATA_DIR

echo "fetching what the machines will install"
rsync -a --exclude=.git --exclude=results ./ ~/sweep/
sed -n '/^setup_commands:/,/^$/s/^  - //p' cluster-local.yaml | grep '^~/.local/bin/uv' | bash -e
export PATH=$HOME/sweep-python/bin:$PATH UV_OFFLINE=1
(cd ~/sweep && UV_OFFLINE=0 sweep env build reference 2>/dev/null)
ray get-auth-token --generate >/dev/null
rm -rf ~/sweep ~/.ssh

# sshd on each machine, and a key for it
ssh-keygen -q -t ed25519 -N '' -f /run/etc/key
ssh-keygen -q -t ed25519 -N '' -f /run/etc/host_key
cp /run/etc/key.pub /run/etc/authorized_keys
cat > /run/etc/sshd_config <<END
HostKey /run/etc/host_key
AuthorizedKeysFile /run/etc/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
SetEnv UV_OFFLINE=1
END

# a switch, and a laptop and three machines on it
ip netns add laptop
on() { local where=$1; shift; ip netns exec "$where" "$@"; }
on laptop ip link add switch type bridge
on laptop ip address add 10.77.0.9/24 dev switch
on laptop ip link set switch up
on laptop ip link set lo up
machine() {   # name, address
    mkdir -p "/run/$1/up" "/run/$1/work"
    ip netns add "$1"
    on laptop ip link add "cable-$1" type veth peer name eth0 netns "$1"
    on laptop ip link set "cable-$1" master switch up
    ip -n "$1" address add "$2/24" dev eth0
    ip -n "$1" link set lo up && ip -n "$1" link set eth0 up
    ip -n "$1" route add default dev eth0
    on "$1" unshare --pid --mount --uts --fork --mount-proc --kill-child bash -euc "
        hostname $1
        mount -t overlay -o lowerdir=$HOME,upperdir=/run/$1/up,workdir=/run/$1/work overlay $HOME
        mount -t tmpfs tmpfs /tmp
        exec /usr/sbin/sshd -D -f /run/etc/sshd_config -E /run/$1/log" &
}
machine head 10.77.0.1
machine left 10.77.0.2
machine right 10.77.0.3

sed -e 's/192\.0\.2\.1 .*/10.77.0.1/; s/\[192.*\]/[10.77.0.2, 10.77.0.3]/' \
    -e 's#ssh_user: REPLACE#ssh_user: root#; s#ssh_private_key: .*#ssh_private_key: /run/etc/key#' \
    -e 's/ # REPLACE$//' cluster-local.yaml > /run/etc/cluster.yaml
diff cluster-local.yaml /run/etc/cluster.yaml || true

export RAY_UP_enable_autoscaler_v2=0 RAY_USAGE_STATS_ENABLED=0
quietly() { "$@" > /run/said 2>&1 </dev/null || { cat /run/said; exit 1; }; }
on_head() { on laptop ray exec --no-config-cache /run/etc/cluster.yaml "$1" 2>&1 | grep -av 'INFO [a-z_]*\.py'; }
ours() { grep -lsE 'raylet|gcs_server|sweep' /proc/[0-9]*/comm | wc -l; }
began=$SECONDS
quietly on laptop ray up -y --no-config-cache /run/etc/cluster.yaml
echo "ray up took $((SECONDS - began)) s"
on_head 'cd sweep && sweep run grids/smoke.yaml --address auto 2>&1 | cat'
on_head 'cd sweep && sweep status smoke'
PYTHONPATH=. ~/sweep-python/bin/python - "/run/head/up/sweep/results/smoke" <<'END'
import sys
from collections import Counter
from sweep.records.results import Results
records = Results(sys.argv[1]).records(["node", "status"]).to_pylist()
print(Counter((r["node"], r["status"]) for r in records))
assert len(records) == 12 and {r["status"] for r in records} == {"ok"} and {r["node"] for r in records} == {"left", "right"}
END
began=$SECONDS
quietly on laptop ray down -y /run/etc/cluster.yaml
echo "ray down took $((SECONDS - began)) s"
began=$SECONDS   # the workers' end by themselves once they miss the head
until [ "$(ours)" = 0 ]; do sleep 1; [ $((SECONDS - began)) -lt 120 ] || { grep -HE . /proc/[0-9]*/comm; exit 1; }; done
echo "no process of Ray or sweep is left, $((SECONDS - began)) s later"
