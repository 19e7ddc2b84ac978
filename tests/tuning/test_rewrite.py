"""A new prompt goes into its file, and nothing else in the file changes by a byte."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from repository import ROOT
from ruamel.yaml import YAML

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.labels import MISSING
from pytest_promptfit.prompts.model import TEXT_FIELDS, Example, Prompt
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.tuning.rewrite import diff_lines, file_text, rewritten, write_rewritten

if TYPE_CHECKING:
    from collections.abc import Callable

QUICKSTART = sorted((ROOT / "fixtures/quickstart").glob("*.prompt.yaml"))
FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name) / "moods.prompt.yaml"

AB = {"text": "a", "label": "b"}
CD = {"text": "c", "label": "d"}
NEW = {"text": "new", "label": "0"}


def prompt_in(text: str) -> Prompt:
    """Read a prompt file of this text."""
    PATH.write_bytes(text.encode())
    return parse_prompt_file(PATH).config.prompt


def changed(text: str, **fields: Any) -> str:
    """Return the file's text once these fields of its prompt have changed, checked as a reader sees it."""
    wanted = Prompt.model_validate({**prompt_in(text).model_dump(), **fields})
    after = rewritten(text, wanted, path=PATH)
    assert prompt_in(after) == wanted
    assert rewritten(after, wanted, path=PATH) == after
    return after


def own_file(body: str) -> str:
    """Return a prompt file with something before and after these lines of its prompt."""
    return f"# top\nmodel: 'openai/m' # m\n\nprompt: # p\n{body}\n# below\nlabels: [a , b]\n"


# Texts.

