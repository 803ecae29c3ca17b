"""What each rank sees, as plain values that travel as JSON."""

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one rank sees. None: not looked at on this rank, or not to be found out."""

    rank: int
    host: str
    processor: str
    versions: dict[str, str]
    settings: dict[str, str]
    """Environment variables that change speed or bits (``gather.SETTINGS``)."""
    cpus: list[int]
    """Cores that this process may run on."""
    quota: float | None = None
    """Cores' worth of time that the cgroup allows."""
    pools: dict[str, int] = field(default_factory=dict)
    """Threads of each library that threadpoolctl knows."""

    mpi_trouble: str | None = None
    """Why ranks could not be joined: what is wrong; what to do."""
    library: str | None = None
    library_file: str | None = None
    own_library: bool = False
    """Whether the library came with the Python environment, as a wheel."""
    launcher: str | None = None
    """What started this process; None: nothing did."""
    launcher_version: str | None = None
    mpirun: str | None = None
    """What ``mpirun --version`` says; on rank 0."""
    pmix: str | None = None
    """Version of PMIx that the launcher speaks."""
    yields: bool | None = None
    """Whether a rank that waits gives its core away."""
    ulfm_built: bool | None = None
    ulfm_on: bool | None = None
    without_han: bool = False
    """Whether Open MPI's collective component "han" is switched off."""

    folder: str | None = None
    """The run directory, or the nearest folder above it that is there; on rank 0."""
    file_system: str | None = None
    folder_trouble: str | None = None
    """Why it cannot be written to; on rank 0."""
    room: int | None = None
    """Free bytes there; on rank 0."""
    sync_seconds: float | None = None
    """To write and sync a small file there, median; on rank 0."""
    locks: bool | None = None
    """Whether a lock there keeps another process out; on rank 0, and on others of rank 0's lock."""
    sees_folder: bool | None = None
    """Whether a file that rank 0 wrote there can be read."""

    shm_room: int | None = None
    """Free bytes in /dev/shm; on the first rank of a host, like the rest of this."""
    shm_left: int | None = None
    """Segments there of jobs that are gone."""
    gpus: list[str] | None = None
    torch_cuda: bool | None = None
    aer_devices: list[str] | None = None
    aer_trouble: str | None = None

    reduction_us: float | None = None
    """Median of one Allreduce of 1749 float64; on rank 0, of several ranks."""
    circuit_ms: float | None = None
    """Median of one circuit of 13 qubits, L = 3, by our kernels."""
    circuit_trouble: str | None = None
    aer_ms: float | None = None
    load_seconds: float | None = None
    """The first circuit: compiling its kernel, or loading it."""
    kernels: str | None = None
    """Where machine code is kept; None: nowhere."""

    def to_json(self) -> str:
        """Return text, to send to other ranks."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(text))
