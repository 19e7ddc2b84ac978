"""The words of the page: a stranger's text made safe for it, figures, and the verdict on prompts in sentences.

What turns a text around or hides in it is written out.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from markupsafe import Markup, escape

from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.reports.verdict import change_of
from pytest_promptfit.reports.verdict import verdict_on as said_of
from pytest_promptfit.text import points, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.verdict import Tone

# Controls, formats, halves of characters and odd separators; a joiner only behind ASCII, since Indic words
# and emoji are made with it. page.js has the same.
_SUSPICIOUS = re.compile(r"[^\t\n\x20-\x7e\xa1-\xac\xae-\u02ff]")
_SPACES = re.compile(r"[ \t\r\n]+")
_JOINERS = "\u200c\u200d"
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def percent(share: float, digits: int = 1) -> str:
    """Return a share from 0 to 1 as people read it."""
    return f"{share * 100:.{digits}f}\u00a0%"


def unbroken(text: str) -> str:
    """Return text in which no figure is parted from its sign."""
    return text.replace(" %", "\u00a0%").replace("p = ", "p\u00a0=\u00a0").replace("p < ", "p\u00a0<\u00a0")


def visible(text: str) -> Markup:
    """Return text as HTML, in its own direction, with every hidden character written out."""
    lines = text.replace("\r\n", "\n")
    parts, start = [], 0
    for match in _SUSPICIOUS.finditer(lines):
        at, char = match.start(), match[0]
        is_misplaced = char in _JOINERS and (at == 0 or lines[at - 1].isascii())
        if is_misplaced or (char not in _JOINERS and unicodedata.category(char) in _HIDDEN):
            code = f"U+{ord(char):04X}"
            title = f"{code} {unicodedata.name(char, 'control character')}".lower()
            mark = Markup('<span class="mark" title="{}">{}</span>').format(title, code)
            parts += [escape(lines[start:at]), mark]
            start = match.end()
    parts.append(escape(lines[start:]))
    return Markup('<bdi dir="auto">{}</bdi>').format(Markup("").join(parts))


def address(prompt: str, case: str) -> str:
    """Return the link to a case, as page.js and an element's id understand it."""
    return f"#{quote(f'{prompt}/{case}', safe='/', errors='replace')}"


def shortened(text: str, limit: int) -> str:
    """Return the text on one line and at most ``limit`` characters long."""
    flat = _SPACES.sub(" ", text[: limit * 2]).strip(" ")
    return flat if len(flat) <= limit and len(text) <= limit * 2 else f"{flat[: limit - 1]}…"


def cut(text: str, limit: int = 2000) -> str:
    """Return the text, or its first characters and how many there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


@dataclass(frozen=True)
class DiffLine:
    """A line of a diff: added, removed, where it stands, or around it."""

    kind: str
    text: str


def diff_view(lines: Iterable[str]) -> Iterator[DiffLine]:
    """Yield the lines of a diff with what each of them is."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    for line in lines:
        is_file = line.startswith(("+++ ", "--- "))
        yield DiffLine("place" if is_file else kinds.get(line[:1], "around"), line)


Price: TypeAlias = "Callable[[str, float, float], float | None]"
"""Path of a prompt file, tokens in and out of a call of its model → USD; ``None`` where nobody knows."""


@dataclass(frozen=True)
class Verdict:
    """What is said first: a headline, and the sentences that stand behind it."""

    tone: Tone
    headline: str
    sentences: tuple[str, ...]

    @property
    def lead(self) -> str:
        """The words before the figures."""
        return self.headline.partition(": ")[0]

    @property
    def figures(self) -> str:
        """The figures of the headline, if there are any."""
        return self.headline.partition(": ")[2]


def unpriced(_path: str, _tokens_in: float, _tokens_out: float) -> None:
    """Return no price: nobody knows one."""


def verdict_on(result: PromptResult, price: Price = unpriced) -> Verdict:
    """Return the verdict on a prompt: the words that the terminal says, and what stands behind them."""
    said = said_of(result)
    headline = unbroken(said.sentence[:1].upper() + said.sentence[1:])
    evaluation, comparison = result.evaluation, result.comparison
    behind = [said.end, *_behind(result, said.tone)]
    if unanswered := len(evaluation.unanswered):
        what = "labeled case has" if unanswered == 1 else "labeled cases have"
        behind.append(f"{unanswered:,} {what} no recorded reply and cannot be counted.")
    if comparison and comparison.other_models:
        behind.append(f"The baseline is of another model, {', '.join(comparison.other_models)}.")
    if evaluation.noise:
        low, high = map(percent, evaluation.noise.interval)
        behind.append(f"The noise lies between {low} and {high} (95\u00a0% interval).")
    if comparison and (comparison.added or comparison.removed):
        moved = f"{comparison.added} cases were added, and {comparison.removed} removed or not run"
        behind.append(f"Since the baseline {moved}.")
    return Verdict(said.tone, headline, (*behind, *_cost(result, price)))