MANY = "One.\nTwo."


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("  system_prompt: Old.", "New.", "  system_prompt: New."),
        ("  system_prompt:   'Old.'  # why", "It's new.", "  system_prompt:   'It''s new.'  # why"),
        ('  system_prompt: "Old." # why', 'A "new" one.', '  system_prompt: "A \\"new\\" one." # why'),
        ("  system_prompt: Old. # why", MANY, "  system_prompt: |- # why\n    One.\n    Two."),
        ("  system_prompt: Old.", MANY + "\n", "  system_prompt: |\n    One.\n    Two."),
        ("  system_prompt: Old.", MANY + "\n\n\n", '  system_prompt: "One.\\nTwo.\\n\\n\\n"'),
        ("  system_prompt: Old.", "  One.\nTwo.", "  system_prompt: |2-\n      One.\n    Two."),
        (
            "  system_prompt: Old.",
            "One.\n\n  # Two.\n--- x",
            "  system_prompt: |-\n    One.\n\n      # Two.\n    --- x",
        ),
        ("  system_prompt: |- # why\n      One.\n      Two.", "New.", "  system_prompt: |- # why\n      New."),
        ("  system_prompt: |- # why\n      One.\n      Two.", "", '  system_prompt: "" # why'),
        ("  system_prompt: >-\n    One.\n    Two.", "New: one", "  system_prompt: >-\n    New: one"),
        ("  system_prompt: >-\n    One.\n    Two.", MANY, "  system_prompt: |-\n    One.\n    Two."),
        ("  system_prompt: |+\n    One.\n\n\n", "New.", "  system_prompt: |-\n    New."),
        ("  system_prompt: |\n    One.\n      \n", "New.", "  system_prompt: |-\n    New.\n"),
        ("  system_prompt: |\n    One.\n  \n\n  # next", "New.\n", "  system_prompt: |\n    New.\n  \n\n  # next"),
        ("  system_prompt: One\n    two\n    three # why", "New.", "  system_prompt: New. # why"),
        ('  system_prompt: "One\n    two" # why', MANY, "  system_prompt: |- # why\n    One.\n    Two."),
        ("  system_prompt:\n    One\n    two", MANY, "  system_prompt: |-\n    One.\n    Two."),
        ("  system_prompt:\n    One\n    two", "New.", "  system_prompt:\n    New."),
        ("  system_prompt: # why\n    One", MANY, "  system_prompt: # why\n    |-\n    One.\n    Two."),
        ("  system_prompt: !!str Old.", "New.", "  system_prompt: New."),
        ("  ? system_prompt\n  : Old.", "New.", "  ? system_prompt\n  : New."),
        ('  "system_prompt" : Old.', "New.", '  "system_prompt" : New.'),
        ('  system_prompt: "Old\\n"', "New\n", '  system_prompt: "New\\n"'),
        ("  user_prompt_prefix: x", "New.", "  user_prompt_prefix: x\n  system_prompt: New."),
        (
            "  user_prompt_prefix: x # why",
            MANY,
            "  user_prompt_prefix: x # why\n  system_prompt: |-\n    One.\n    Two.",
        ),
        ("      user_prompt_prefix: x", "New.", "      user_prompt_prefix: x\n      system_prompt: New."),
        ("  user_prompt_prefix: |\n    x\n", "N", '  user_prompt_prefix: |\n    x\n  system_prompt: "N"\n'),
        ("  {user_prompt_prefix: x , } # why", "a, b", '  {user_prompt_prefix: x, system_prompt: "a, b"} # why'),
        ("  {system_prompt: 'x' }", MANY, '  {system_prompt: "One.\\nTwo."}'),
        ('  {"system_prompt":"x"}', "New.", '  {"system_prompt": "New."}'),
        ("  {}", "New.", "  system_prompt: New."),
    ],
)
def test_a_text_changes_in_its_place(old: str, value: str, new: str) -> None:
    assert changed(own_file(old), system_prompt=value) == own_file(new)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("yes", '"yes"'),
        ("N", '"N"'),
        ("null", '"null"'),
        ("~", '"~"'),
        ("<<", '"<<"'),
        ("=", '"="'),
        ("0", '"0"'),
        ("0o17", '"0o17"'),
        ("0x1F", '"0x1F"'),
        ("1e3", '"1e3"'),
        ("12:30:45", '"12:30:45"'),
        ("2001-12-14", '"2001-12-14"'),
        (".inf", '".inf"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("a:", '"a:"'),
        ("- a", '"- a"'),
        ('say "x": y', "'say \"x\": y'"),
        (" a ", '" a "'),
        ("a\tb", '"a\\tb"'),
        ("a \nb", '"a \\nb"'),
        ("\na", '"\\na"'),
        ("\n", '"\\n"'),
        ("a\u0085b", '"a\\Nb"'),
        ("a\u2028\nb", '"a\\L\\nb"'),
        ("\ufeffa", '"\\uFEFFa"'),
        ("a\r\nb", '"a\\r\\nb"'),
        ("\x1b[0m", '"\\e[0m"'),
        ("a:b c#d it's", "a:b c#d it's"),
        ("<text>", "<text>"),
        ("ein Übergrößenträger 😀", "ein Übergrößenträger 😀"),
        ("word " * 200 + "end", "word " * 200 + "end"),
        ("{labels}", '"{labels}"'),
        ("Labels: {labels}", '"Labels: {labels}"'),
    ],
)
def test_quoting_is_the_mildest_that_every_reader_understands(value: str, written: str) -> None:
    after = changed(own_file("  system_prompt: Old."), system_prompt=value)
    assert after == own_file(f"  system_prompt: {written}")
    for loaded in readings(after):
        assert loaded["prompt"]["system_prompt"] == value


def readings(text: str) -> list[dict[str, Any]]:
    """Return what a reader of YAML 1.1 and one of YAML 1.2 make of a file."""
    return [yaml.safe_load(text), YAML(typ="safe", pure=True).load(text)]


def test_blank_lines_below_do_not_become_part_of_a_text() -> None:
    after = changed(own_file("  system_prompt: Old.\n\n\n"), system_prompt=MANY + "\n\n")
    assert after == own_file('  system_prompt: "One.\\nTwo.\\n\\n"\n\n\n')


def test_a_comment_below_does_not_become_part_of_a_text() -> None:
    body = "  system_prompt: Old.\n\n      # deep\n  user_prompt_prefix: x"
    assert changed(own_file(body), system_prompt=MANY) == own_file(body.replace("Old.", '"One.\\nTwo."'))


# Examples.


