#!/usr/bin/env python3
"""Runs a command beside a Ray cluster on this machine, whose address is RAY_ADDRESS to it.

    local_ray.py NODES CPUS COMMAND...      each of NODES nodes has CPUS cores to give

Ends the processes that it started and no others.
"""

import os
import subprocess
import sys

from ray.cluster_utils import Cluster


def main():
    nodes, cpus, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    node = {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        return subprocess.run(command, env={**os.environ, "RAY_ADDRESS": cluster.address}, check=False).returncode
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
