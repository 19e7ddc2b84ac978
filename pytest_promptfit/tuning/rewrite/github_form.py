"""GitHub's form of a prompt file: which of its ``messages`` say what from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.request import ChatBuilder
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts import github as github_prompt
from pytest_promptfit.tuning.rewrite.edits import Editor, ListItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.tuning.rewrite.lines import Edit
    from pytest_promptfit.tuning.rewrite.tree import Entry


def with_replies(prompt: Prompt) -> Prompt:
    """Return the prompt with its examples' replies said, because GitHub's form has no labels, only replies."""
    turns = ChatBuilder(prompt, (), model="", params={}, continues=True).request("").turns[1::2]
    pairs = zip(prompt.examples, turns, strict=True)
    examples = tuple(example.model_copy(update={"reply": turn.text}) for example, turn in pairs)
    return prompt.model_copy(update={"examples": examples})


def github_edits(editor: Editor, old: Prompt, new: Prompt) -> list[Edit]:
    """Return the edits that turn the old prompt into the new one."""
    entry = editor.entry("messages")
    if new.label_words:
        raise PromptfitError(
            f"{editor.path}:{entry.line}: label_words: GitHub's form has no place for them: use `prompt`"
        )
    editor.check_own(entry)
    return editor.relist(editor.root, entry, _Messages(editor, entry, old, new).items())


class _Messages:
    """The messages of GitHub's form: what each of them is for, and what it says from now on."""

    def __init__(self, editor: Editor, entry: Entry, old: Prompt, new: Prompt) -> None:
        self._editor, self._entry, self._old, self._new = editor, entry, old, new
        self._messages: Sequence[dict[str, Any]] = editor.value["messages"]
        roles = [str(message["role"]).lower() for message in self._messages]
        self._asking = max(at for at, role in enumerate(roles) if role == "user")
        self._system = [at for at, role in enumerate(roles) if role == "system"]
        turns = [at for at, role in enumerate(roles) if role != "system"]
        self._examples = [at for at in turns if at < self._asking]
        self._reply = [at for at in turns if at > self._asking]

    def items(self) -> list[ListItem]:
        """Return the new list of messages; new examples stand right before the message that asks."""
        old, new, asking = self._old, self._new, self._asking
        placed = {
            **self._texts("system", self._system or [-1], old.system_prompt, new.system_prompt),
            **self._texts(
                "assistant", self._reply or [len(self._messages)], old.bot_reply_prefix, new.bot_reply_prefix
            ),
            asking: self._asking_item(),
        }
        pairs = self._pairs()
        if [item.index for item in pairs] == self._examples:
            placed |= zip(self._examples, pairs, strict=True)
            pairs = []
        before, after = (
            [placed[at] for at in sorted(placed) if (at < asking) == is_before] for is_before in (True, False)
        )
        return [*before, *pairs, *after]

    def _texts(self, role: str, places: Sequence[int], old: str, new: str) -> dict[int, ListItem]:
        """Return the messages that say a text together: the first says all of it once it has changed."""
        if old == new:
            return {at: self._item(at) for at in places if 0 <= at < len(self._messages)}
        first = places[0]
        is_there = 0 <= first < len(self._messages)
        return {first: self._item(first, new) if is_there else _message(role, new)} if new else {}

    def _asking_item(self) -> ListItem:
        return self._item(self._asking, self._around(github_prompt.asked_parts(self._messages)[1]))

    def _pairs(self) -> list[ListItem]:
        """Return the examples: those that were there in their own messages."""
        new = self._new.examples
        items: list[ListItem] = []
        for example, place in zip(new, self._editor.places(self._old.examples, new), strict=True):
            asked, reply = self._around(example.text), example.reply or ""
            if place is None:
                items += [_message("user", asked), _message("assistant", reply)]
            else:
                at, answer = self._examples[2 * place : 2 * place + 2]
                items += [self._item(at, asked), self._item(answer)]
        return items

    def _around(self, text: str) -> str:
        return f"{self._new.user_prompt_prefix}{text}{self._new.user_prompt_suffix}"

    def _item(self, at: int, content: str | None = None) -> ListItem:
        """Return the message at a place, with new content if that differs."""
        message, node = self._messages[at], self._entry.value.children[at]
        if content is None or content == message["content"]:
            return ListItem(message, at)
        entry = next(entry for entry in node.entries if entry.name == "content")
        return ListItem({**message, "content": content}, at, tuple(self._editor.set(node, entry, content)))


def _message(role: str, content: str) -> ListItem:
    return ListItem({"role": role, "content": content})