@pytest.mark.parametrize(
    ("old", "examples", "new"),
    [
        ("  system_prompt: s", [NEW], '  system_prompt: s\n  examples:\n    - text: new\n      label: "0"'),
        ("  examples: [] # none\n", [NEW], '  examples: # none\n    - text: new\n      label: "0"\n'),
        (
            "  examples:\n  - {text: a, label: b}",
            [AB, CD],
            "  examples:\n  - {text: a, label: b}\n  - text: c\n    label: d",
        ),
        (
            "  examples: # all\n    # easy\n    - text: 'a' # A\n      label: b\n\n"
            "    # hard\n    - {text: c,\n       label: d} # C",
            [NEW, CD, AB],
            '  examples: # all\n    # easy\n    - text: new\n      label: "0"\n\n'
            "    # hard\n    - {text: c,\n       label: d} # C\n    - text: 'a' # A\n      label: b",
        ),
        ("  examples:\n    -   text: a\n        label: b", [NEW], '  examples:\n    -   text: new\n        label: "0"'),
        (
            "  examples:\n    -\n      text: a\n      label: b",
            [NEW, AB],
            '  examples:\n    - text: new\n      label: "0"\n    -\n      text: a\n      label: b',
        ),
        ("  examples: [{text: a, label: b}, {text: c, label: d}] # x", [CD], "  examples: [{text: c, label: d}] # x"),
        (
            "  examples: [{text: 'a', label: b}] # x",
            [AB, CD],
            "  examples: [{text: 'a', label: b}, {text: c, label: d}] # x",
        ),
        ("  {examples: [{text: a, label: b}]}", [CD, AB], "  {examples: [{text: c, label: d}, {text: a, label: b}]}"),
        ("  {examples: [{text: a, label: b}]}", [], "  {examples: []}"),
        (
            "  # few\n  examples:\n    - {text: a, label: b}\n    # more\n  # s\n  system_prompt: s",
            [],
            "  # few\n  # s\n  system_prompt: s",
        ),
        (
            "  examples:\n    - text: a\n      label: b\n      reply: |+\n        Label: b\n\n  system_prompt: s",
            [{**AB, "reply": "Label: b\n\n"}, {**CD, "reply": " D\n"}],
            "  examples:\n    - text: a\n      label: b\n      reply: |+\n        Label: b\n\n"
            "    - text: c\n      label: d\n      reply: |2\n         D\n  system_prompt: s",
        ),
        (
            "  examples:\n    - text: a\n      label: b\n      reply:\n  # s\n  system_prompt: s",
            [AB, CD],
            "  examples:\n    - text: a\n      label: b\n      reply:\n    - text: c\n      label: d\n"
            "  # s\n  system_prompt: s",
        ),
    ],
)
def test_examples_that_stay_keep_their_own_words(old: str, examples: list[dict[str, str]], new: str) -> None:
    assert changed(own_file(old), examples=examples) == own_file(new)


def test_without_its_only_key_the_prompt_is_an_empty_mapping() -> None:
    after = changed(own_file("  examples:\n    - {text: a, label: b}"), examples=[])
    assert after == "# top\nmodel: 'openai/m' # m\n\nprompt: {} # p\n# below\nlabels: [a , b]\n"


def test_an_example_that_only_the_end_of_the_file_kept_short_can_move() -> None:
    before = "model: openai/m\nprompt:\n  examples:\n  - {text: a, label: b}\n  - label: d\n    text: |\n      c"
    after = changed(before, examples=[CD, AB])
    assert after == before.partition("  - ")[0] + "  - text: c\n    label: d\n  - text: a\n    label: b"


# Label words.


@pytest.mark.parametrize(
    ("old", "words", "new"),
    [
        ("  label_words: {0: no , '1': 'x'} # w", {"0": "no", "1": "on"}, "  label_words: {0: no, '1': 'on'} # w"),
        ("  label_words: {a: b, c: d, e: f}", {"c": "d"}, "  label_words: {c: d}"),
        ("  label_words: {a: b, c: d, e: f}", {"a": "b", "0": "x"}, '  label_words: {a: b, "0": x}'),
        ("  label_words: {a: b,\n    c: 'd#', e: f}", {"e": "g", "c": "d#"}, "  label_words: {c: 'd#', e: g}"),
        ("  label_words: {a: b}", {"0": "x, y"}, '  label_words: {"0": "x, y"}'),
        ("  label_words: {}", {"true": "x"}, '  label_words:\n    "true": x'),
        ("  label_words:\n    a: b # A\n    # C\n    c: d", {"a": "x"}, "  label_words:\n    a: x # A\n    # C"),
        (
            "  label_words:\n    true: b\n    # C\n    2: d",
            {"2": "d", "e": "f"},
            "  label_words:\n    # C\n    2: d\n    e: f",
        ),
        ("  label_words:\n    a: b\n  # s\n  system_prompt: s", {}, "  # s\n  system_prompt: s"),
        ("  system_prompt: s", {"0": "no", "1": "x"}, '  system_prompt: s\n  label_words:\n    "0": "no"\n    "1": x'),
        ("  {label_words: {a: b}}", {}, "  {label_words: {}}"),
    ],
)
def test_label_words_change_one_by_one(old: str, words: dict[str, str], new: str) -> None:
    assert changed(own_file(old), label_words=words) == own_file(new)


