"""Findings for people and for programs."""

import json
import os
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qtrl_hpc.doctor.checks import Finding, some
from qtrl_hpc.doctor.facts import Facts
from qtrl_hpc.launcher import is_launched

FORMAT, FORMAT_VERSION = "qtrl_hpc-doctor", 1
STYLES = {"ok": "green", "mind": "yellow", "hurts": "bold red"}
WIDTH_OF_A_FILE = 120


def to_json(ranks: list[Facts], findings: list[Finding]) -> str:
    """Return one JSON object: findings as ``Finding`` has them, and all that each rank saw."""
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "hurts": count(findings, "hurts")}
    both = {"findings": [asdict(finding) for finding in findings], "ranks": [asdict(facts) for facts in ranks]}
    return json.dumps(head | both, indent=1, ensure_ascii=False)


def show(ranks: list[Facts], findings: list[Finding]) -> None:
    """Print a table by topic, what to do below each finding, and how many would hurt."""
    # Under a launcher a rank's output looks like a terminal, whatever is behind the launcher.
    console = Console(highlight=False, force_terminal=False if is_launched(os.environ) else None)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    hosts = sorted({facts.host for facts in ranks})
    ranks_in_words = "1 rank" if len(ranks) == 1 else f"{len(ranks)} ranks"
    console.print(f"qtrl_hpc.doctor: {ranks_in_words} on {some(hosts)}", markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.level]
        table.add_row(Text(finding.topic), Text(finding.level, style=style), Text(finding.text))
        if finding.advice:
            table.add_row("", "", Text(f"→ {finding.advice}", style=style))
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
    print(summary(findings))


def summary(findings: list[Finding]) -> str:
    """Return the last line of the report."""
    hurting, minor = count(findings, "hurts"), count(findings, "mind")
    return f"{hurting} would hurt a run, {minor} worth knowing"


def count(findings: list[Finding], level: str) -> int:
    """Return how many findings are of a level."""
    return sum(finding.level == level for finding in findings)
