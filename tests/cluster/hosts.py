"""Hosts on one machine: network namespaces joined by a bridge, each with a host name, and a stand-in for ssh."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = "qtrl{pid}h{number}"
SWITCH = "qtrl{pid}sw"
NETNS, ETC = Path("/var/run/netns"), Path("/etc/netns")

# Tries for 10 s to reach a host, whose port 1 nobody listens on.
REACH = """
import socket, sys, time
deadline = time.monotonic() + 10
while True:
    try:
        socket.create_connection((sys.argv[1], 1), timeout=1)
    except ConnectionRefusedError:
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"{sys.argv[1]} is not reached: {error}")
        time.sleep(0.05)
"""

# Called as mpirun calls ssh: HOST COMMAND…
STAND_IN = """#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$0"; exec sh -c "$1"' "$host" "$*"
"""


def skip_where_not_allowed():
    if os.geteuid() != 0:
        pytest.skip("several hosts on one machine need root, to make network namespaces")
    for command in ("ip", "unshare", "hostname"):
        if not shutil.which(command):
            pytest.skip(f"several hosts on one machine need the command {command} (iproute2, util-linux, hostname)")
    tried = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"several hosts on one machine: network namespaces are not allowed here ({tried.stderr.strip()})")


class Hosts:
    """A network of hosts, taken down when the ``with`` ends.

    Their names hold our process id, so that runs of these tests do not meet, and what a killed one left is known.

    Args:
        count: of hosts.
        folder: for the stand-in for ssh.
    """

    def __init__(self, count, folder):
        pid = os.getpid()
        self.names = [NAMES.format(pid=pid, number=number) for number in range(count)]
        self._switch = SWITCH.format(pid=pid)
        self._agent = folder / "on_host"

    def __enter__(self):
        _take_down(lambda pid: not _runs(pid))
        try:
            self._bring_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        _take_down(lambda pid: pid == os.getpid())

    def _bring_up(self):
        self._agent.write_text(STAND_IN)
        self._agent.chmod(0o755)
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        table = "127.0.0.1 localhost\n" + "".join(f"10.77.0.{i + 1} {name}\n" for i, name in enumerate(self.names))
        for i, name in enumerate(self.names):
            _ip("netns", "add", name)
            _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{i}", "netns", self._switch)
            _ip("-n", self._switch, "link", "set", f"p{i}", "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            (ETC / name).mkdir(parents=True)
            (ETC / name / "hosts").write_text(table)

    def cut(self, number):
        """Pull the plug of a host's network."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "down")

    def add_dead_network(self):
        """Give each host a second network, eth1, over which nothing arrives, as behind a firewall."""
        for i, name in enumerate(self.names):
            _ip("link", "add", "eth1", "netns", name, "type", "veth", "peer", "name", f"d{i}", "netns", self._switch)
            _ip("-n", self._switch, "link", "set", f"d{i}", "up")
            _ip("-n", name, "addr", "add", f"10.78.0.{i + 1}/24", "dev", "eth1")
            _ip("-n", name, "link", "set", "eth1", "up")
            for j in range(len(self.names)):  # known neighbours: else the kernel would say that there is nobody
                if j != i:
                    neighbour = [f"10.78.0.{j + 1}", "lladdr", f"02:00:00:00:00:{j:02x}"]
                    _ip("-n", name, "neigh", "add", *neighbour, "dev", "eth1", "nud", "permanent")

    def mend(self, number):
        """Plug it in again; return when it reaches the other hosts, for which the kernel may take a second."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "up")
        for i in range(len(self.names)):
            if i != number:
                _ip("netns", "exec", self.names[number], sys.executable, "-c", REACH, f"10.77.0.{i + 1}")

    def mpirun(self, ranks, *flags):
        """Return the command, to be followed by what to run, that shares ranks out over the hosts from the first."""
        first, mpirun = self.names[0], Path(sys.executable).with_name("mpirun")
        slots = ",".join(f"{name}:{ranks // len(self.names)}" for name in self.names)
        on_first = ["ip", "netns", "exec", first, "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', first]
        launch = [str(mpirun if mpirun.exists() else "mpirun"), "-n", str(ranks), "--host", slots, "--bind-to", "none"]
        launch += ["--prtemca", "plm_ssh_agent", str(self._agent), "--prtemca", "plm_ssh_no_tree_spawn", "1"]
        # The hosts share their cores, which mpirun cannot know, and shared memory, which real ones do not.
        return [*on_first, *launch, "--mca", "btl", "self,sm,tcp", "--mca", "mpi_yield_when_idle", "1", *flags]


def _take_down(belongs):
    """Remove the hosts of all processes that ``belongs`` is true of."""
    for place in (NETNS, ETC):
        for path in place.glob("qtrl*"):
            found = re.fullmatch(r"qtrl(\d+)(h\d+|sw)", path.name)
            if not found or not belongs(int(found[1])):
                continue
            if place == NETNS:
                _ip("netns", "delete", path.name)
            else:
                shutil.rmtree(path)


def _runs(pid):
    return Path(f"/proc/{pid}").exists()


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)