# The file around the prompt.

BASE = "model: openai/m\nprompt:\n  system_prompt: s\n  user_prompt_suffix: |\n    </x>\nname: n\n"
LAST = "model: openai/m\nprompt:\n  system_prompt: s\n  user_prompt_suffix: |\n    </x>"


FRAMINGS: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "both": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "no line break at the end": lambda text: text.removesuffix("\n"),
    "directive": lambda text: f"%YAML 1.1\n---\n{text}...\n",
    "document markers": lambda text: f"# 😀\n---  # é\n{text}...\n# end",
    "blank lines": lambda text: text + "\n\n  # end\n\n\n",
    "anchors": lambda text: f'description: "a\\\n  b"\nparams: &p {{stop: [a ,b]}}\n{text}tune: {{params: *p}}\n',
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_frames_the_prompt_stays(framing: str) -> None:
    frame = FRAMINGS[framing]
    after = changed(frame(BASE), system_prompt="a\nb", examples=[AB])
    new = BASE.replace("_prompt: s\n", "_prompt: |-\n    a\n    b\n")
    assert after == frame(new.replace("name", "  examples:\n    - text: a\n      label: b\nname"))


def test_a_text_that_ends_the_file_does_not_gain_a_line_break() -> None:
    assert changed(LAST, user_prompt_suffix="a\nb") == LAST.replace("|\n    </x>", "|-\n    a\n    b")
    assert changed(LAST, user_prompt_suffix="a\nb\n") == LAST.replace("|\n    </x>", '"a\\nb\\n"')


def test_a_key_is_not_added_below_a_text_that_it_would_lengthen() -> None:
    after = changed(LAST, bot_reply_prefix="Label:")
    assert after == LAST.replace("  user", '  bot_reply_prefix: "Label:"\n  user')


def test_a_file_that_is_json_stays_json() -> None:
    before = '{\n  "model":"openai/m",\n  "prompt": {\n    "system_prompt":"s",\n    "examples": [\n      '
    before += '{"text": "a", "label": "b"}\n    ]\n  }\n}\n'
    after = changed(before, system_prompt="é\n\u0085", examples=[AB, NEW], label_words={"a": "x"})
    head = '{\n  "model":"openai/m",\n  "prompt": '
    assert after.startswith(head)
    assert after.splitlines()[2:6] == [
        '  "prompt": {',
        '    "system_prompt": "é\\n\\u0085",',
        '    "examples": [',
        "      {",
    ]
    assert json.loads(after)["prompt"]["label_words"] == {"a": "x"}
    assert after.endswith("  }\n}\n")


def test_what_a_merge_brings_in_can_be_overridden() -> None:
    before = (
        "model: openai/m\nprompt:\n  <<: {system_prompt: s, examples: [{text: a, label: b}]}\n  user_prompt_prefix: p\n"
    )
    assert changed(before, system_prompt="t", examples=[]) == before + "  system_prompt: t\n  examples: []\n"
    own = before + "  examples: [{text: c, label: d}] # x\n"
    assert changed(own, examples=[]) == own.replace("[{text: c, label: d}]", "[]")


@pytest.mark.parametrize("path", QUICKSTART, ids=lambda path: path.name)
def test_the_quickstart_keeps_all_but_the_lines_that_change(path: Path) -> None:
    before = file_text(path)
    after = changed(before, system_prompt="One.\n\nTwo.", examples=[AB, NEW], label_words={"a": "0"})
    prompt_block = re.compile(r"^prompt:\n.*?(?=^\S)", re.DOTALL | re.MULTILINE)
    assert prompt_block.sub("", after) == prompt_block.sub("", before) != before
    kept = re.findall(r"^  (?:user_prompt|bot_reply)_.*$", before, re.MULTILINE)
    assert kept
    assert [line for line in kept if line not in after.splitlines()] == []
    assert rewritten(before, prompt_in(before), path=path) == before


