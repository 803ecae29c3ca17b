"""Ansatz -> the fewer, merged gates that our kernels run."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.ansatz import UNCONTROLLED, Ansatz


@dataclass
class _Merged:
    """A gate of the program: neighbours on one target, with at most one control among them."""

    target: int
    control: int
    members: list[int]


@dataclass(frozen=True, kw_only=True)
class Program:
    """Merged gates in the order in which they act; gate s applies V_s0 to its target where its control is 0, else V_s1.

    The members of gate s are ``members[starts[s]:starts[s + 1]]``, numbers of the ansatz's gates in circuit order.
    V_s1 is the product of all of them, V_s0 that of the uncontrolled ones.
    """

    targets: NDArray[np.int64]
    """Shape (s,)."""

    controls: NDArray[np.int64]
    """Shape (s,); ``UNCONTROLLED`` where there is none, and then V_s0 = V_s1."""

    supports: NDArray[np.int64]
    """Amplitudes beyond the first ``supports[s]`` are 0 after gate s, which acts within them, shape (s,)."""

    starts: NDArray[np.int64]
    """Shape (s + 1,)."""

    members: NDArray[np.int64]
    """Shape (number of the ansatz's gates,)."""

    controlled: NDArray[np.bool_]
    """Whether the member is a controlled gate, shape (number of the ansatz's gates,)."""


def compile_ansatz(ansatz: Ansatz) -> Program:
    """Merge each gate with the last one on its target, where no gate between them depends on that target.

    So a U3 on qubit q + 1 and the controlled-U3 q → q + 1 are one gate, and so are the one that closes the ring and the
    next layer's first U3: n·L + 1 gates instead of 2·n·L.

    Args:
        ansatz: of any gates on one target, with or without a control; at least one.
    """
    done: list[_Merged] = []
    waiting: dict[int, _Merged] = {}  # by target: may still take members in
    for gate, (target, control) in enumerate(zip(ansatz.targets.tolist(), ansatz.controls.tolist(), strict=True)):
        if control in waiting:
            done.append(waiting.pop(control))
        for other in [other for other, merged in waiting.items() if merged.control == target]:
            done.append(waiting.pop(other))
        merged = waiting.get(target)
        if merged and UNCONTROLLED not in (merged.control, control) and merged.control != control:
            done.append(waiting.pop(target))
            merged = None
        if merged is None:
            merged = waiting[target] = _Merged(target, control, [])
        merged.members.append(gate)
        merged.control = max(merged.control, control)
    done += waiting.values()
    members = np.array([gate for merged in done for gate in merged.members])
    targets, controls = np.array([[merged.target, merged.control] for merged in done]).T.copy()
    return Program(
        targets=targets,
        controls=controls,
        supports=2 << np.maximum.accumulate(np.maximum(targets, controls)),
        starts=np.cumsum([0, *(len(merged.members) for merged in done)]),
        members=members,
        controlled=ansatz.controls[members] != UNCONTROLLED,
    )
