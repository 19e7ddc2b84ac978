"""What the tuner's loop takes besides its calls: ``python -m tests.benchmarks.tuning``.

The models answer at once, from a server on loopback. The floor of a run that asks is a recording of as many calls;
that of a replayed run is its dry run. How often the tuner decides right is in ``tuning_statistics``.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from tests.benchmarks import table
from tests.benchmarks.measuring import (
    RUNS,
    Table,
    interleaved,
    main,
    median_mib,
    median_seconds,
    pytest_command,
    record_command,
    timed,
)
from tests.benchmarks.model_server import OPTIMIZER, Behaviour, running
from tests.benchmarks.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Row, Size, Timing

SAMPLES: dict[Size, int] = {"tiny": 60, "usual": 200, "full": 1000}
CALLS: dict[Size, list[int]] = {"tiny": [110], "usual": [200, 600], "full": [200, 600, 2000, 6000]}
RIGHT = 0.6
TUNE = """
tune:
  model: {{provider: openai, name: {optimizer}, base_url: "{url}"}}
  iterations: 5
  budget: {{task_calls: {calls}, optimizer_calls: 10}}
"""


def tables(folder: Path, size: Size) -> Iterator[Table]:
    """Measure a tuning run that asks, and its replay, by budget."""
    rows = [_measured(folder / str(calls), SAMPLES[size], calls, RUNS[size]) for calls in CALLS[size]]
    yield Table("Tuning with models that answer at once", rows)


def _measured(folder: Path, samples: int, calls: int, runs: int) -> Row:
    with running(Behaviour(right=RIGHT)) as url:
        tuned, plain = folder / "tuned", folder / "plain"
        path = write_project(tuned, samples, url, more=TUNE.format(optimizer=OPTIMIZER, url=url, calls=calls))
        draft = path.read_text()

        def tune(*, replay: bool) -> Timing:
            path.write_text(draft)
            path.with_name("bench.baseline.json").unlink(missing_ok=True)
            if not replay:
                shutil.rmtree(tuned / "cassettes", ignore_errors=True)
            # Only the run is selected: after it some samples may be without a reply, and their cases would fail.
            return timed(pytest_command("--tune", "--promptfit-json=report.json", f"{path.name}::tune"), tuned)

        first = tune(replay=False)
        used = _used(tuned)
        needed = used["task_calls"] + used["optimizer_calls"]
        write_project(plain, needed, url)

        def record() -> Timing:
            shutil.rmtree(plain / "cassettes", ignore_errors=True)
            return timed(record_command(), plain)

        timings = interleaved(
            runs,
            {
                "asked": lambda: tune(replay=False),
                "replayed": lambda: tune(replay=True),
                "recording": record,
                "dry": lambda: timed(pytest_command("--tune", "--tune-dry-run", f"{path.name}::tune"), tuned),
            },
        )
    seconds = {name: median_seconds(found) for name, found in timings.items()}
    return {
        "samples": samples,
        "task calls": used["task_calls"],
        "optimizer calls": used["optimizer_calls"],
        "asked s": seconds["asked"],
        "recording as many s": seconds["recording"],
        "loop ms a call": (seconds["asked"] - seconds["recording"]) / needed * 1000,
        "replayed s": seconds["replayed"],
        "dry run s": seconds["dry"],
        "replay ms a call": (seconds["replayed"] - seconds["dry"]) / needed * 1000,
        "MiB": median_mib([first, *timings["asked"]]),
    }


def _used(project: Path) -> dict[str, Any]:
    (run,) = json.loads((project / "report.json").read_text())["tune"]
    usage: dict[str, Any] = run["usage"]
    return usage


if __name__ == "__main__":
    if "--table" in sys.argv:
        table.main(sys.argv[1:])
    else:
        main("tuning", tables, __doc__)
