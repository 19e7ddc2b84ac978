"""Another model goes into a prompt file, with its parameters, and nothing else in the file changes by a byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.model import model_named
from pytest_promptfit.prompts.read import parsed_prompt
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.providers.known import switched_params
from pytest_promptfit.tuning.rewrite import switched

PATH = Path("moods.prompt.yaml")
REST = "\nprompt: {system_prompt: x}  # p\nlabels: [a , b]\n"
GITHUB = "messages:\n  - {role: user, content: 'a {{input}}'}\n"


def changed(text: str, to: str, params: dict[str, Any] | None) -> str:
    return switched(text, model_named(to), params, path=PATH)


@pytest.mark.parametrize(
    ("old", "to", "params", "new"),
    [
        ("model: 'openai/m' # m", "openai/k", None, "model: 'openai/k' # m"),
        (
            "# top\nmodel: openai/m  # m\nparams: {temperature: 0.5, max_tokens: 9}  # why",
            "openai/k",
            {"temperature": 0.5, "max_completion_tokens": 9},
            "# top\nmodel: openai/k  # m\nparams: {temperature: 0.5, max_completion_tokens: 9}  # why",
        ),
        (
            "params:\n  max_tokens: 9  # short\n  seed: 3 # s\nmodel: openai/m",
            "openai/k",
            {"seed": 3, "stop": None, "logit_bias": {"5": 1}},
            'params:\n  seed: 3 # s\n  stop: null\n  logit_bias:\n    "5": 1\nmodel: openai/k',
        ),
        ("model: openai/m # m\n# below", "local/k", {"a": True}, "model: local/k # m\nparams: {a: true}\n# below"),
        ("model: openai/m\nparams: {a: 1}", "local/k", {}, "model: local/k\nparams: {}"),
        (
            "model:\n  provider: openai # p\n  name: m # n\n  params: {a: 1}\n  timeout: 30  # long",
            "openai/k",
            {"b": 2},
            "model:\n  provider: openai # p\n  name: k # n\n  timeout: 30  # long\nparams: {b: 2}",
        ),
        (
            "model:\n  provider: openai\n  name: m\n  params: {a: 1}",
            "openai/k",
            None,
            "model:\n  provider: openai\n  name: k\n  params: {a: 1}",
        ),
        (
            "model: {provider: openai, name: m, timeout: 9}",
            "openai/k",
            None,
            "model: {provider: openai, name: k, timeout: 9}",
        ),
        ("model: # m\n  provider: openai\n  name: m", "local/k", None, "model: local/k # m"),
    ],
)
def test_only_model_and_parameters_change(old: str, to: str, params: dict[str, Any] | None, new: str) -> None:
    assert changed(old + REST, to, params) == new + REST
    windows = (old + REST).replace("\n", "\r\n")
    assert changed("\ufeff" + windows, to, params) == "\ufeff" + (new + REST).replace("\n", "\r\n")


def test_github_s_form_has_its_own_words() -> None:
    old = "model: openai/gpt-4o\nresponseFormat: json_object\nmodelParameters:\n  maxTokens: 9 # m\n" + GITHUB
    params = {"response_format": {"type": "json_object"}, "max_completion_tokens": 9}
    new = old.replace("gpt-4o", "gpt-6-luna").replace("maxTokens: 9 # m", "maxCompletionTokens: 9")
    assert changed(old, "openai/gpt-6-luna", params) == new


def test_json_stays_json() -> None:
    old = '{\n  "model": "openai/m",\n  "prompt": {"system_prompt": "x"}\n}\n'
    after = changed(old, "openai/k", {"a": 0.5})
    assert '"model": "openai/k"' in after
    assert parsed_prompt(YamlSource(PATH, after)).config.params == {"a": 0.5}


@pytest.mark.parametrize(
    "text",
    ["x-models: &m openai/m\nmodel: *m", "model: &m openai/m\ndescription: *m"],
)
def test_a_model_behind_an_alias_is_left_alone(text: str) -> None:
    with pytest.raises(PromptfitError, match=r"moods.prompt.yaml:\d+: (model: |x-models: unknown)"):
        changed(text + REST, "openai/k", None)


@pytest.mark.parametrize(
    ("old", "params", "new", "wanted"),
    [
        ("local/a", {"temperature": 0, "max_tokens": 9}, "local/b", {"temperature": 0, "max_tokens": 9}),
        ("openai/gpt-6-luna", {"reasoning_effort": "none"}, "openai/gpt-5.6-luna", {"reasoning_effort": "none"}),
        (
            "openai/gpt-4.1-nano",
            {"temperature": 0.3, "max_tokens": 200, "seed": 3},
            "openai/gpt-6-luna",
            {"seed": 3, "reasoning_effort": "none", "temperature": 0.3, "max_completion_tokens": 200},
        ),
        ("openai/gpt-4.1", {"temperature": 0, "seed": 3}, "openai/o3", {"seed": 3, "max_completion_tokens": 2000}),
        ("openai/gpt-4.1", {"max_tokens": 9000}, "openai/o3", {"max_completion_tokens": 9000}),
        ("openai/gpt-4.1", {"seed": 3, "max_tokens": 9}, "anthropic/claude-haiku-5-5", {"max_tokens": 2000}),
        ("openai/gpt-4.1", {"seed": 3}, "local/b", {"seed": 3, "temperature": 0, "max_tokens": 2000}),
    ],
)
def test_the_new_model_gets_what_it_takes(old: str, params: dict[str, Any], new: str, wanted: dict[str, Any]) -> None:
    assert switched_params(params, model_named(old), model_named(new))[0] == wanted
