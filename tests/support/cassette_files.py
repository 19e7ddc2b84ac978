"""An interaction as a cassette file holds it."""

from __future__ import annotations

import gzip

from hash_model import chat_body

from pytest_promptfit.cassettes.cassette import canonical_body, checksum, request_key

URL = "https://api.openai.com/v1/chat/completions"


def interaction(text: str, reply: str | bytes, **tag: object) -> dict:
    return sealed(
        {
            "promptfit": tag,
            "request": {
                "body": canonical_body(chat_body(text)),
                "headers": {"content-type": ["application/json"]},
                "method": "POST",
                "uri": URL,
            },
            "response": {
                "body": {"string": reply},
                "headers": {"content-type": ["application/json"]},
                "status": {"code": 200, "message": "OK"},
            },
        }
    )


def sealed(entry: dict) -> dict:
    """Return an interaction with the checksum that a recording gives it; a reply in bytes is packed."""
    sent, got = entry["request"], entry["response"]["body"]["string"]
    said = gzip.decompress(got).decode() if isinstance(got, bytes) else got
    repeat = entry["promptfit"].get("repeat", 0)
    entry["promptfit"]["checksum"] = checksum(request_key(sent["method"], sent["uri"], sent["body"], repeat), said)
    return entry