def _behind(result: PromptResult, tone: Tone) -> Iterator[str]:
    """Yield how sure the change is; where nothing can be compared, the figures and why that is so."""
    confusion, change = result.evaluation.confusion, None if tone == "open" else change_of(result)
    if change and change.is_unchanged:
        yield f"Each of the {change.shared:,} cases they share came out as before."
    elif change:
        yield f"Fixed {len(change.fixed):,}, broke {len(change.broken):,} of the {change.shared:,} cases they share."
        low, high = change.interval
        yield f"The change in accuracy lies between {points(low)} and {points(high)} points (95\u00a0% interval)."
        if tone != "same":
            what, p_value = ("drop", change.p_value) if tone == "worse" else ("gain", change.p_of_change)
            often = "less than 0.1\u00a0%" if p_value < 0.001 else percent(p_value)
            sure = unbroken(probability(p_value))
            yield f"Were nothing changed, a {what} this clear would come in {often} of runs ({sure})."
    elif confusion.total:
        low, high = wilson_interval(confusion.correct, confusion.total)
        yield (
            f"{confusion.correct:,} of {confusion.total:,} labeled cases are right "
            f"(95\u00a0% interval {percent(low)} to {percent(high)})."
        )
    if result.comparison is None:
        yield "There is no baseline yet: pytest --promptfit --promptfit-update writes it."
    elif confusion.total and not result.comparison.shared:
        yield "No labeled case is in the baseline: pytest --promptfit --promptfit-update renews it."


def _cost(result: PromptResult, price: Price) -> Iterator[str]:
    """Yield what the forward pass cost, and a call: now, and when the outcomes compared with were accepted."""
    path, usage = result.evaluation.path, result.evaluation.usage
    if not usage.calls:
        return
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    if asked := usage.calls - usage.replayed:
        paid = "an unknown price" if usage.usd is None else dollars(usage.usd)
        yield f"Cost: {paid} for {asked:,} of {usage.calls:,} replies, the others were replayed ({tokens})."
    else:
        yield f"Cost: nothing, all {usage.calls:,} replies were replayed from recordings ({tokens})."
    now = (usage.input_tokens / usage.calls, usage.output_tokens / usage.calls)
    accepted = result.comparison.accepted if result.comparison else None
    known = accepted.metrics if accepted else {}
    given, written = known.get("input_tokens"), known.get("output_tokens")
    before = ""
    if accepted and given is not None and written is not None:
        # Only this run's model is priced: what another one would have cost is not known here.
        same_price = price if accepted.model == result.evaluation.model else unpriced
        before = f"; before: {_call_words(given, written, same_price(path, given, written))}"
    yield f"A call takes {_call_words(*now, price(path, *now))}{before}."


def _call_words(tokens_in: float, tokens_out: float, usd: float | None) -> str:
    paid = f", ${usd:.2g}" if usd else ""
    return f"{tokens_in:,.1f} tokens in, {tokens_out:,.1f} out{paid}"


def dollars(usd: float | None) -> str:
    """Return an amount in USD with as many digits as say something."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd == 0 or usd >= 1 else f"${usd:.4f}"


def overall(verdicts: Sequence[Verdict], failed: int) -> Verdict:
    """Return the verdict over several prompts; ``failed`` of them have a failed case or gate."""
    total = len(verdicts)
    counts = {tone: sum(v.tone == tone for v in verdicts) for tone in ("worse", "better", "same", "open")}
    words = {"worse": "worse", "better": "better", "same": "no different", "open": "not compared"}
    tone: Tone = "worse" if counts["worse"] else "better" if counts["better"] and not failed else "same"
    lead = {
        "worse": f"{counts['worse']} of {total} prompts got worse",
        "better": f"{counts['better']} of {total} prompts got better, none worse",
    }.get(tone, f"None of {total} prompts got worse")
    others = {word: counts[one] for one, word in words.items() if counts[one] and (one != tone or tone == "same")}
    listed = ", ".join(f"{count} {word}" for word, count in others.items())
    failing = f"{failed} with a failed case or gate" if failed else "no case or gate fails"
    return Verdict(tone, f"{lead}: {'; '.join(filter(None, (listed, failing)))}", ())