# What is refused.


@pytest.mark.parametrize(
    ("body", "fields", "said"),
    [
        ("prompt:\n  system_prompt: &s x\ndescription: *s", {"system_prompt": "y"}, ":3: system_prompt: has an anchor"),
        ("description: &s x\nprompt:\n  system_prompt: *s", {"system_prompt": "y"}, ":4: system_prompt: has an anchor"),
        ("prompt:\n  examples: [{text: &a a, label: *a}]", {"examples": [CD]}, ":3: examples: has an anchor or alias"),
        ("params: {user: &p {}}\nprompt: *p", {"system_prompt": "y"}, "prompt: stands elsewhere, behind an alias"),
        ("prompt: &p\n  system_prompt: x\nparams: {user: *p}", {"system_prompt": "y"}, "other values depend on"),
        ("prompt:\n  system_prompt: x", {"system_prompt": "\ud800"}, "with the new prompt it could not be read"),
        ("prompt: [x]", {"system_prompt": "y"}, ":2: prompt: Input should be"),
        (
            "prompt: {system_prompt: x, # why\n  user_prompt_prefix: y}",
            {"system_prompt": "y"},
            ":2: has a comment inside",
        ),
        ("prompt: {}\n---\nprompt: {}", {"system_prompt": "y"}, "not YAML"),
        ("name: x", {"system_prompt": "y"}, ":1: expected a mapping with `prompt`"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_refused_in_one_line(
    body: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(PromptfitError) as refused:
        rewritten(f"model: openai/m\n{body}\n", Prompt.model_validate(fields), path=PATH)
    assert str(refused.value).startswith(f"{PATH}:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_anchors_elsewhere_are_no_hindrance() -> None:
    before = own_file("  system_prompt: &s x\n  user_prompt_prefix: p\n  user_prompt_suffix: *s")
    assert changed(before, user_prompt_prefix="q") == before.replace("prefix: p", "prefix: q")


# GitHub's form.

GITHUB = """\
name: moods # n
model: openai/gpt-4.1
messages:
  - role: system # who
    content: >-
      You read
      moods.
  # few
  - {role: user, content: "Text: lovely", name: u}
  - role: assistant
    content: good
  - role: user
    content: 'Text: dreadful'
  - role: assistant
    content: |
      bad
  # asks
  - role: user
    content: "Text: {{ input }}" # here
labels: [good,   bad]
"""


def github(**fields: Any) -> str:
    return changed(GITHUB, **fields)


def test_github_messages_change_in_their_place() -> None:
    assert github(system_prompt="New.") == GITHUB.replace("You read\n      moods.", "New.")
    assert github(bot_reply_prefix="<label>") == GITHUB.replace(
        "# here\n", "# here\n  - role: assistant\n    content: <label>\n"
    )
    assert github(user_prompt_prefix="T: ") == GITHUB.replace("Text: ", "T: ")
    assert github(user_prompt_suffix="\nMood?") == (
        GITHUB.replace("lovely", "lovely\\nMood?")
        .replace("'Text: dreadful'", "|-\n      Text: dreadful\n      Mood?")
        .replace('"Text: {{ input }}" # here', "|- # here\n      Text: {{ input }}\n      Mood?")
    )


def test_github_messages_that_say_nothing_go() -> None:
    without = GITHUB.replace("  - role: system # who\n    content: >-\n      You read\n      moods.\n", "")
    assert github(system_prompt="") == without
    assert changed(without, system_prompt="Hi.").splitlines()[4:6] == ["  - role: system", "    content: Hi."]
    with_reply = github(bot_reply_prefix="Mood:")
    assert changed(with_reply, bot_reply_prefix="") == GITHUB


def test_github_examples_are_pairs_of_messages_before_the_one_that_asks() -> None:
    lovely, dreadful = prompt_in(GITHUB).examples
    calm = Example(text="calm", label="good")
    after = github(examples=[dreadful.model_dump(), {"text": "calm", "label": "good", "reply": "good"}])
    head, tail = GITHUB.split("  # few\n")[0], GITHUB[GITHUB.index("  # asks") :]
    own = GITHUB[GITHUB.index("  - role: user\n    content: 'Text: d") : GITHUB.index("  # asks")]
    assert (
        after
        == head + own + '  - role: user\n    content: "Text: calm"\n  - role: assistant\n    content: good\n' + tail
    )
    prompt = prompt_in(GITHUB).model_copy(update={"examples": (dreadful, calm)})
    assert rewritten(GITHUB, prompt, path=PATH) == after, "what is said for a label is written out"
    assert rewritten(after, prompt, path=PATH) == after
    assert github(examples=[lovely.model_dump(), dreadful.model_dump()]) == GITHUB


def test_several_github_messages_that_make_one_text_become_one() -> None:
    messages = (
        "  - {role: system, content: a}\n  - {role: System, content: b}\n  - {role: user, content: '{{input}}'}\n"
    )
    before = f"model: openai/m\nmessages:\n{messages}"
    assert changed(before, system_prompt="c") == before.replace("content: a", "content: c").replace(
        "  - {role: System, content: b}\n", ""
    )
    assert changed(before, user_prompt_suffix="?") == before.replace("}}", "}}?")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"label_words": {"good": "nice"}}, ":3: label_words: GitHub's form has no place for them"),
        ({"bot_reply_prefix": "Mood: "}, "cannot hold the new value of bot_reply_prefix"),
        ({"system_prompt": "Be {{mood}}."}, "{{mood}} has no value"),
        ({"user_prompt_prefix": "{{input}}"}, "{{input}} has no value"),
        ({"examples": [{"text": "x", "label": "good", "reply": "bad"}]}, "cannot hold the new value of examples"),
    ],
)
def test_what_github_s_form_cannot_say_is_refused(fields: dict[str, Any], said: str) -> None:
    prompt = prompt_in(GITHUB).model_dump() | fields
    with pytest.raises(PromptfitError) as refused:
        rewritten(GITHUB, Prompt.model_validate(prompt), path=PATH)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_github_file_with_anchors_in_its_messages_is_refused() -> None:
    before = "model: openai/m\nmessages:\n- {role: system, content: &a hi}\n- {role: user, content: '{{input}}'}\n"
    with pytest.raises(PromptfitError, match="messages: has an anchor or alias"):
        rewritten(before, Prompt(system_prompt="x"), path=PATH)


# Any prompt, in any of these files.

CHARACTERS = st.one_of(
    st.sampled_from(" \n\t\r\x00\x1b\x7f\x85\u2028\u2029\ufeff\ufffe:#-?'\"\\{}[]|>&*!%@`,~=<.0yné😀"),
    st.characters(exclude_categories=["Cs"]),
)
LINES = st.lists(st.sampled_from(["", " ", "a", "  b: c", "# d", "---", "...", "e ", "\tf", "- g"])).map("\n".join)
TEXTS = st.one_of(st.text(CHARACTERS, max_size=12), LINES, st.sampled_from(["yes", "0", "null", "2001-12-14", "<x>"]))
WORDS = TEXTS.map(str.strip).filter(lambda word: word and word.strip("\x1c\x1d\x1e\x1f") and word != MISSING)
EXAMPLES = st.builds(
    lambda text, label, reply: {"text": text, "label": label, **({} if reply is None else {"reply": reply})},
    TEXTS.filter(bool),
    WORDS,
    st.none() | TEXTS,
)
SAID_OF_LABELS = st.dictionaries(st.sampled_from(["a", "0", "true"]) | WORDS, WORDS, max_size=3)
PROMPTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXT_FIELDS, TEXTS),
        "examples": st.lists(st.sampled_from([AB, CD, NEW]) | EXAMPLES, max_size=4),
        **dict.fromkeys(("label_words", "label_notes"), SAID_OF_LABELS),
    },
)
LINED = (
    "  # s\n  system_prompt: |+ # S\n    One.\n\n  # x\n  examples: # X\n    # A\n    - {text: a, label: b} # B\n\n"
    "    # C\n    - text: >\n        c\n      label: d\n  label_words:\n    a: x # W\n    0: z\n  # u\n"
    "  user_prompt_suffix: 'u' # U"
)
FLOW = "{system_prompt: One , examples: [{text: a, label: b}, {text: c, label: d}], label_words: {a: x, 0: z}}"
JSON = '{"system_prompt": "One", "examples": [{"text": "a", "label": "b"}], "label_words": {"a": "x", "0": "z"}}'
FRAMES = {
    "lines": ("model: openai/m # m\nprompt: # p\n", LINED, "\n  # below\n\nlabels: [a,  b]\nname: n\n"),
    "last": ("%YAML 1.1\n---\nmodel: openai/m\nlabels: [a,  b]\n\nprompt:\n", LINED, ""),
    "last text": ("model: openai/m\nlabels: [a, b]\nprompt:\n", "  # x\n  bot_reply_prefix: |\n    One.\n    Two.", ""),
    "flow": ("model: openai/m\nprompt: ", FLOW, "  # below\nlabels: [a,  b]"),
    "JSON": ('\ufeff{"model": "openai/m", "prompt": ', JSON, ', "labels": ["a",  "b"]}'),
}
COMMENTS = ("# m", "# p", "# s", "# S", "# x", "# u", "# U", "# below")
"""Comments that belong to no value which could go."""


