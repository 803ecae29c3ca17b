"""All that is known of a run -> one HTML page that needs nothing else."""

import base64
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

import qtrl_hpc
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.cli import nearest_preset
from qtrl_hpc.config import TOPICS, title_of
from qtrl_hpc.evaluate import Evaluation
from qtrl_hpc.factory import measures
from qtrl_hpc.metrics import RECENT_UPDATES, clock
from qtrl_hpc.output_file import REPORT_SIGNATURE
from qtrl_hpc.report.agent import Animation
from qtrl_hpc.report.circuit import Circuit
from qtrl_hpc.report.commands import as_flag, commands
from qtrl_hpc.report.curves import BAND, Group
from qtrl_hpc.report.data import RunData
from qtrl_hpc.report.svg import Picture
from qtrl_hpc.report.time import Time

MOST_FAILURES = 12


@dataclass(kw_only=True)
class Report:
    """What a page shows, of the run that it is about and of those beside it."""

    run: RunData
    """The run that the details are of."""
    groups: list[Group]
    """All runs, by configuration."""
    checkpoint: Checkpoint | None
    time: Time | None
    circuit: Circuit | None = None
    evaluation: Evaluation | None = None
    animation: Animation | None = None
    curves: list[Picture] = field(default_factory=list)
    time_picture: Picture | None = None
    circuit_picture: Picture | None = None
    probabilities: list[Picture] = field(default_factory=list)
    weights: Picture | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """Section -> why something of it is not there."""


def render(report: Report) -> str:
    """Return the page. Text of a run is escaped, and a page may load nothing from anywhere (its own policy)."""
    from jinja2 import Environment, StrictUndefined

    source = (files("qtrl_hpc.report") / "template.html").read_text(encoding="utf-8")
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    return REPORT_SIGNATURE + template.render(context(report))


def context(report: Report) -> dict[str, Any]:
    """Return what the template names."""
    run, checkpoint = report.run, report.checkpoint
    preset_name, differing = nearest_preset(run.config.to_dict())
    runs = [each for group in report.groups for each in group.runs]
    return {
        "report": report,
        "run": run,
        "config": run.config,
        "checkpoint": checkpoint,
        "state": state(run),
        "measured": measures(run.config),
        "headline": headline(report),
        "cards": cards(report),
        "preset": preset_name,
        "differing": [(key, as_flag(theirs), as_flag(ours)) for key, (theirs, ours) in differing.items()],
        "topics": topics(run),
        "several": len(runs) > 1,
        "table": [run_row(group, each) for group in report.groups for each in group.runs],
        "band": BAND if any(len(group.runs) > 1 for group in report.groups) else None,
        "theta": theta_table(report),
        "why": run.status.get("why"),
        "left": lost_ranks(run),
        "failures": qpu_failures(run),
        "commands": commands(run.config, run.path, checkpoint.world_size if checkpoint else 1),
        "recent": min(RECENT_UPDATES, len(run.rows)),
        "data_uri": data_uri,
        "number": number,
        "clock": clock,
        "written": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "version": qtrl_hpc.__version__,
    }


def state(run: RunData) -> str:
    """Return how a run stands; without a status, what its updates say."""
    known = run.status.get("state")
    if isinstance(known, str):
        return known
    return "done" if len(run.rows) >= run.config.updates else "unfinished"


def headline(report: Report) -> str:
    """Return in a sentence what was done and what came of it."""
    run, config = report.run, report.run.config
    who = f"{number(run.num_agents)} agents" if (run.num_agents or 0) != 1 else "one agent"
    who = who if run.num_agents is not None else "its agents"
    if config.policy == "classical":
        how = "a policy whose weights were trained directly"
    elif config.circuit != "trained":
        how = f"a policy whose weights a mapping model generates, its circuit {config.circuit}"
    else:
        how = "a policy whose weights a quantum circuit generates"
    done = f"{who} trained {how}, for {number(len(run.rows))} of {number(config.updates)} updates in {config.env_id}."
    return done[0].upper() + done[1:]


