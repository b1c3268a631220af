#!/bin/bash
# A local Ray cluster of three nodes runs 24 cells while one of its workers is killed: the tables are those of one local
# run, byte for byte. Then wall times with 1, 2 and 4 workers, beside one process that makes all cells.
#
#   scripts/cluster/test_ray.sh [PROGRAM] [PYTHON]     PYTHON has the package ray
set -eu
cd "$(dirname "$0")/../.."
program=${1:-target/release/quantbound}
python=${2:-python3}
. scripts/cluster/plan.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export RAY_USAGE_STATS_ENABLED=0
small_plan "$dir"
now() { date +%s.%N; }
since() { echo "scale=2; ($(now) - $1) / 1" | bc; }
on_nodes() { # NODES CPUS OUT
    "$python" scripts/cluster/local_ray.py "$1" "$2" \
        "$python" scripts/cluster/ray_sweep.py "$dir/plan.toml" --out "$3" --program "$program" -- --backend cpu --threads 1
}

start=$(now)
"$program" sweep "$dir/plan.toml" --out "$dir/local" --backend cpu --threads 1 > "$dir/local.log" 2>&1
echo "one process: $(since "$start") s"

(
    # The first worker that makes a cell, and the cell's process with it.
    for _ in $(seq 600); do
        cell=$(pgrep -f "$program cell - --out $dir/" | head -1 || true)
        if [ -n "$cell" ] && [ -d "$dir/out/cells" ]; then
            worker=$(ps -o ppid= -p "$cell" | tr -d ' ')
            kill -KILL "$cell" "$worker" && echo "killed a worker and its cell" && exit
        fi
        sleep 0.2
    done
    echo "no worker was seen" && exit 1
) & killer=$!
on_nodes 3 1 "$dir/out"
wait "$killer"
same_tables "$dir/local" "$dir/out/run"
echo "Ray: 24 cells on three nodes, a worker killed: the tables of one local run, byte for byte"

for workers in 1 2 4; do
    start=$(now)
    on_nodes 1 "$workers" "$dir/timed$workers" > "$dir/timed.log" 2>&1
    echo "$workers workers: $(since "$start") s; $(grep "^24/24" "$dir/timed.log" | cut -d, -f1)"
done
