#!/usr/bin/env bash
# Fetches the pinned assets, builds, runs the quickstart sweep and writes results/runs/quickstart/report.html.
# Further arguments go to `quantbound sweep`, e.g. --backend cpu.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/fetch-assets
cargo build --release --locked
exec target/release/quantbound sweep experiments/quickstart.toml "$@"