@given(st.sampled_from(sorted(FRAMES)), st.sampled_from(["\n", "\r\n"]), PROMPTS, PROMPTS)
@example("last", "\n", {"label_words": {"a\na": "0", "true": "0"}}, {"label_words": {"a": "0", "true": "0"}})
@example("last", "\n", {"user_prompt_suffix": "a\n"}, {"bot_reply_prefix": "b\n\n"})
@example("last text", "\n", {"user_prompt_prefix": " 0\n"}, {"user_prompt_prefix": " 0"})
@example("flow", "\n", {"examples": [{"text": "a", "label": "b"}] * 2}, {"examples": []})
def test_any_prompt_is_read_back_and_the_rest_is_untouched(
    frame: str, newline: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    head, body, tail = (part.replace("\n", newline) for part in FRAMES[frame])
    text = head + body + tail
    for fields in (first, second, {}):
        after = changed(text, **fields)
        assert after.startswith(head)
        assert after.endswith(tail)
        assert [mark for mark in COMMENTS if mark in text] == [mark for mark in COMMENTS if mark in after]
        assert newline == "\n" or not re.search(r"(?<!\r)\n|\r(?!\n)", after)
        assert_every_reader_reads(after, prompt_in(after))
        text = after


def assert_every_reader_reads(text: str, prompt: Prompt) -> None:
    for loaded in readings(text.removeprefix("\ufeff")):
        own = loaded["prompt"] or {}
        assert {field: own.get(field, "") for field in TEXT_FIELDS} == {f: getattr(prompt, f) for f in TEXT_FIELDS}
        assert [(item["text"], item.get("reply")) for item in own.get("examples", [])] == [
            (item.text, item.reply) for item in prompt.examples
        ]
        for field in ("label_words", "label_notes"):
            assert sorted(map(str.strip, own.get(field, {}).values())) == sorted(getattr(prompt, field).values())
        assert loaded["labels"] == ["a", "b"]


SAFE = TEXTS.filter(lambda text: "{{" not in text and "}}" not in text)


@given(SAFE, SAFE, SAFE, SAFE.map(str.strip), st.lists(st.builds(lambda text: {**AB, "text": text}, SAFE.filter(bool))))
def test_any_prompt_fits_github_s_form(
    system: str, prefix: str, suffix: str, reply: str, examples: list[dict[str, str]]
) -> None:
    said = [{**item, "reply": "<label>b</label>"} for item in examples]
    after = github(
        system_prompt=system,
        user_prompt_prefix=prefix,
        user_prompt_suffix=suffix,
        bot_reply_prefix=reply,
        examples=said,
    )
    assert after.startswith("name: moods # n\nmodel: openai/gpt-4.1\nmessages:\n")
    assert after.endswith("labels: [good,   bad]\n")
    assert "# asks\n" in after
    assert "# here" in after


# Writing.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "moods.prompt.yaml"
    path.write_bytes(("\ufeff" + BASE.replace("\n", "\r\n")).encode())
    return path


def test_the_file_is_replaced_byte_for_byte(file: Path) -> None:
    old = file_text(file)
    new = rewritten(old, prompt_in(old).model_copy(update={"system_prompt": "é"}), path=file)
    file.chmod(0o640)
    write_rewritten(file, old, new)
    assert file.read_bytes() == new.encode() == old.replace(": s", ": é").encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.parent / "deep" / "link.prompt.yaml"
    link.parent.mkdir()
    link.symlink_to(Path("..") / file.name)
    write_rewritten(link, file_text(link), "new")
    assert link.is_symlink()
    assert file.read_text() == "new"


def test_a_file_that_somebody_edited_meanwhile_is_left_alone(file: Path) -> None:
    old = file_text(file)
    file.write_bytes(edited := file.read_bytes().replace(b"\r\n", b"\n"))
    with pytest.raises(PromptfitError, match="changed since it was read"):
        write_rewritten(file, old, "new")
    assert file.read_bytes() == edited


def test_files_that_cannot_be_read_say_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PromptfitError, match="cannot be read: No such file"):
        write_rewritten(tmp_path / "gone.prompt.yaml", "a", "b")
    latin = tmp_path / "latin.prompt.yaml"
    latin.write_bytes(b"name: caf\xe9")
    with pytest.raises(PromptfitError, match="not UTF-8 at byte 9"):
        file_text(latin)


