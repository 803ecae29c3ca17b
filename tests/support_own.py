"""A user's own ansätze, mapping models, QPUs, networks and environments, good and bad: ``support_own:NAME``."""

import itertools

import gymnasium
import numpy as np
import torch

from qtrl_hpc.mapping import make_mapping
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import Fixed, cp, crx, cry, cu3, cx, cz, h, rx, ry, rz, u3
from qtrl_hpc.quantum.qpu import StatevectorQPU

not_callable = 3


def everything(num_qubits, num_layers):
    """Every kind of gate; angle 0 is shared by gates with and without a control, angle 1 by two slots of one gate."""
    n, gates = num_qubits, [h(q) for q in range(num_qubits)]
    for layer in range(num_layers):
        first = 2 + 5 * layer
        gates += [rx(0, first), ry(n - 1, 0), rz(0, first + 1), u3(n - 1, 1, 1, Fixed(0.3))]
        if n > 1:
            gates += [cx(0, 1), cz(n - 1, 0), crx(1, 0, first + 2), cry(0, n - 1, 0), cp(n - 1, 0, 0)]
        else:
            gates += [ry(0, first + 2)]
        gates += [u3(0, first + 3, Fixed(-0.7), first + 4)]
        gates += [cu3(n - 1, 0, Fixed(1.1), first + 3, 1)] if n > 1 else []
    return Ansatz(num_qubits=n, num_layers=num_layers, gates=tuple(gates))


def raises(*args, **keywords):
    raise RuntimeError("not\ntoday")


def smaller(num_qubits, num_layers):
    return Ansatz(num_qubits=num_qubits - 1, num_layers=num_layers)


def no_ansatz(num_qubits, num_layers):
    return [h(0)]


def controls_itself(num_qubits, num_layers):
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers, gates=(cu3(1, 1, 0, 1, 2),))


def mapping(**keywords):
    """Ours, by another name."""
    return make_mapping(**keywords)


class Mapping:
    """Ours, with something changed."""

    def __init__(self, **keywords):
        ours = make_mapping(**keywords)
        self.num_rows, self.num_parameters = ours.num_rows, ours.num_parameters
        self.initial, self.forward, self.pullback = ours.initial, ours.forward, ours.pullback


