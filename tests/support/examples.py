"""The committed examples."""

from __future__ import annotations

GOOD = "fixtures/quickstart/ticket-router.prompt.yaml"

DRAFT = "fixtures/draft/ticket-router.prompt.yaml"

TUNING = "fixtures/tuning/ticket-router.prompt.yaml"

UPSET = "fixtures/quickstart/upset-customers.prompt.yaml"