def test_the_diff_has_a_line_for_each_line_of_the_file() -> None:
    old, new = "a\r\nb\u2028x\r\nc\r\n", "a\r\nd\u2028x\r\nc\r\n"
    assert diff_lines(old, new, "p.yaml") == [
        "--- a/p.yaml",
        "+++ b/p.yaml",
        "@@ -1,3 +1,3 @@",
        " a",
        "-b\u2028x",
        "+d\u2028x",
        " c",
    ]
    assert diff_lines(old, old, "p.yaml") == []


NEAREST = {"nearest": 8, "from": "train.csv"}


def test_a_list_of_examples_gives_way_to_the_nearest_and_back() -> None:
    lists = "  system_prompt: s # said\n  examples: # these\n    - {text: a, label: b}\n  # last"
    before = own_file(lists)
    after = changed(before, examples=NEAREST)
    assert after == own_file(
        "  system_prompt: s # said\n  examples: # these\n    nearest: 8\n    from: train.csv\n  # last"
    )
    assert changed(after, examples=[AB]) == own_file(
        "  system_prompt: s # said\n  examples: # these\n    - text: a\n      label: b\n  # last"
    )


def test_the_nearest_are_added_and_taken_out() -> None:
    before = own_file("  system_prompt: s")
    after = changed(before, examples={"nearest": 4})
    assert after == own_file("  system_prompt: s\n  examples:\n    nearest: 4")
    assert changed(after, examples=[]) == before


