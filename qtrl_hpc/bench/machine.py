"""The machine that figures were measured on, without its name or any of its paths."""

import os
import platform
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from qtrl_hpc.bench import peers
from qtrl_hpc.provenance import git_revision, versions

# Settings that change how fast things are; none holds a path.
_SETTINGS = re.compile(r"OMP_|OPENBLAS_|MKL_|NUMBA_(CPU|OPT|NUM)|OMPI_MCA_|PRTE_MCA_")


def describe() -> dict[str, Any]:
    """Return what a reader must know to judge a figure: to be called before anything is timed."""
    processor = _processor()
    return {
        "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        "git revision": git_revision(),
        "cpu": processor.get("model name", platform.machine()),
        "virtual machine": "hypervisor" in processor.get("flags", "").split(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": 1,
        "load average at start": round(os.getloadavg()[0], 2),
        "settings": {name: value for name, value in sorted(os.environ.items()) if _SETTINGS.match(name)},
        "versions": versions(),
        "peers": peers.versions(),
    }


class Watch:
    """See how much else the machine does from now on."""

    def __init__(self) -> None:
        self._start, self._all, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def others(self) -> float:
        """Return how many cores other processes have kept busy; our children that still run count as others."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        return round(max(0.0, _busy_seconds() - self._all - (_own_seconds() - self._own)) / elapsed, 2)


def _busy_seconds() -> float:
    """Return the seconds that all cores have worked since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _processor() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _caches() -> str:
    """Return the caches that the first core sees."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found.append(f"L{level} {size}" if kind == "Unified" else f"L{level} {kind.lower()} {size}")
    return ", ".join(found) or "unknown"
