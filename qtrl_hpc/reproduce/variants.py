"""What is run: each variant is a configuration with a name, and every study a list of variants."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from qtrl_hpc.cli import preset
from qtrl_hpc.config import TRACKING_FIELDS, Config

# What tells one result from another is every other value: these say how far, how often saved, and where to compute.
_NOT_THE_IDENTITY = frozenset({"seed", "updates", "checkpoint_every", "threads", "device"}) | TRACKING_FIELDS

ROUNDS = 4000
"""Episodes an agent in the paper's tables, after the authors' notebook."""

ROUNDS_OF_TUNED = 1500
"""Rounds in which our recipe is to be done, and of its ablations."""

AGENT_COUNTS = (1, 2, 4, 8)
LAYER_COUNTS = (3, 7, 13)
SMALL_MAPPING = (8,)
"""Hidden layer of the mapping model 14-8-1: 129 weights, with the 234 angles of L = 3 363 numbers."""

QUICK_ROUNDS = 150


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration, to be run with many seeds; all its agents are on one rank."""

    label: str
    config: Config

    @property
    def num_agents(self) -> int:
        """Return N."""
        return self.config.agents_per_rank

    @property
    def identity(self) -> str:
        """Return, as JSON, every value that decides the rewards of a seed's first rounds."""
        values = {name: value for name, value in self.config.to_dict().items() if name not in _NOT_THE_IDENTITY}
        return json.dumps(values, sort_keys=True)

    @property
    def key(self) -> str:
        """Return a name for files that no other configuration has."""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:16]

    def with_seed(self, seed: int) -> Config:
        """Return the configuration of one run."""
        return replace(self.config, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the command line says of all variants."""

    qpu: str
    quick: bool

    def variant(self, label: str, preset_name: str, rounds: int, num_agents: int, **changes: Any) -> Variant:
        """Return a preset with some values changed, to be run for so many rounds."""
        updates = QUICK_ROUNDS if self.quick else rounds
        values = {"qpu": self.qpu, "updates": updates, "checkpoint_every": updates, "agents_per_rank": num_agents}
        return Variant(label=label, config=preset(preset_name, **values, **changes))


def table1(setting: Setting, preset_name: str) -> list[Variant]:
    """Return the rows of Table I, in the paper's order."""
    return [
        setting.variant("classical", preset_name, ROUNDS, 1, policy="classical"),
        *(setting.variant(f"QTRL-{layers}", preset_name, ROUNDS, 1, layers=layers) for layers in LAYER_COUNTS),
        setting.variant("Dist-QTRL-3", preset_name, ROUNDS, 4, layers=3),
    ]


def table2(setting: Setting, preset_name: str) -> list[Variant]:
    """Return QTRL-3 with each number of agents."""
    return [setting.variant(f"N = {count}", preset_name, ROUNDS, count, layers=3) for count in AGENT_COUNTS]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One change to our recipe, and what it is about."""

    part: str
    variant: Variant


def ablations(setting: Setting) -> list[Ablation]:
    """Return the recipe, then each change to it: circuit, mapping model, layers, sizes, and the recipe's own parts."""

    def ablation(part: str, label: str, **changes: Any) -> Ablation:
        return Ablation(part=part, variant=setting.variant(label, "tuned", ROUNDS_OF_TUNED, 4, **changes))

    return [
        ablation("recipe", "as it is"),
        *(
            ablation(
                f"circuit, mapping {'affine' if activation == 'none' else 'with tanh'}",
                circuit,
                circuit=circuit,
                mapping_activation=activation,
            )
            for activation in ("tanh", "none")
            for circuit in ("trained", "frozen", "absent", "random")
        ),
        *(ablation("layers L", str(layers), layers=layers) for layers in (1, *LAYER_COUNTS)),
        *(
            ablation("hidden layers of the mapping", "-".join(map(str, sizes)), mapping_hidden_sizes=sizes)
            for sizes in ((4,), SMALL_MAPPING, (32,), (10, 64, 10), (64, 64))
        ),
        ablation("classical", "147-32-3 trained directly", policy="classical"),
        *(ablation("part of the recipe", label, **changes) for label, changes in RECIPE_PARTS),
    ]


RECIPE_PARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no logit penalty", {"logit_penalty": 0.0}),
    ("entropy bonus 0.05 instead of the penalty", {"logit_penalty": 0.0, "entropy_coefficient": 0.05}),
    ("penalty stays", {"logit_penalty_half_life": None}),
    ("step size stays", {"learning_rate_half_life": None}),
    ("gamma 0.9", {"gamma": 0.9}),
    ("gamma 0.99", {"gamma": 0.99}),
    ("raw return", {"advantage": "return"}),
    ("standardised in the episode", {"advantage": "standardised"}),
    ("summed over steps", {"time_reduction": "sum"}),
)
"""Each part of our recipe left out, or as the paper or the notebook has it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A variant of our recipe and the reward it is to reach."""

    variant: Variant
    target: float
    """Mean reward of the last 100 rounds."""
    optimum: float | None
    """The most that can be earned, where it is known."""


def claims(setting: Setting) -> list[Claim]:
    """Return our recipe where the paper is, with few parameters, and in other environments."""

    def claim(label: str, target: float, optimum: float | None, rounds: int, num_agents: int, **changes: Any) -> Claim:
        return Claim(
            variant=setting.variant(label, "tuned", rounds, num_agents, **changes), target=target, optimum=optimum
        )

    grid = "MiniGrid-Empty"
    return [
        claim("L = 3", 0.95, 0.955, ROUNDS_OF_TUNED, 4),
        claim("363 parameters", 0.95, 0.955, ROUNDS_OF_TUNED, 4, mapping_hidden_sizes=SMALL_MAPPING),
        claim("Empty-Random-5x5", 0.93, None, ROUNDS_OF_TUNED, 8, env_id=f"{grid}-Random-5x5-v0"),
        claim("Empty-8x8", 0.93, None, ROUNDS_OF_TUNED, 8, env_id=f"{grid}-8x8-v0"),
        claim(
            "CartPole-v1",
            475.0,
            500.0,
            ROUNDS_OF_TUNED,
            8,
            env_id="CartPole-v1",
            num_actions=2,
            policy_hidden_sizes=(128,),
        ),
    ]
