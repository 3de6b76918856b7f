#!/usr/bin/env bash
# `deploy/slurm/sweep.sbatch` on a real Slurm of one node: the time limit ends the sweep, the job is queued again, and
# goes on until the grid is complete; scancel ends another for good. Root; needs Debian's slurm-wlm, munge and iproute2.
# Everything is inside namespaces of its own and ends with this script.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
    for program in slurmctld slurmd munged ip; do
        command -v $program >/dev/null && continue
        echo "error: there is no $program here" >&2
        echo "hint: apt-get install slurm-wlm munge iproute2" >&2
        exit 5
    done
    sweep env build reference   # where there is a package index
    exec unshare --net --pid --mount --uts --fork --mount-proc --kill-child bash "$0" inside
fi

# a machine called node1 that reaches itself alone, with a /run and /tmp of its own
mount -t tmpfs tmpfs /run
mkdir -p /run/{checkout,munge,slurm}
mount --bind . /run/checkout
mount -t tmpfs tmpfs /tmp
cd /run/checkout
unset TMPDIR RAY_ADDRESS
hostname node1
ip link set lo up
ip link add eth0 type bridge
ip address add 10.77.0.1/24 dev eth0
ip link set eth0 up
ip route add default dev eth0
echo "127.0.0.1 localhost
10.77.0.1 node1" > /run/hosts
mount --bind /run/hosts /etc/hosts

# munge, which Slurm's programs know each other by
head -c 1024 /dev/urandom > /run/munge/key
chmod 600 /run/munge/key
munged --force --key-file=/run/munge/key --socket=/run/munge/socket --pid-file=/run/munge/pid \
    --seed-file=/run/munge/seed --log-file=/run/munge/log

# Slurm; a short cred_expire since a job that is queued again waits that long
export SLURM_CONF=/run/slurm/slurm.conf
cat > $SLURM_CONF <<CONF
ClusterName=one
SlurmctldHost=node1
SlurmUser=root
AuthInfo=socket=/run/munge/socket,cred_expire=5
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/run/slurm/slurmctld.log
SlurmdLogFile=/run/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
ReturnToService=2
NodeName=node1 CPUs=2
PartitionName=all Nodes=node1 Default=YES
CONF
mkdir -p /run/slurm/state /run/slurm/spool
slurmctld
slurmd
until sinfo --noheader --format=%T | grep -q idle; do sleep 1; done
sinfo --version

folder=$(python -c 'import sys; sys.path[:0] = [".", "tests"]; from tiny import Sweep; print(Sweep(20, nap_s=1.0).folder)')
export PYTHONPATH=$PWD:$folder/plugin SWEEP_MAX_CONTENTION=any
kept() { python -c "from sweep.records.results import Results; print(len(Results('$1/tiny').statuses()))"; }
state() { scontrol show job "$1" | grep -o 'JobState=[A-Z]*' | cut -d= -f2; }
over() { state "$1" | grep -qE '^(COMPLETED|FAILED|CANCELLED|TIMEOUT)$'; }
ended() { over "$1" && sleep 3 && over "$1"; }   # a job on its way back into the queue is over for a moment
# two tasks on the one node, so that the script's second branch runs: a Ray node that joins the first. Ray gives each
# 30 s to start: on a busy machine say TASKS=1
tasks=${TASKS:-2}
submit() {
    sbatch --parsable --nodes=1 --ntasks-per-node="$tasks" --cpus-per-task=1 --hint=multithread --output="/run/%j.log" \
        "${@:2}" deploy/slurm/sweep.sbatch "$folder/grid.yaml" --out "$1"
}

job=$(submit "$folder/results" --time=3 --signal=B:USR1@60)
echo "submitted job $job with a time limit of three minutes"
seen=
until ended "$job"; do
    now=$(state "$job")
    if [ "$now" != "$seen" ]; then
        echo "$(date +%H:%M:%S) $now, $(kept "$folder/results") records"
        seen=$now
    fi
    sleep 1
    [ $SECONDS -lt 1800 ] || { tail -n 40 "/run/$job.log" /run/slurm/*.log; exit 1; }
done
echo "$(date +%H:%M:%S) $(state "$job"), $(kept "$folder/results") records"
tr '\r' '\n' < "/run/$job.log" | grep -avE '^\s*$|trials ·' | cut -c1-160
scontrol show job "$job" | grep -oE '(JobState|Restarts|ExitCode)=\S+'
python - "$folder" <<'PY'
import sys
from collections import Counter
from sweep.records.results import Results
records = Results(sys.argv[1] + "/results/tiny").records(["trial_id", "status"]).to_pylist()
print(Counter(r["status"] for r in records))
assert len(records) == len({r["trial_id"] for r in records}) == 80
assert {r["status"] for r in records} == {"ok"}
PY
[ "$(state "$job")" = COMPLETED ]
scontrol show job "$job" | grep -qE 'Restarts=[1-9]'

job=$(submit "$folder/cancelled" --time=10)
until [ "$(kept "$folder/cancelled" 2>/dev/null || echo 0)" -ge 5 ]; do sleep 1; done
scancel "$job"
until ended "$job"; do sleep 1; done
sleep 10   # longer than a job that is queued again would wait
echo "after scancel: $(state "$job"), $(kept "$folder/cancelled") records, no requeue"
[ "$(state "$job")" = CANCELLED ]
tr '\r' '\n' < "/run/$job.log" | grep -avE '^\s*$|trials ·' | tail -n 5 | cut -c1-160
left=$(grep -lsE 'raylet|gcs_server|sweep' /proc/[0-9]*/comm | wc -l || true)
echo "$left processes of Ray or sweep are left"
[ "$left" = 0 ]
rm -rf "$folder"
echo "complete"
