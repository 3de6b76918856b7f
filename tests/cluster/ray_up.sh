#!/usr/bin/env bash
# `ray up` with cluster-local.yaml for real: a head and a node on two addresses of one machine, reached through a real
# sshd; a sweep there; `ray down`. Root, with openssh-server and rsync; it has namespaces and a home of its own, since
# `ray stop` ends every Ray process that it can see.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
    exec unshare --net --pid --mount --fork --mount-proc --kill-child bash "$0" inside
fi

bin=$(dirname "$(command -v python)")
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/home/.ssh /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
sed 's|^root:\(.*\):/root:|root:\1:/run/home:|' /etc/passwd >/run/passwd
mount --bind /run/passwd /etc/passwd
export HOME=/run/home

# two addresses, and an sshd on both
ip link set lo up
ip link add lab type bridge && ip link set lab up
ip address add 10.78.0.1/24 dev lab && ip address add 10.78.0.2/24 dev lab
ip route add default dev lab
ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f /run/host_key
cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
cat >/run/sshd_config <<END
ListenAddress 10.78.0.1
ListenAddress 10.78.0.2
HostKey /run/host_key
AuthorizedKeysFile /run/home/.ssh/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
END
/usr/sbin/sshd -f /run/sshd_config -E /run/sshd.log

# what the setup commands would install from the network is there already; plug-in and folders come with the shell
folder=$(python -c 'import sys; sys.path[:0] = [".", "tests"]; from tiny import Sweep; print(Sweep(8, nap_s=0.5).folder)')
cat >~/.bashrc <<END
export PATH=$bin:\$PATH PYTHONPATH=$folder/plugin SWEEP_ENV_DIR=${SWEEP_ENV_DIR:-} SWEEP_MAX_FOREIGN=100
END
python - >/run/cluster.yaml <<'END'
import sys, yaml
config = yaml.safe_load(open("cluster-local.yaml"))
config["provider"] |= {"head_ip": "10.78.0.1", "worker_ips": ["10.78.0.2"]}
config |= {"min_workers": 1, "max_workers": 1, "setup_commands": []}
config["auth"]["ssh_user"] = "root"
for kind, address in (("head", "10.78.0.1"), ("worker", "10.78.0.2")):
    commands = config[f"{kind}_start_ray_commands"]
    commands[1] += f" --node-ip-address={address}" + (" --num-cpus=2" if kind == "worker" else "")
yaml.safe_dump(config, sys.stdout)
END

export RAY_UP_enable_autoscaler_v2=0
ray() { "$bin/ray" "$@" </dev/null; }
ray get-auth-token --generate >/dev/null
marker=/run/marker && touch $marker
echo "ray up" && ray up -y --no-config-cache /run/cluster.yaml >/run/up.log 2>&1 || { cat /run/up.log; exit 1; }
for _ in $(seq 60); do
    RAY_AUTH_MODE=token ray status --address 10.78.0.1:6379 >/run/status.log 2>&1 || true
    grep -q '/2.0 CPU' /run/status.log && break
    sleep 2
done
cat /run/status.log
ray exec --no-config-cache /run/cluster.yaml "cd ~/sweep && python -m sweep run $folder/grid.yaml --out ~/results --address auto" 2>&1 | tee /run/exec.log | tail -20
ray down -y /run/cluster.yaml >/run/down.log 2>&1 || cat /run/down.log
pgrep -a raylet && { echo "a raylet is left"; exit 1; }
python - <<'END'
from collections import Counter
from sweep.records import Results
records = Results("/run/home/results/tiny").records(["status", "node"]).to_pylist()
print(Counter((r["node"], r["status"]) for r in records), "of 32 trials")
assert len(records) == 32 and {r["status"] for r in records} == {"ok"}
END
find /tmp -maxdepth 1 -name 'ray_ssh_*' -newer $marker -exec rm -rf {} +
rm -rf "$folder"
echo "complete"
