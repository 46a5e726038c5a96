"""A Ray cluster of two nodes on this machine, run where Ray is: `python ray_cluster.py HIDDEN`.

Prints the head's address. Both nodes have the resource `ray`. The second, which has `far`, does not see what is in the folder HIDDEN: an empty
file system lies over it there, or, where nobody may mount one, is not there and neither is the resource `blind`. The word
`kill` on stdin kills the second node's raylet (SIGKILL), and the end of stdin ends the cluster.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_SMALL = {"object_store_memory": 80_000_000}


def hide(folder: str) -> bool:
    """Lay an empty file system over a folder, for this process and those that it starts."""
    if ctypes.CDLL(None).unshare(_NEW_MOUNTS):
        return False
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "none", folder]):
        subprocess.run(["/usr/bin/mount", *command], check=True)
    return True


def main(hidden: str) -> None:
    from ray.cluster_utils import Cluster  # is where this is run alone

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "resources": {"ray": 8, "near": 8},
            "include_dashboard": False,
            **_SMALL,
        },
    )
    blind = {"blind": 8} if hide(hidden) else {}
    far = cluster.add_node(num_cpus=1, resources={"ray": 8, "far": 8, **blind}, **_SMALL)
    print(cluster.address, *blind, flush=True)  # noqa: T201  (what the test waits for)
    for line in sys.stdin:
        if line.strip() == "kill":
            far.kill_raylet()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
