#!/usr/bin/env python3
"""Runs a plan's cells on a Ray cluster and merges them.

    ray_sweep.py PLAN --out DIR [--address auto] [--batches N] [--gpus 1] [-- --backend gpu]

Every cell is one task: a `quantbound cell` process. What comes after `--` is given to it. A shared file system is
assumed: the program, the plan, its networks, its images and DIR are at the same paths on every node, and paths in the
plan start at the directory that this script runs in. Nothing passes through the object store. A task whose worker or
node dies is tried again elsewhere, and goes on from the parts that are stored. Started again, the script makes what is
missing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ray


def make(program, line, out, engine, here):
    """One cell; returns its exit code and what it said last."""
    command = [program, "cell", "-", "--out", out, *engine]
    done = subprocess.run(command, input=line, text=True, capture_output=True, cwd=here)
    if done.returncode < 0:
        # Ended by a signal: for Ray to try again.
        raise RuntimeError(f"ended by signal {-done.returncode}")
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def arguments():
    own, engine = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, engine = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--out", required=True, help="folder of the cells and of the merged run, seen by every node")
    parser.add_argument("--program", default="target/release/quantbound")
    parser.add_argument("--address", help="of a cluster; a local one is started without")
    parser.add_argument("--batches", type=int, help="at most so many batches of a cell in a task")
    parser.add_argument("--cpus", type=float, default=1, help="cores of a task")
    parser.add_argument("--gpus", type=float, help="GPUs of a task; one where the cluster has any")
    parser.add_argument("--retries", type=int, default=3, help="of a task that died")
    return parser.parse_args(own), engine


def main():
    asked, engine = arguments()
    here, out = os.getcwd(), Path(asked.out).absolute()
    program = str(Path(asked.program).absolute())
    batches = ["--batches", str(asked.batches)] if asked.batches else []
    listed = subprocess.run(
        [program, "cells", asked.plan, *batches, *engine], text=True, stdout=subprocess.PIPE, check=False
    )
    if listed.returncode != 0:
        return listed.returncode
    lines = listed.stdout.splitlines()
    ray.init(address=asked.address, log_to_driver=False, logging_level="warning")
    gpus = asked.gpus
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    task = ray.remote(make).options(
        num_cpus=asked.cpus, num_gpus=gpus, max_retries=asked.retries, retry_exceptions=True
    )
    cells = str(out / "cells")
    started, failed = time.time(), []
    pending = {task.remote(program, line, cells, engine, here): json.loads(line)["cell"] for line in lines}
    count = len(pending)
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        for done in ready:
            cell = pending.pop(done)
            try:
                code, said = ray.get(done)
            except Exception as error:  # a task that died more often than it is tried
                code, said = 2, str(error)
            gone = time.time() - started
            made = count - len(pending)
            left = gone / made * len(pending)
            state = "done" if code == 0 else f"exit code {code}"
            print(f"{made}/{count} {gone:.0f} s gone, about {left:.0f} s left: {cell}: {state}", flush=True)
            if code != 0:
                failed.append((cell, said))
    for cell, said in failed:
        print(f"failed: {cell}\n{said}", file=sys.stderr)
    merged = subprocess.run([program, "merge", cells, "--out", str(out / "run"), *engine], check=False)
    return merged.returncode or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main())