class NoPullback(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        del self.pullback


class DullForward(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = 3


class FewerRows(Mapping):
    def __init__(self, num_rows, **keywords):
        super().__init__(num_rows=num_rows - 1, **keywords)


class NoParameters(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.num_parameters = 0


class ShortBeta(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.initial = lambda rng: rng.normal(size=3)


class SingleOutput(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = lambda beta, x: np.zeros(self.num_rows, np.float32)


class OneCotangent(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.pullback = lambda beta, cotangent: np.zeros(self.num_parameters)


class Listed(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = lambda beta, x: [0.0] * self.num_rows


class NotFinite(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = lambda beta, x: np.full(self.num_rows, np.nan)


class QPU:
    """Our simulator, with something changed."""

    def __init__(self, ansatz, precision, threads):
        self.inner = StatevectorQPU(ansatz, precision=precision, threads=threads)
        self.ansatz, self.probabilities, self.jobs = ansatz, self.inner.probabilities, self.inner.jobs


class QPUWithPullback(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.pullback = self.inner.pullback


class PullbackIsNone(QPU):
    """As a class may say that it has none."""

    pullback = None


class OtherCircuit(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(Ansatz(num_qubits=ansatz.num_qubits, num_layers=9), precision, threads)


class NoJobs(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        del self.jobs


class Doubled(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.probabilities = lambda phi: 2.0 * self.inner.probabilities(phi)


class SingleProbabilities(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.probabilities = lambda phi: self.inner.probabilities(phi).astype(np.float32)


class OneJobShort(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.jobs = lambda phis: self.inner.jobs(phis[1:])


class ShortPullback(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.pullback = lambda phi, cotangent: np.zeros(1)


def network(spec):
    """The mlp, as a module of torch's own."""
    layers = []
    for inputs, outputs in zip(spec.sizes, spec.sizes[1:], strict=False):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU() if spec.activation == "relu" else torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1], torch.nn.Dropout(0.5))


class WithBuffer(torch.nn.Module):
    """Random numbers that are no parameters, and a parameter that has no effect."""

    def __init__(self, spec):
        super().__init__()
        self.register_buffer("noise", torch.randn(spec.obs_size))
        self.unused = torch.nn.Parameter(torch.ones(2))
        self.linear = torch.nn.Linear(spec.obs_size, spec.num_actions)

    def forward(self, observations):
        return self.linear(observations * self.noise)


def no_module(spec):
    return lambda observations: observations


def no_parameters(spec):
    return torch.nn.Flatten()


def wrong_shape(spec):
    return torch.nn.Linear(spec.obs_size, spec.num_actions + 1)


class InFloat32(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.linear = torch.nn.Linear(spec.obs_size, spec.num_actions)

    def forward(self, observations):
        return self.linear(observations).float()


class Grows(torch.nn.Module):
    """One action more from the fifth call on."""

    def __init__(self, spec):
        super().__init__()
        self.linear, self.calls = torch.nn.Linear(spec.obs_size, spec.num_actions), 0

    def forward(self, observations):
        self.calls += 1
        logits = self.linear(observations)
        return logits if self.calls < 5 else torch.cat([logits, logits[:, :1]], dim=1)


class Folded(torch.nn.Module):
    """Weights of which a graph can be made without: folded into a layer, had under two names, computed beforehand."""

    def __init__(self, spec):
        super().__init__()
        self.first = torch.nn.Linear(spec.obs_size, spec.obs_size)
        self.norm = torch.nn.BatchNorm1d(spec.obs_size)
        self.again = torch.nn.Linear(spec.obs_size, spec.obs_size)
        self.again.weight = self.first.weight
        self.rows = torch.nn.Parameter(torch.randn(spec.num_actions, spec.obs_size))

    def forward(self, observations):
        values = torch.tanh(self.again(torch.tanh(self.norm(self.first(observations)))))
        return values @ (self.rows / self.rows.norm(dim=1, keepdim=True)).T


class Branches(torch.nn.Module):
    """Another layer for some observations, which no graph can say."""

    def __init__(self, spec):
        super().__init__()
        self.linear = torch.nn.Linear(spec.obs_size, spec.num_actions)

    def forward(self, observations):
        return self.linear(observations) if observations.sum() > 0 else self.linear(-observations)


class Convolution(torch.nn.Module):
    """ONNX Runtime has none in float64."""

    def __init__(self, spec):
        super().__init__()
        self.first, self.last = torch.nn.Conv1d(1, 2, 3), torch.nn.Linear(2 * (spec.obs_size - 2), spec.num_actions)

    def forward(self, observations):
        return self.last(self.first(observations[:, None]).flatten(1))


def late(good, change, calls=40):
    """Return what ``good`` returns, from so many calls on with a change: later than any start."""
    count = itertools.count()
    return lambda *given: good(*given) if next(count) < calls else change(good(*given))


class LateForward(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = late(self.forward, lambda output: output[:-1])


class LatePullback(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.pullback = late(self.pullback, lambda found: (found[0].astype(np.float32), found[1]))


class LateRaise(Mapping):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.forward = late(self.forward, lambda output: raises())


class LateProbabilities(QPUWithPullback):
    """One more than there are: those that are used would be the right ones."""

    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.probabilities = late(self.probabilities, lambda found: np.append(found, 0.0))


class LateGradient(QPUWithPullback):
    """One number for all: NumPy would repeat it."""

    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.pullback = late(self.pullback, lambda found: found[:1])


class LateJobs(QPU):
    def __init__(self, ansatz, precision, threads):
        super().__init__(ansatz, precision, threads)
        self.jobs = late(lambda phis: list(self.inner.jobs(phis)), lambda found: found[:-1])


class Room(gymnasium.Env):
    """Two actions; an episode of three steps that earns what it is told."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    render_mode = None

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), {}

    def step(self, action):
        self._steps += 1
        return np.full(2, 0.1 * self._steps, np.float32), float(action), self._steps == 3, False, {}


class NoInfo(Room):
    """As before Gymnasium: the observation alone."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class FourValues(Room):
    """As before Gymnasium: no truncation."""

    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class WordyReward(Room):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, "much", *rest


class Wide(Room):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3), super().reset(seed=seed)[1]


class Column(Room):
    """As many numbers in another shape."""

    def step(self, action):
        observation, *rest = super().step(action)
        return observation[:, None], *rest


class Complex(Room):
    def step(self, action):
        observation, *rest = super().step(action)
        return observation.astype(complex), *rest


class Blind(Room):
    def reset(self, *, seed=None, options=None):
        return np.full(2, np.nan), super().reset(seed=seed)[1]


class EndlessReward(Room):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("inf"), *rest


class Single(Room):
    """Of which there may be one at a time."""

    _is_open = False

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        if Single._is_open:
            raise RuntimeError("the port is taken")
        Single._is_open = True

    def close(self):
        Single._is_open = False


class Stumbles(Room):
    def step(self, action):
        raise RuntimeError("a stone")


class Counted(Room):
    """Something changes from the fifth episode on."""

    _episode = 0

    def reset(self, *, seed=None, options=None):
        self._episode += 1
        return super().reset(seed=seed)

    @property
    def late(self):
        return self._episode >= 5


class LateNoInfo(Counted):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation if self.late else (observation, info)


class LateFourValues(Counted):
    def step(self, action):
        found = super().step(action)
        return (*found[:3], found[4]) if self.late else found


class LateWide(Counted):
    def step(self, action):
        found = super().step(action)
        return (np.zeros(3), *found[1:]) if self.late else found


class LateStumble(Counted):
    def step(self, action):
        if self.late:
            raise ValueError("a stone")
        return super().step(action)


def room():
    return gymnasium.wrappers.TimeLimit(Room(), 2)


def no_environment():
    return 3


gymnasium.register("OwnRoom", Room)
gymnasium.register("OwnHall-v3", Room)
