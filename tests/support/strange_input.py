"""What parsers are fed with: files and replies that are right, and what breaks into them."""

from __future__ import annotations

import json
from typing import Any

import yaml
from cassette_files import interaction
from prompt_files import HEAD

from pytest_promptfit.cassettes.file import HEADER

SEED_FILES = {
    "prompt": HEAD.encode(),
    "csv": b'id,text,label,note\n1,"a, ""b""",x,\n2,c,y,why\n',
    "tsv": b"id\ttext\tlabel\n1\ta\tx\n",
    "jsonl": b'{"text": "a", "label": 1}\n{"text": "b", "label": true, "id": 3}\n',
    "json": b'[{"text": "a", "label": 1.5}, {"text": ["b"], "label": "x"}]',
    "yaml": b"- {text: a, label: yes}\n- text: |\n    b\n  label: 0x1F\n- &s {text: c, label: !!str 1}\n",
    "cassette": f"{HEADER}- {json.dumps(interaction('a', 'b', sample='s', seconds=0.1, repeat=0))}\n".encode(),
    "other cassette": yaml.safe_dump({"interactions": [interaction("a", "b")], "version": 1}).encode(),
}

TOKENS = [
    *(b"\0", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\x85", "\u2028".encode()),
    *(b"1" * 5000, b"1e999", b"-0", b"NaN", b"Infinity", b"0x" + b"f" * 200, b"1:" + b"59:" * 99, b"2024-13-99"),
    *(b"!!int ", b"!!float ''", b"!!bool a", b"!!timestamp b", b"!!binary c", b"!!set ", b"!!omap ", b"!!null "),
    *(b"!!python/object/apply:os.system [touch pwned]", b"!!python/name:os.system ", b"!<x> ", b"%YAML 9.9\n---\n"),
    *(b"&a ", b"*a", b"<<: ", b"? ", b"[" * 200, b"{a: " * 200, b"- " * 200, b'"', b"'", b"|\n", b">-\n", b"---\n"),
    *(
        b"\n",
        b"\r",
        b"\t",
        b",",
        b":",
        b"#",
        b"\\ud800",
        b"\\u0000",
        b"\x1b[2J",
        b"=1+1",
        b"<<<<<<< HEAD\n",
        b"=======\n",
    ),
]

REPLIES: dict[str, Any] = {
    "openai/m": {
        "choices": [{"message": {"content": "<label>x</label>", "refusal": None}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    },
    "anthropic/m": {
        "content": [{"type": "text", "text": "<label>x</label>"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 1},
    },
}
