"""How fast something goes on, and how long that leaves; times are seconds of one clock."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0
"""The rate is that of so long ago until now: it moves when the model's pace does."""


class Pace:
    """How many are done in a second, over the last ``window`` seconds."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """Note that ``done`` are done by now; fewer than before begin a new count."""
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()
        self._marks.append((now, done))
        # The newest mark that is older than the window stays: the rate is measured from it.
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._window:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """How many are done in a second; 0 where too little is known."""
        if len(self._marks) < 2:
            return 0.0
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def left(self, count: int) -> str:
        """Return how long so many more take, in words; empty where that is not known."""
        return duration(count / self.rate) if self.rate and count else ""


def duration(seconds: float) -> str:
    """Return a span of time as people say it: ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
