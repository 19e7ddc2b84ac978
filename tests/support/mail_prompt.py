"""A prompt that sorts mail, for what changes prompts."""

from __future__ import annotations

from pytest_promptfit.prompts.model import Example, Prompt

SYSTEM = "You sort mail. Spam wants your money. Ham is all else."

PROMPT = Prompt(
    system_prompt=SYSTEM,
    user_prompt_prefix="Sort this mail: <mail>",
    user_prompt_suffix="</mail>\nEnd with <label>spam</label> or <label>ham</label>. Be brief.",
    bot_reply_prefix="Label: <label>",
    examples=(
        Example(text="Win a car", label="spam"),
        Example(text="See you at noon", label="ham"),
        Example(text="Cheap pills", label="spam"),
    ),
)
