"""Prompt files as texts, in our form and in GitHub's; and the lines that a mistake in one is told in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from pathlib import Path


SHORTEST = """\
model: openai/gpt-4.1-nano
prompt: {system_prompt: Classify.}
samples:
  - {text: fine, label: good}
  - {text: awful, label: bad}
"""

WHOLE = """\
name: insincere-questions
model: openai/gpt-4.1-nano
params: {temperature: 0, max_tokens: 200}
prompt:
  system_prompt: Classify the question as sincere or insincere.
  user_prompt_prefix: "<text>"
  user_prompt_suffix: "</text>\\nEnd with Label: <label>sincere</label> or <label>insincere</label>."
  bot_reply_prefix: ""
  examples: []
  label_words: {"0": sincere, "1": insincere}
labels: ["0", "1"]
extract: '<label>(.*?)</label>'
samples:
  file: insincere.csv
  text: question_text
  label: target
  note: why
  id: qid
  canonical: must_pass
canonical:
  - {text: "Why?", label: "0", note: "a plain question"}
gates: {accuracy: 0.85, recall: {"1": 0.8}, missing: 0.02, regression: {alpha: 0.05}}
cases: strict
tune: {model: openai/o4-mini, params: {reasoning_effort: high}, iterations: 5,
       budget: {task_calls: 600, optimizer_calls: 20, usd: 1.00, seconds: 1800}, edit: [system_prompt, label_words]}
"""

# The form of the example in GitHub's documentation, with a label as the expected reply.
DOCUMENTED = """\
name: Text/Mood classifier.
description: Says the mood of a text
model: openai/gpt-4o-mini
modelParameters:
  temperature: 0.5
  maxTokens: 50
  topP: 0.9
messages:
  - role: system
    content: You are a text classifier. Reply with positive or negative.
  - role: user
    content: |
      Classify the given text:
      <text>
      {{input}}
      </text>
testData:
  - input: |
      The quick brown fox jumped over the lazy dog.
      The dog was too tired to react.
    expected: positive
  - input: No dog reacted.
    expected: negative
evaluators:
  - name: Output should be the label
    string:
      equals: '{{expected}}'
  - name: Similarity
    uses: github/similarity
"""

FEW_SHOT = """\
model: gpt-4o
messages:
  - {role: system, content: One.}
  - {role: System, content: Two.}
  - {role: user, content: "Text: a good film!"}
  - {role: assistant, content: "REPLY"}
  - {role: user, content: "Text: {{ input }}!"}
  - {role: assistant, content: "Mood: "}
testData: [{input: a, expected: good}, {input: b, expected: bad}]
"""

HEAD = """\
model: openai/m
prompt: {system_prompt: Classify.}
samples:
  - {text: fine, label: good}
  - {text: awful, label: bad}
