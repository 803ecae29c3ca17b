"""``status.json``, for scripts."""

import json
from datetime import datetime

from qtrl_hpc.status import STATUS, Status, say_failed


def test_status_holds_how_a_run_stands(tmp_path):
    left = []
    status = Status(tmp_path, updates=50, agents=4, update=0, left=left)
    status.write("running")
    first = json.loads((tmp_path / STATUS).read_text())
    assert (first["state"], first["why"], first["update"], first["left"]) == ("running", None, 0, [])
    left.append({"rank": 2})
    status.update = 20
    status.write("stopped", "asked to by a signal")
    values = json.loads((tmp_path / STATUS).read_text())
    assert (values["state"], values["why"], values["update"], values["updates"], values["agents"]) == (
        "stopped",
        "asked to by a signal",
        20,
        50,
        4,
    )
    assert values["left"] == [{"rank": 2}]
    assert values["started"] == first["started"]
    assert datetime.fromisoformat(values["changed"]) >= datetime.fromisoformat(values["started"])
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_a_rank_that_fails_changes_what_it_must_alone(tmp_path):
    Status(tmp_path, updates=50, agents=4, update=20).write("running")
    say_failed(tmp_path, "rank 3: OSError: no space")
    values = json.loads((tmp_path / STATUS).read_text())
    assert (values["state"], values["why"], values["update"]) == ("failed", "rank 3: OSError: no space", 20)


def test_failure_that_cannot_be_noted_hides_nothing(tmp_path):
    say_failed(tmp_path / "nowhere", "why")
    say_failed(tmp_path, "before the first status")
    assert json.loads((tmp_path / STATUS).read_text())["state"] == "failed"
    (tmp_path / STATUS).write_text("{")
    say_failed(tmp_path, "why")
    assert (tmp_path / STATUS).read_text() == "{"