def cards(report: Report) -> list[tuple[str, str, str]]:
    """Return the few numbers that matter: what, how much, and in small print what that means."""
    run, found = report.run, report.evaluation
    shown = []
    if found:
        known = found.reward_low is not None
        between = f"95 % interval {number(found.reward_low)} to {number(found.reward_high)}; " if known else ""
        shown.append(("Evaluated reward", number(found.reward_mean), f"{between}{found.episodes} episodes"))
    recent = f"mean of the last {min(RECENT_UPDATES, len(run.rows))} updates"
    shown.append(("Training reward", number(run.recent_reward), recent))
    total, updates = run.config.updates, len(run.rows)
    shown.append(("Updates", f"{number(updates)}", f"of {number(total)}: {100.0 * updates / total:.0f} %"))
    if report.time:
        shown.append(("Time in updates", clock(report.time.seconds), f"{number(report.time.rate)} updates a second"))
    if report.checkpoint and run.config.policy == "quantum":
        trained, weights = report.checkpoint.state.Theta.vector.size, report.checkpoint.theta.size
        share = f"generate {number(weights)} weights: {100.0 * trained / weights:.0f} %"
        shown.append(("Trained numbers", number(trained), share))
    return shown


def theta_table(report: Report) -> list[tuple[str, str, str]]:
    """Return rows of what is trained and what comes of it: symbol, how many, in words."""
    if report.checkpoint is None:
        return []
    trained, spec = report.checkpoint.state.Theta, report.checkpoint.policy_spec
    sizes = "-".join(map(str, spec.sizes))
    rows = []
    if report.circuit:
        ansatz = report.circuit.ansatz
        rows += [
            ("n", number(ansatz.num_qubits), f"qubits: {number(ansatz.num_amplitudes)} basis states"),
            ("L", number(ansatz.num_layers), f"layers, {number(len(ansatz.targets))} gates in all"),
        ]
    if report.run.config.policy == "quantum":
        rows.append(("φ", number(len(trained.phi)), "angles of the circuit"))
        mapping = "-".join(map(str, report.run.config.mapping_hidden_sizes))
        rows.append(("β", number(len(trained.beta)), f"numbers of the mapping model, hidden layers {mapping}"))
    rows.append(("Θ", number(trained.vector.size), "trained in all"))
    share = 100.0 * trained.vector.size / report.checkpoint.theta.size
    rows.append(("θ", number(report.checkpoint.theta.size), f"weights of the policy {sizes}; Θ/θ is {share:.0f} %"))
    if report.circuit and report.circuit.probabilities is not None:
        circuit, spread = report.circuit, report.circuit.concentration
        rows += [
            ("S(p)", number(spread.entropy), "nats, entropy of the trained circuit's probabilities"),
            ("1/Σp²", number(spread.participation_ratio), "participation ratio: about so many basis states take part"),
            ("Σp", number(circuit.used), f"of the probability is on the {number(circuit.num_weights)} that are used"),
        ]
    return rows


def topics(run: RunData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return every value of the configuration, by topic."""
    values = run.config.to_dict()
    return [(title_of(topic), [(name, as_flag(values[name])) for name in topic.__annotations__]) for topic in TOPICS]


def run_row(group: Group, run: RunData) -> dict[str, Any]:
    """Return a run's line in the table of runs."""
    return {
        "path": str(run.path),
        "label": group.label,
        "seed": run.config.seed,
        "state": state(run),
        "updates": f"{number(len(run.rows))} of {number(run.config.updates)}",
        "reward": number(run.recent_reward),
        "seconds": clock(float(run.position("seconds")[-1])),
    }


def lost_ranks(run: RunData) -> list[dict[str, Any]]:
    """Return rank, update and cause of each rank that died while the others went on."""
    left = run.status.get("left")
    found = [each for each in left if isinstance(each, dict)] if isinstance(left, list) else []
    return [{name: each.get(name) for name in ("rank", "update", "why")} for each in found]


def qpu_failures(run: RunData) -> list[tuple[int, str, str]]:
    """Return update, agent and reason of the last QPUs that failed."""
    found = []
    for row in run.rows:
        failed = row.get("qpu_failures")
        if isinstance(failed, dict):
            found += [(row.get("update", 0), str(agent), str(reason)) for agent, reason in failed.items()]
    return found[-MOST_FAILURES:]


def number(value: float | None) -> str:
    """Return a number as people read it: whole ones in groups of three, others with four digits; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
