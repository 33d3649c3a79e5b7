"""Training on hosts that this machine pretends to be: bytes sent, and how much of the communication is hidden.

    python tools/measure_hosts.py --hosts 2 --rates 10gbit 1gbit 200mbit

Each host is a network namespace of Linux on a common bridge, its link as slow as asked (tc, token bucket); needs root,
iproute2, mpi4py and MPICH (pip install mpi4py mpich). The hosts share the processors of this machine: seconds of computing say
little, bytes and the share of communication that is hidden say something.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BRIDGE = "cnnbridge"
RSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec cnnhost${host##*.} /bin/sh -c "$*"
"""
PROGRAM = """
import json, sys, time
import numpy as np, cnncore
from cnncore.distributed import MPICommunicator
from cnncore.train import SGD, Trainer

steps, size, batch = map(int, sys.argv[1:])
ranks = MPICommunicator(bind=False)
cnncore.set_num_threads(1)
net = cnncore.models.googlenet(classes=10, seed=0)
trainer = Trainer(net, SGD(0.01), communicator=ranks, shards=ranks.size)
rng = np.random.default_rng(0)
def step():
    trainer.step(rng.random((batch, 3, size, size), np.float32), rng.integers(0, 10, batch))
def sent():
    return int(open("/sys/class/net/eth0/statistics/tx_bytes").read())
step()
ranks.barrier()
before, cost, began = sent(), trainer.communication, time.perf_counter()
first = (cost.seconds, cost.waited, cost.bytes)
for _ in range(steps):
    step()
seconds, cost = time.perf_counter() - began, trainer.communication
figures = [seconds, cost.seconds - first[0], cost.waited - first[1], cost.bytes - first[2], sent() - before]
rows = ranks.allgather(np.array([figures]))
if ranks.rank == 0:
    gradients = sum(array.nbytes for array in net.parameters.values())
    print("figures", json.dumps({"gradients": gradients, "rows": [row[0].tolist() for row in rows]}))
"""


def run(*command):
    """Run a program of the system; what it says is said only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr.strip()}")


def up(hosts):
    """Make the bridge and the hosts 10.99.0.1, 10.99.0.2 and so on."""
    run("ip", "netns", "add", BRIDGE)
    run("ip", "-n", BRIDGE, "link", "add", "br0", "type", "bridge")
    run("ip", "-n", BRIDGE, "link", "set", "br0", "up")
    for number in range(1, hosts + 1):
        host, port = f"cnnhost{number}", f"port{number}"
        run("ip", "netns", "add", host)
        run("ip", "-n", host, "link", "set", "lo", "up")
        run("ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", BRIDGE)
        run("ip", "-n", BRIDGE, "link", "set", port, "master", "br0", "up", "mtu", "9000")
        run("ip", "-n", host, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
        run("ip", "-n", host, "link", "set", "eth0", "up", "mtu", "9000")


def down(hosts):
    """Remove what :func:`up` made, as far as it is there."""
    for name in (*(f"cnnhost{number}" for number in range(1, hosts + 1)), BRIDGE):
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def measure(options, launcher):
    """The figures of one training at the rate that is set."""
    hosts = ",".join(f"10.99.0.{number}" for number in range(1, options.hosts + 1))
    program = [sys.executable, "-m", "mpi4py", "-c", PROGRAM, *map(str, (options.steps, options.size, options.batch))]
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    # Without UCX_TLS the ranks would find that they share memory, and leave the network alone.
    environment = ["-genv", "UCX_TLS", "tcp", "-genv", "UCX_NET_DEVICES", "eth0", "-genv", "FI_PROVIDER", "tcp"]
    here = ["ip", "netns", "exec", "cnnhost1"]  # the launcher runs on the first host, and is reached there
    command = [
        *here,
        mpiexec,
        "-localhost",
        "10.99.0.1",
        "-iface",
        "eth0",
        "-launcher",
        "rsh",
        "-launcher-exec",
        launcher,
    ]
    command += ["-hosts", hosts, "-ppn", "1"]
    done = subprocess.run(
        [*command, "-n", str(options.hosts), *environment, *program], capture_output=True, text=True, timeout=1200
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("figures ")]
    if done.returncode or not lines:
        raise SystemExit(f"the training failed:\n{done.stdout}{done.stderr}")
    return json.loads(lines[0].removeprefix("figures "))


def row_of(rate, options, found):
    """A row of the table, per step and rank: the mean over the ranks."""
    mean = [sum(column) / options.hosts / options.steps for column in zip(*found["rows"], strict=True)]
    seconds, communication, waited, _, sent = mean
    ideal = 2 * (options.hosts - 1) / options.hosts * found["gradients"]
    return (
        f"| {rate} | {options.hosts} | {sent / 1e6:.1f} | {ideal / 1e6:.1f} | {sent / ideal:.3f} | {1e3 * seconds:.0f} "
        f"| {1e3 * communication:.0f} | {1e3 * waited:.0f} | {100 * (1 - waited / communication):.0f} % |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rates", nargs="+", default=["10gbit", "1gbit", "200mbit"], help="as tc writes them")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="of the images that googlenet sees")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    print("| link | hosts | MB sent | least MB | ratio | ms per step | ms communication | ms waited | hidden |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder, "rsh")
        launcher.write_text(RSH)
        launcher.chmod(0o755)
        down(options.hosts)
        try:
            up(options.hosts)
            for rate in options.rates:
                for number in range(1, options.hosts + 1):
                    shaper = ("root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
                    run("ip", "netns", "exec", f"cnnhost{number}", "tc", "qdisc", "replace", "dev", "eth0", *shaper)
                print(row_of(rate, options, measure(options, str(launcher))), flush=True)
        finally:
            down(options.hosts)


if __name__ == "__main__":
    main()
