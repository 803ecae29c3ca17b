"""``--qpu backend:SPEC`` -> a Qiskit back end and the V2 sampler that runs circuits on it."""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtrl_hpc import registry
from qtrl_hpc.errors import one_line, shown
from qtrl_hpc.quantum.ansatz import Ansatz, check_runs
from qtrl_hpc.quantum.measuring import Device

EXTRA = "pip install 'qtrl_hpc[ibm]'"
ACCOUNTS = "~/.qiskit/qiskit-ibm.json"
KINDS = "aer, generic, fake:NAME, ibm:NAME or MODULE:OBJECT"
GENERIC_SEED = 0
DEVICE_ATTRIBUTES, DEVICE_METHODS = ("ansatz", "circuits_per_job"), ("probabilities_many", "exact")


@dataclass(frozen=True)
class Backend:
    """Where circuits are run.

    Args:
        target: a ``BackendV2``.
        sampler: makes a V2 sampler for it, with a seed where the back end is a simulator.
    """

    target: Any
    sampler: Callable[[int], Any]


def find_backend(spec: str, ansatz: Ansatz, shots: int | None) -> Backend | Device:
    """Return what a SPEC names: a ``Backend``, or a device of the user's own (``measuring.Device``).

    - ``aer``: Aer without noise; ``generic``: Qiskit's ``GenericBackendV2`` of as many qubits, with noise.
    - ``fake:NAME``: a fake back end of qiskit-ibm-runtime.
    - ``ibm:NAME``: a device of IBM's, by the account in the user's own Qiskit configuration; with the name of a fake
      back end, Runtime's local testing mode, which needs none.
    - ``MODULE:OBJECT``: a ``BackendV2`` of the user's own, or a function of (ansatz, shots) that returns one, or that
      returns a device.

    Args:
        spec: what stands behind ``backend:``.
        ansatz: that it is to run.
        shots: of each circuit; None where the run has none.

    Raises:
        ValueError: there is none; the text says what was expected.
    """
    kind, _, name = spec.partition(":")
    num_qubits = ansatz.num_qubits
    if spec == "aer":
        from qiskit_aer import AerSimulator

        return by_generic_sampler(AerSimulator())
    if spec == "generic":
        return by_generic_sampler(generic_backend(num_qubits))
    if kind == "fake" and name:
        return by_generic_sampler(fake_backend(name, num_qubits))
    if kind == "ibm" and name:
        return _by_runtime(name)
    if name:
        return _of_the_user(kind, name, ansatz, shots)
    close = registry.did_you_mean(spec, ("aer", "generic"))
    raise ValueError(f"expected backend: and one of {KINDS}{close}")


def generic_backend(num_qubits: int) -> Any:
    """Return Qiskit's ``GenericBackendV2``, the same at every call."""
    from qiskit.providers.fake_provider import GenericBackendV2

    return GenericBackendV2(max(2, num_qubits), seed=GENERIC_SEED)


def fake_backend(name: str, num_qubits: int) -> Any:
    """Return one of Qiskit's fake back ends: by its class, ``FakeManilaV2``, or its name, ``fake_manila``.

    ``generic`` is ``GenericBackendV2``, which needs no extra.

    Raises:
        ValueError: there is none of that name, or qiskit-ibm-runtime is not installed.
    """
    if name == "generic":
        return generic_backend(num_qubits)
    module = _runtime("fake_provider")
    classes = [getattr(module, each) for each in dir(module) if each.startswith("Fake")]
    backends = {each.__name__: each for each in classes if hasattr(each, "backend_name")}
    for backend in backends.values():
        if name in (backend.__name__, backend.backend_name):
            return backend()
    close = registry.did_you_mean(name, backends)
    raise ValueError(f"expected a fake back end, one of generic, {', '.join(sorted(backends))}{close}")


def check_size(backend: Any, num_qubits: int) -> None:
    """Refuse a back end with too few qubits.

    Raises:
        ValueError: naming how many it has.
    """
    present = backend.num_qubits
    if present is not None and present < num_qubits:
        raise ValueError(f"expected at least {num_qubits} qubits, {backend.name} has {present}")


def _runtime(module: str) -> Any:
    try:
        return importlib.import_module(f"qiskit_ibm_runtime.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "qiskit_ibm_runtime":
            raise
        raise ValueError(f"expected qiskit-ibm-runtime to be installed: {EXTRA}") from None


def by_generic_sampler(target: Any) -> Backend:
    """Return a back end with Qiskit's own sampler, which serves any ``BackendV2``."""
    from qiskit.primitives import BackendSamplerV2

    from qtrl_hpc.quantum.checked_backend import CheckedBackend

    checked = CheckedBackend(target)
    return Backend(target, lambda seed: BackendSamplerV2(backend=checked, options={"seed_simulator": seed}))


def _by_runtime(name: str) -> Backend:
    if name.lower().startswith("fake"):
        target = fake_backend(name, 0)
    else:
        service = _runtime("qiskit_runtime_service").QiskitRuntimeService
        # The account, and all that is secret, is what the user has saved with Qiskit; nothing of it is kept here.
        try:
            target = service().backend(name)
        except Exception as error:  # of an account, of the net, of the service
            reason = f"{one_line(error)}; accounts are in {ACCOUNTS}"
            raise ValueError(f"expected a device that your IBM Quantum account gives ({reason})") from None

    def sampler(seed: int) -> Any:
        made = _runtime_sampler()(mode=target)
        if name.lower().startswith("fake"):
            made.options.simulator.seed_simulator = seed
        return made

    _runtime_sampler()
    return Backend(target, sampler)


def _runtime_sampler() -> Any:
    """Return Runtime's sampler: the one that works on the client's side since 0.50, or the one before it."""
    try:
        return _runtime("executor_sampler").Sampler
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return _runtime("sampler").SamplerV2


def _of_the_user(module: str, name: str, ansatz: Ansatz, shots: int | None) -> Backend | Device:
    from qiskit.providers import BackendV2

    found = registry.imported(f"{module}:{name}")
    if not isinstance(found, BackendV2):
        expected = "a BackendV2 of Qiskit's, or a function of (ansatz, shots) that returns one or a device"
        own = registry.made(expected, lambda: found(ansatz, shots))
        if not isinstance(own, BackendV2):
            registry.check_members(own, "a BackendV2 of Qiskit's, or a device", DEVICE_ATTRIBUTES, DEVICE_METHODS)
        found = own
    if isinstance(found, BackendV2):
        return by_generic_sampler(found)
    check_runs("a device", found.ansatz, ansatz)
    most = found.circuits_per_job
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(f"expected circuits_per_job to be None or a whole number of at least 1, got {shown(most)}")
    device: Device = found
    return device
