"""All benchmarks: ``python -m tests.benchmarks [--full] [--json PATH]``; one: ``python -m tests.benchmarks.<topic>``.

The usual sizes take a quarter of an hour, ``--full`` takes hours.
"""

from __future__ import annotations

from tests.benchmarks.measuring import main_of_all

TOPICS = (
    "replay",
    "live",
    "rate_limits",
    "cassettes",
    "nearest",
    "tuning",
    "tuning_statistics",
    "tuning_errors",
    "repeats",
)

if __name__ == "__main__":
    main_of_all(TOPICS, __doc__)
