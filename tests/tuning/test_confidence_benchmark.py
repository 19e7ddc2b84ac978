"""``python -m tests.benchmarks.confidence`` on a made-up task: its figures, and a replay that asks nothing."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from loopback_server import Answer, LoopbackServer, Seen, told

from tests.benchmarks import confidence

if TYPE_CHECKING:
    from pathlib import Path


def leans_to_good(seen: Seen) -> Answer:
    good = 0.9 if "lovely" in seen.body["messages"][-1]["content"] else 0.6
    return told({"good": good, "bad": 1 - good})


def test_figures_and_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused-key")
    texts = [(f"a {('lovely', 'dreadful')[n % 2]} day of {1900 + n}", ("good", "bad")[n % 2]) for n in range(80)]
    for part, rows in (("train", texts[:20]), ("dev", texts[20:50]), ("test", texts[50:])):
        with (tmp_path / f"mood.{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    with LoopbackServer(leans_to_good) as server:
        arguments = ["--data", str(tmp_path), "--work", str(tmp_path), "--model", "openai/m", "--base-url", server.url]
        confidence.main(arguments)
        asked = len(server.seen)
        first = capsys.readouterr().out
        confidence.main(arguments)
        assert len(server.seen) == asked == 80
    assert capsys.readouterr().out == first
    assert "mood: accuracy 50.0 % (15 of 30, " in first
    assert "  weights on test: 50.0 % → 100.0 % (" in first
    assert "fixed 15, broke 0, p < 0.0001" in first
    (found,) = json.loads((tmp_path / "confidence.json").read_text())["tasks"]
    assert found["calibration_error"] == pytest.approx(0.35)
    assert found["coverage"] == 0.5
    assert found["error_at_threshold"] == 0
    assert found["weights"]["good"] == 1
