#!/bin/bash
# A Slurm of one machine, with munge, runs 24 cells as an array while one of its processes is killed, and merges them:
# the tables are those of one local run, byte for byte. Needs root, slurmctld, slurmd and munged (Debian: slurm-wlm,
# munge), and uses a configuration and ports of its own.
#
#   scripts/cluster/test_slurm.sh [PROGRAM]
set -eu
cd "$(dirname "$0")/../.."
program=${1:-target/release/quantbound}
. scripts/cluster/plan.sh
dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    rm -rf "$dir"
}
trap stop EXIT

mkdir -p "$dir/munge" "$dir/state" "$dir/spool"
chmod 711 "$dir/munge"
head -c 64 /dev/urandom > "$dir/munge/key"
chmod 400 "$dir/munge/key"
munged --foreground --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --log-file="$dir/munge/log" \
    --pid-file="$dir/munge/pid" --seed-file="$dir/munge/seed" > "$dir/munge/out" 2>&1 &
pids+=($!)
host=$(hostname -s)
cat > "$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=7817
SlurmdPort=7818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$dir/slurm.conf
sleep 2
slurmctld -D > "$dir/ctld.out" 2>&1 &
pids+=($!)
slurmd -D -N "$host" > "$dir/slurmd.out" 2>&1 &
pids+=($!)
for _ in $(seq 60); do
    sinfo -h -o %T 2> /dev/null | grep -q idle && break
    sleep 1
done
sinfo

small_plan "$dir"
"$program" sweep "$dir/plan.toml" --out "$dir/local" --backend cpu --threads 1 > "$dir/local.log" 2>&1
"$program" slurm "$dir/plan.toml" --out "$dir/out" --tasks 6 --backend cpu --threads 1 > "$dir/job.sbatch"
bash "$dir/job.sbatch"
for _ in $(seq 600); do
    cell=$(pgrep -f "quantbound cell - --out $dir/" | head -1 || true)
    if [ -n "$cell" ]; then kill -KILL "$cell" && echo "killed a cell" && break; fi
    sleep 0.2
done
for _ in $(seq 600); do
    [ -z "$(squeue -h)" ] && break
    sleep 1
done
grep -h "ended by a signal" "$dir"/out/logs/*.log
same_tables "$dir/local" "$dir/out/run" || { tail -n 20 "$dir"/out/logs/*.log "$dir"/slurm*.log; exit 1; }
echo "Slurm: 24 cells in an array of 6, a process killed: the tables of one local run, byte for byte"
