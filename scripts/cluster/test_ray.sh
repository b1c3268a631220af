#!/bin/bash
# A local Ray cluster of two nodes runs 24 cells while one of its workers is killed: the tables are those of one local
# run, byte for byte. Then wall times with 1, 2 and 4 workers.
#
#   scripts/cluster/test_ray.sh [PROGRAM] [PYTHON]     PYTHON has the package ray
set -eu
cd "$(dirname "$0")/../.."
program=${1:-target/release/quantbound}
python=${2:-python3}
. scripts/cluster/plan.sh
dir=$(mktemp -d)
trap '"$python" -m ray.scripts.scripts stop --force > /dev/null 2>&1 || true; rm -rf "$dir"' EXIT
small_plan "$dir"
"$program" sweep "$dir/plan.toml" --out "$dir/local" --backend cpu --threads 1 > "$dir/local.log" 2>&1

ray() { "$python" -m ray.scripts.scripts "$@" > "$dir/ray.log" 2>&1 || { cat "$dir/ray.log"; exit 1; }; }
ray start --head --port=6399 --num-cpus=1 --num-gpus=0 --include-dashboard=false --temp-dir="$dir/ray"
ray start --address=127.0.0.1:6399 --num-cpus=1 --num-gpus=0

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
"$python" scripts/cluster/ray_sweep.py "$dir/plan.toml" --out "$dir/out" --program "$program" \
    --address 127.0.0.1:6399 -- --backend cpu --threads 1
wait "$killer"
same_tables "$dir/local" "$dir/out/run"
echo "Ray: 24 cells, a worker killed: the tables of one local run, byte for byte"
ray stop --force

for workers in 1 2 4; do
    ray start --head --port=6399 --num-cpus=$workers --num-gpus=0 --include-dashboard=false --temp-dir="$dir/ray$workers"
    start=$(date +%s.%N)
    "$python" scripts/cluster/ray_sweep.py "$dir/plan.toml" --out "$dir/timed$workers" --program "$program" \
        --address 127.0.0.1:6399 -- --backend cpu --threads 1 > "$dir/timed.log" 2>&1
    echo "$workers workers: $(echo "$(date +%s.%N) - $start" | bc) s"
    ray stop --force
done