"""


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    """Return the lines that a user reads, without the folder."""
    path = folder / "p.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PromptFileError) as caught:
        read_samples(parse_prompt_file(path))
    return str(caught.value).replace(f"{folder}{os.sep}", "").split("\n")


ADDED = {
    "unknown key": ("lables: [x]", "lables: unknown key; did you mean `labels`?"),
    "unknown key, nothing near": ("zzz: 1", "zzz: unknown key; known: name, description, model, *, tune"),
    "unknown key inside": ("tune: {itrations: 3}", "tune.itrations: unknown key; did you mean `iterations`?"),
    "unknown key in a sample": (
        "canonical: [{text: a, label: good, notes: n}]",
        "canonical.0.notes: unknown key; did you mean `note`?",
    ),
    "unknown key with a line break": ('"a\\nb": 1', r"'a\nb': unknown key; *"),
    "wrong type": ("description: 3", "description: 3: expected text (put it in quotes)"),
    "wrong type of a list": ("labels: good", "labels: 'good': expected a list"),
    "wrong type of a mapping": ("gates: [accuracy]", "gates: ['accuracy']: expected a mapping"),
    "canonical is no list": ("canonical: {text: a}", "canonical: {'text': 'a'}: expected a list"),
    "not yes or no": (
        "canonical: [{text: a, label: good, canonical: maybe}]",
        "canonical.0.canonical: 'maybe': expected true or false",
    ),
    "unknown way to judge": ("cases: loose", "cases: 'loose': expected 'strict' or 'gated'"),
    "label twice": ("labels: [good, bad, good]", "labels: ['good', 'bad', 'good']: expected each label once: good"),
    "empty label": ("labels: [good, bad, '']", "labels.2: '': expected some text"),
    "label is a number with a point": ("labels: [1.0]", "labels.0: 1.0: expected a label: put it in quotes"),
    "label is nothing": ("labels: [good, ~]", "labels.1: None: expected text (put it in quotes)"),
    "reserved label": (
        "labels: [good, bad, (missing)]",
        "labels.2: '(missing)': expected another label: this one stands for a reply without a label",
    ),
    "reserved label of a canonical": (
        "canonical: [{text: a, label: (missing)}]",
        "canonical.0.label: '(missing)': expected another label: *",
    ),
    "pattern without a group": ("extract: 'Label'", "extract: 'Label': expected a group around the label, such as *"),
    "broken pattern": ("extract: '('", "extract: '(': expected a regular expression: missing ), *"),
    "pattern that is not meant": ("extract: '[[(.*?)]]'", "extract: '[[(.*?)]]': expected a regular expression: *"),
    "pattern too deep": (
        f"extract: '{'(' * 3000}{')' * 3000}'",
        "extract: '((*: expected a simpler regular expression",
    ),
    "pattern too large": (
        "extract: '((a{1000}){1000}){1000}'",
        "extract: '((a{1000}){1000}){1000}': expected a regular expression: its counted repeats make more than *",
    ),
    "accuracy above 1": ("gates: {accuracy: 85}", "gates.accuracy: 85: expected at most 1.0"),
    "accuracy below 0": ("gates: {accuracy: -0.1}", "gates.accuracy: -0.1: expected at least 0.0"),
    "accuracy in percent": ("gates: {accuracy: 85%}", "gates.accuracy: '85%': expected a number"),
    "accuracy is a switch": ("gates: {accuracy: true}", "gates.accuracy: True: expected a number"),
    "recall of no label": (
        "gates: {recall: {goood: 0.5}}",
        "gates.recall.goood: 'goood' is not one of the labels; did you mean `good`?",
    ),
    "recall above 1": ("gates: {recall: {good: 2}}", "gates.recall.good: 2: expected at most 1.0"),
    "missing is no share": ("gates: {missing: few}", "gates.missing: 'few': expected a number"),
    "alpha is 1": ("gates: {regression: {alpha: 1}}", "gates.regression.alpha: 1: expected less than 1.0"),
    "alpha is 0": ("gates: {regression: {alpha: 0}}", "gates.regression.alpha: 0: expected more than 0.0"),
    "regression is a word": ("gates: {regression: often}", "gates.regression: 'often': expected a mapping"),
    "unknown gate": ("gates: {accuracies: 1}", "gates.accuracies: unknown key; did you mean `accuracy`?"),
    "unknown part to edit": (
        "tune: {edit: [system_promt]}",
        "tune.edit.0: 'system_promt': expected 'system_prompt', *'examples', 'label_words'*",
    ),
    "iterations below 0": ("tune: {iterations: -1}", "tune.iterations: -1: expected at least 0"),
    "iterations are a word": ("tune: {iterations: many}", "tune.iterations: 'many': expected a whole number"),
    "iterations are broken": ("tune: {iterations: 1.5}", "tune.iterations: 1.5: expected a whole number"),
    "budget below 0": ("tune: {budget: {usd: -1}}", "tune.budget.usd: -1: expected at least 0.0"),
    "unknown budget": ("tune: {budget: {dollars: 1}}", "tune.budget.dollars: unknown key; known: task_calls, *"),
    "tuner without a provider": ("tune: {model: o4-mini}", "tune.model: 'o4-mini': expected provider/model, *"),
    "parameters are no mapping": ("params: [temperature]", "params: ['temperature']: expected a mapping"),
    "parameters JSON cannot carry": (
        "params: {at: !!timestamp 2020-01-01}",
        "params: {'at': datetime.date(2020, 1, 1)}: expected values that JSON can carry",
    ),
    "parameter without end": ("params: {seed: 1e999}", "params: {'seed': inf}: expected values that JSON can carry"),
    "name with a slash": ("name: a/b", "name: 'a/b': expected a name that a folder can have: *"),
    "name with a backslash": ("name: 'a\\b'", r"name: 'a\\b': expected a name that a folder can have: *"),
    "name above": ("name: ..", "name: '..': expected a name that a folder can have: *"),
    "name here": ("name: .", "name: '.': expected a name that a folder can have: *"),
    "name ends with a dot": ("name: mood.", "name: 'mood.': expected a name that a folder can have: *"),
    "name ends with a space": ("name: 'mood '", "name: 'mood ': expected a name that a folder can have: *"),
    "name with NUL": ('name: "a\\0b"', r"name: 'a\x00b': expected a name that a folder can have: *"),
    "empty name": ("name: ''", "name: '': expected a name that a folder can have: *"),
    "name too long": (f"name: {'x' * 300}", "name: 'xx*: expected at most 80 characters"),
    "name is a list": ("name: [a]", "name: ['a']: expected text (put it in quotes)"),
    "duplicate key": ("model: openai/n", "model: said twice, first in line 1: keep one"),
    "duplicate key inside": ("params: {a: 1, a: 2}", "a: said twice, first in line 6: keep one"),
    "duplicate key, quoted": ("params: {'1': 1, 1: 2}", "1: said twice, first in line 6: keep one"),
    "key is a list": ("? [a]\n: 1", "a key must be a word, not a list or mapping"),
    "unknown alias": ("description: *nothing", "not YAML: *"),
    "another document": ("---\na: 1", "not YAML: *another document"),
    "Python object": ("params: {a: !!python/object:os.system x}", "not YAML: *python/object:os.system'"),
    "control character": ("description: 'a\x01b'", "not YAML: *: U+0001"),
    "half a character": ('description: "\\ud800"', "not YAML: *"),
}

NESTED_ALIASES = "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

NESTED_MERGES = NESTED_ALIASES.replace("[", "{<<: [").replace("]", "]}")
