"""Conftests with our hooks, as the docs show them."""

from __future__ import annotations

EXAMPLE = """\
# conftest.py
import os


def pytest_promptfit_client(model):
    import httpx2  # only here, so that a replay does not wait for it
    from openai import AsyncAzureOpenAI

    if model.name == "mood-by-rule":  # a model in this process: a request's JSON in, the reply's words out
        return lambda body: "good" if "lovely" in body["messages"][-1]["content"] else "bad"
    if model.name == "our-deployment":  # an SDK's client, with its own address and credentials
        return AsyncAzureOpenAI(azure_endpoint=os.environ["AZURE_ENDPOINT"], api_version="2026-01-01")
    if model.base_url == os.environ["GATEWAY"]:  # our requests, through the company's TLS, auth and headers
        return httpx2.AsyncClient(headers={"x-gateway-token": os.environ["GATEWAY_TOKEN"]})
    return None
"""
"""The README's."""

READ_JSON = """\
# conftest.py
import json


def pytest_promptfit_extract(reply, text):
    try:
        return json.loads(reply.text)["mood"]
    except (ValueError, KeyError, TypeError):
        return ""
"""
"""The README's example."""

SHORT = """\
# conftest.py
from pytest_promptfit import Gate, GateResult


def pytest_promptfit_gate(path):
    return Gate("short", judge_length)


def judge_length(evaluation, baseline):
    long = [o.sample.case_name for o in evaluation.labeled if len(o.reply.text) > 25]
    return GateResult("short", not long, f"{len(long)} replies are longer than 25 characters", tuple(long))
"""
"""The README's example."""