def test_another_number_of_nearest_leaves_the_rest_alone() -> None:
    body = "  examples:\n    # the rows of last year\n    from: 'train.csv'\n    nearest: {} # as tuned"
    assert changed(own_file(body.format(8)), examples=NEAREST | {"nearest": 4}) == own_file(body.format(4))


@pytest.mark.parametrize("old", ["[]", "[{text: a, label: b}]", "{nearest: 2}"])
def test_the_nearest_in_braces(old: str) -> None:
    before = f"model: openai/m\nprompt: {{system_prompt: s, examples: {old}}}\n"
    after = "model: openai/m\nprompt: {system_prompt: s, examples: {nearest: 8, from: train.csv}}\n"
    assert changed(before, examples=NEAREST) == after
    assert "examples: [{text: c, label: d}]" in changed(after, examples=[CD])


def test_the_nearest_in_a_file_that_is_json() -> None:
    before = json.dumps({"model": "openai/m", "prompt": {"examples": [AB]}}, indent=2)
    assert json.loads(changed(before, examples=NEAREST))["prompt"]["examples"] == NEAREST


def test_github_s_form_has_no_place_for_the_nearest() -> None:
    text = "model: openai/m\nmessages: [{role: user, content: '{{input}}'}]\n"
    with pytest.raises(PromptfitError, match="examples: GitHub's form has no place for those nearest to a text"):
        rewritten(text, Prompt.model_validate({"examples": NEAREST}), path=PATH)
