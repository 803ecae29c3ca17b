"""What docs/results says is what the rewards beside it give, for the recipes as they are now."""

from pathlib import Path

import pytest

from qtrl_hpc.reproduce import tables, variants
from qtrl_hpc.reproduce.rewards import Rewards

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "results"
SETTING = variants.Setting(qpu="statevector", quick=False)
SEEDS = range(10)
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def rewards():
    return Rewards(FOLDER)


def table1(rewards, name):
    return [tables.table1(rewards, variants.table1(SETTING, name), SEEDS, name)]


def table2(rewards, name):
    return tables.table2(rewards, variants.table2(SETTING, name), SEEDS, name)


PAGES = {
    "table1-qtrl": lambda rewards: table1(rewards, "qtrl"),
    "table1-tuned": lambda rewards: table1(rewards, "tuned"),
    "table2-qtrl": lambda rewards: table2(rewards, "qtrl"),
    "table2-tuned": lambda rewards: table2(rewards, "tuned"),
    "tuned": lambda rewards: [tables.claims(rewards, variants.claims(SETTING), SEEDS)],
    "ablations": lambda rewards: [tables.ablations(rewards, variants.ablations(SETTING), SEEDS)],
}


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_made_of_the_rewards_beside_them(rewards, name):
    """If a recipe or a table has changed: python -m qtrl_hpc.reproduce STUDY --out docs/results, and read it again."""
    made = "\n".join(table.to_markdown() for table in PAGES[name](rewards))
    assert (FOLDER / f"{name}.md").read_text() == made


@pytest.mark.parametrize("name", PAGES)
def test_the_page_shows_these_tables(name):
    page = (DOCS / "results.md").read_text()
    start = page.index(f"<!-- {name} -->")
    shown = page[start : page.index("<!-- end -->", start)].splitlines()[1:]
    assert [line for line in shown if line] == [
        line.replace("## ", "### ") for line in (FOLDER / f"{name}.md").read_text().splitlines() if line
    ]


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LIMIT
