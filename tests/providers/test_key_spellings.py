"""A key comes back from a server in one of nearly 200 spellings, at any place of its answer, and lands nowhere."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest
from loopback_server import Answer, chat, error, raw
from mood_project import by_keyword

from pytest_promptfit.text import REDACTED, scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mood_project import Project

KEY = 'sk-planted/Zurich"+=&0123456789'

ESCAPES: dict[str, Callable[[str], str]] = {
    "json": lambda char: f"\\u{ord(char):04x}",
    "JSON": lambda char: f"\\u{ord(char):04X}",
    "backslash": lambda char: char if char.isalnum() else f"\\{char}",
    "python": lambda char: f"\\x{ord(char):02x}",
    "javascript": lambda char: f"\\u{{{ord(char):x}}}",
    "url": lambda char: f"%{ord(char):02x}",
    "URL": lambda char: f"%{ord(char):02X}",
    "xml": lambda char: f"&#{ord(char)};",
    "XML": lambda char: f"&#x{ord(char):X};",
}
CHOSEN: dict[str, Callable[[int, str], bool]] = {
    "all": lambda at, char: True,
    "special": lambda at, char: not char.isalnum(),
    "slash": lambda at, char: char == "/",
    "odd": lambda at, char: bool(at % 2),
    "first": lambda at, char: at == 0,
    "last": lambda at, char: at == len(KEY) - 1,
}
WITHIN: dict[str, Callable[[str], str]] = {
    "": str,
    " in json": lambda text: json.dumps(text),
    " in json in json": lambda text: json.dumps(json.dumps(text)),
    " in a url": lambda text: quote(text, safe=""),
}


def spellings() -> dict[str, str]:
    """Return ways to write the key, each with a name of its own; none is written as another is."""
    found = {"as it is": KEY}
    for kind, escape in ESCAPES.items():
        for which, is_chosen in CHOSEN.items():
            spelled = "".join(escape(char) if is_chosen(at, char) else char for at, char in enumerate(KEY))
            found |= {f"{which} {kind}{around}": within(spelled) for around, within in WITHIN.items()}
    return {name: text for text, name in {text: name for name, text in found.items()}.items()}


SPELLINGS = spellings()


def body_with(said: str) -> str:
    return f'{{"choices": [{{"message": {{"content": "<label>good</label> {said}"}}}}]}}'


PLACES: dict[str, Callable[[str], Answer]] = {
    "text": lambda said: chat(f"{by_keyword('lovely')} {said}"),
    "body": lambda said: raw(body_with(said)),
    "content type": lambda said: Answer(
        200, body_with("").encode(), content_type=f"application/json; profile={said}; charset=utf-8"
    ),
    "redirect": lambda said: Answer(302, headers={"location": f"http://127.0.0.1:9/?next={said}"}),
    "error": lambda said: error(400, f"not for {said}", "content_filter"),
}


def layers(text: str) -> Iterator[str]:
    """Yield a text, what it says to a reader of JSON, of HTML and of URLs, and what those see in turn."""
    for _ in range(5):
        yield text
        text = html.unescape(unquote(re.sub(r"\\(u\{?[0-9a-fA-F]{2,4}\}?|x[0-9a-fA-F]{2}|[^\w\s])", unescaped, text)))


def unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1].strip("ux{}"), 16)) if match[1][0] in "ux" else match[1]


def holds_key(text: str) -> bool:
    return any(KEY in layer for layer in layers(text))


def leaks(folder: Path, printed: str) -> list[str]:
    texts = {"what was printed": printed}
    texts |= {str(path): path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()}
    return [name for name, text in texts.items() if holds_key(text)]


def test_there_are_many_and_each_is_the_key() -> None:
    assert len(SPELLINGS) > 180
    assert [name for name, text in SPELLINGS.items() if not holds_key(text)] == []


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_it_is_cut_out_where_it_stands_and_nothing_else(spelled: str) -> None:
    before, after = 'caf\\u00e9 "\\/" %C3%A9 &amp; ', " \\n %2F &quot; the end"
    cut = scrubber([KEY])(f"{before}{spelled}{after}")
    quotes = r'(?:\\?"){0,2}'
    assert re.fullmatch(f"{re.escape(before)}{quotes}{re.escape(REDACTED)}{quotes}{re.escape(after)}", cut)


@pytest.mark.parametrize("place", PLACES)
def test_no_output_holds_it(project: Project, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    model = {"provider": "openai", "name": "m", "base_url": project.model.url, "api_key_env": "PLANTED_KEY"}
    names = list(SPELLINGS)
    project.write(tuple((f"s{at}", f"lovely, number {at}.", "good") for at in range(len(names))), model=model)
    project.model.says = lambda text: PLACES[place](SPELLINGS[names[number_in(text)]])
    options = ("--junitxml=junit.xml", "-o", "junit_logging=all", "--promptfit-json=report.json", "-rA", "-vv")
    options += ("--promptfit-report=page.html",)
    recorded = project.record(*options)
    assert len(set(project.model.asked)) == len(names)
    assert leaks(project.path, recorded.stdout.str()) == []
    monkeypatch.delenv("PLANTED_KEY")
    replayed = project.replay(*options)
    if place in ("text", "content type"):
        replayed.assert_outcomes(passed=len(names), skipped=1)
    assert leaks(project.path, replayed.stdout.str() + replayed.stderr.str()) == []


def number_in(text: str) -> int:
    found = re.search(r"number (\d+)\.", text)
    assert found is not None
    return int(found[1])


def test_a_text_without_the_key_stays_as_it_is() -> None:
    scrub = scrubber([KEY, "%41%41%41", "short"])
    for text in ("", "AAA", 'caf\\u00e9 "\\/" %C3%A9 &amp; \\', "sk-planted", "\\u12", "%4", "&#99999999;", "short"):
        assert scrub(text) == text


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    """The search reads the whole text a few times, whatever it is made of: this would not end otherwise."""
    scrub = scrubber([KEY])
    for part in ("\\", "%25", "&amp;", "\\u005c", "sk-planted"):
        text = part * (400_000 // len(part))
        assert scrub(text) == text
    assert scrub(KEY * 10_000) == REDACTED * 10_000
