#!/usr/bin/env bash
# A head and two hosts with addresses of their own, here network namespaces of one machine: a sweep runs on both hosts,
# the cable of one is pulled, and the sweep ends complete. Root; nothing outside its own namespaces is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
    exec unshare --net --pid --mount --fork --mount-proc --kill-child bash "$0" inside
fi

python=$(command -v python)
bin=$(dirname "$python")
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/ray /run/home
export HOME=/run/home RAY_TMPDIR=/run/ray RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
"$bin/ray" get-auth-token --generate >/dev/null

# a switch, and three hosts on it
ip link set lo up
ip link add switch type bridge && ip link set switch up
host() {   # name, address
    ip netns add "$1"
    ip link add "cable-$1" type veth peer name eth0 netns "$1"
    ip link set "cable-$1" master switch up
    ip -n "$1" address add "$2/24" dev eth0
    ip -n "$1" link set lo up && ip -n "$1" link set eth0 up
    ip -n "$1" route add default dev eth0
}
host head 10.77.0.1
host left 10.77.0.2
host right 10.77.0.3

folder=$("$python" -c 'import sys; sys.path[:0] = [".", "tests"]; from tiny import Sweep; print(Sweep(15, nap_s=1.0).folder)')
export PYTHONPATH=$PWD:$folder/plugin SWEEP_MAX_CONTENTION=any
on() { local where=$1; shift; mkdir -p "/run/tmp-$where"; TMPDIR=/run/tmp-$where ip netns exec "$where" "$@"; }

on head "$bin/ray" start --head --node-ip-address=10.77.0.1 --num-cpus=0 --include-dashboard=false >/dev/null
on left "$bin/ray" start --address=10.77.0.1:6379 --node-ip-address=10.77.0.2 --num-cpus=1 >/dev/null
on right "$bin/ray" start --address=10.77.0.1:6379 --node-ip-address=10.77.0.3 --num-cpus=1 >/dev/null

kept() { "$python" -c "from sweep.records.results import Results; print(len(Results('$folder/results/tiny').statuses()))"; }
on head "$python" -m sweep run "$folder/grid.yaml" --out "$folder/results" --address 10.77.0.1:6379 &
sweep=$!
until [ "$(kept)" -ge 10 ]; do sleep 1; kill -0 $sweep; done
echo "pulling the cable of 10.77.0.3 after $(kept) records"
ip link set cable-right down
cut=$SECONDS
wait $sweep
echo "the sweep has ended $((SECONDS - cut)) s after that"
"$python" - "$folder" <<'END'
import sys
from collections import Counter
from sweep.records.results import Results
records = Results(sys.argv[1] + "/results/tiny").records(["trial_id", "status", "node", "attempt"]).to_pylist()
print(Counter((r["node"], r["status"]) for r in records), "of 60 trials")
print("moved:", sum(r["attempt"] > 1 for r in records))
assert len(records) == 60 and {r["status"] for r in records} == {"ok"} and len({r["node"] for r in records}) == 2
END
rm -rf "$folder"
echo "complete"
