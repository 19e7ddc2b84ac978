"""Every benchmark runs, prints its tables and writes them as JSON; what they measure is not judged here."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.__main__ import TOPICS
from tests.benchmarks.measuring import ROOT, environment, module_command

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pytest_recording")


@pytest.mark.parametrize("topic", TOPICS)
def test_topic_prints_its_tables_and_writes_them(topic: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = module_command(topic, "--tiny", "--json", path)
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (report["version"], report["size"]) == (1, "tiny")
    tables = report["topics"][topic]
    assert tables
    for table in tables:
        assert table["title"] in ended.stdout
        assert table["rows"]
        assert any(isinstance(value, int | float) for row in table["rows"] for value in row.values())
