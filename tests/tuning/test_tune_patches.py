"""What an optimizer's answer may change in a prompt, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mail_prompt import PROMPT, SYSTEM

from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT
from pytest_promptfit.prompts.model import TEXT_FIELDS, Prompt
from pytest_promptfit.tuning.patches import MAX_PATCHES, OPS, Applied, Patch, apply_patches, patch_schema, read_patches
from pytest_promptfit.tuning.steps import Rules, literal_parts, protected_pieces, prune_steps, text_length

LABELS = ("spam", "ham")
RULES = Rules(TEXT_FIELDS, LABELS, DEFAULT_EXTRACT, max_length=2000)
GOOD = {
    "field": "system_prompt",
    "op": "insert_after",
    "find": "Spam wants your money.",
    "text": "A prize you never asked for is spam.",
    "reason": "prizes",
    "targets": ["s1", "s2"],
}
READ = Patch(
    "system_prompt",
    "insert_after",
    "Spam wants your money.",
    "A prize you never asked for is spam.",
    "prizes",
    ("s1", "s2"),
)


def answer(*patches: object) -> str:
    return json.dumps({"patches": list(patches)})


def applied(*patches: Patch, prompt: Prompt = PROMPT, **changes: Any) -> Applied:
    train_texts = changes.pop("train_texts", ())
    return apply_patches(prompt, patches, replace(RULES, **changes), train_texts=train_texts)


def system_after(*patches: Patch, text: str = SYSTEM, **changes: Any) -> str:
    result = applied(*patches, prompt=PROMPT.model_copy(update={"system_prompt": text}), **changes)
    assert result.problems == ()
    return result.prompt.system_prompt


def refusal(patch: Patch, prompt: Prompt = PROMPT, **changes: Any) -> str:
    result = applied(patch, prompt=prompt, **changes)
    assert result.prompt == prompt
    assert result.applied == ()
    (problem,) = result.problems
    return problem


class TestReadPatches:
    @pytest.mark.parametrize(
        "said",
        [
            answer(GOOD),
            f"```json\n{answer(GOOD)}\n```",
            f"Sure! Here [1] is what I {{would}} change:\n{answer(GOOD)}\nHope this helps {{really}}.",
            json.dumps([GOOD]),
            json.dumps(GOOD),
            json.dumps({"patches": GOOD}),
            json.dumps({"answer": {"thoughts": [1, 2], "patches": [GOOD]}}),
            f"<think>Perhaps {answer({**GOOD, 'text': 'A draft.'})}? No.</think>{answer(GOOD)}",
            answer(GOOD)[:-2] + ",]}",
            answer(GOOD)[:-2] + ', {"field": "system_pro',
            answer({**GOOD, "op": "Insert After", "field": " System-Prompt "}),
        ],
    )
    def test_finds_the_patch_whatever_stands_around_it(self, said: str) -> None:
        assert read_patches(said) == ([READ], [])

    def test_collects_patches_that_stand_one_by_one(self) -> None:
        delete = {"field": "user_prompt_suffix", "op": "delete", "find": "Be brief."}

        patches, problems = read_patches(f"First {json.dumps(GOOD)}\nthen {json.dumps(delete)}")

        assert patches == [READ, Patch("user_prompt_suffix", "delete", "Be brief.")]
        assert problems == []

    def test_reads_line_breaks_inside_strings(self) -> None:
        (patch,), problems = read_patches('{"field": "system_prompt", "op": "append", "text": "One.\nTwo."}')

        assert patch.text == "One.\nTwo."
        assert problems == []

    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            ("", "the answer is empty"),
            (" \n ", "the answer is empty"),
            ("I'm sorry, but I can't help with that.", "no patch in the answer.*I'm sorry, but I can't"),
            ("{'patches': [{'field': 'system_prompt'}]}", "no patch in the answer"),
            ('{"patches": []}', "no patch in the answer"),
            ('["system_prompt"]', "no patch in the answer"),
            ("[" * 5000 + answer(GOOD), "no patch in the answer"),
            ('{"patches": [' + "9" * 5000 + "]}", "no patch in the answer"),
            (answer("make it better"), "patch 1: expected an object, found 'make it better'"),
            (answer([[]]), "patch 1: expected an object, found a list"),
            (answer({**GOOD, "field": "examples"}), "patch 1: unknown field 'examples': expected one of system_prompt"),
            (answer({**GOOD, "field": ["system_prompt"]}), "patch 1: unknown field a list"),
            (answer({**GOOD, "op": "rewrite"}), "patch 1: unknown op 'rewrite': expected one of replace"),
            (answer({"op": "append", "text": "x"}), "patch 1: `field` is missing"),
            (answer({"field": "system_prompt", "text": "x"}), "patch 1: `op` is missing"),
            (answer({"field": "system_prompt", "op": "replace", "text": "x"}), "patch 1: `find` is missing"),
            (answer({"field": "system_prompt", "op": "append", "text": None}), "patch 1: `text` is missing"),
            (answer({**GOOD, "text": " "}), "patch 1: `text` is empty"),
            (answer({**GOOD, "find": ""}), "patch 1: `find` is empty"),
            (answer({**GOOD, "text": 7}), "patch 1: `text` must be text, found 7"),
            (answer({**GOOD, "text": "<one new rule>"}), "patch 1: `text` is the placeholder"),
            (answer({**GOOD, "text": "a\x00b"}), "patch 1: `text` has characters that no prompt can hold"),
            (answer({**GOOD, "text": "a\ud800b"}), "patch 1: `text` has characters that no prompt can hold"),
            (answer({**GOOD, "text": "word " * 61}), "patch 1: `text` has 61 words: at most 60"),
            (answer({**GOOD, "text": "字" * 1200}), "patch 1: `text` has 100 words: at most 60"),
        ],
    )
    def test_tells_what_cannot_be_used(self, said: str, problem: str) -> None:
        patches, problems = read_patches(said)

        assert patches == []
        (line,) = problems
        assert re.match(problem, line)
        assert "\n" not in line

    def test_keeps_the_good_ones_beside_the_bad(self) -> None:
        patches, problems = read_patches(answer({**GOOD, "op": "rewrite"}, GOOD))

        assert patches == [READ]
        assert len(problems) == 1

    def test_takes_sixty_words(self) -> None:
        (patch,), problems = read_patches(answer({**GOOD, "text": "word " * 60}))

        assert len(patch.text.split()) == 60
        assert problems == []

    def test_drops_what_is_more_than_four(self) -> None:
        patches, problems = read_patches(answer(*[GOOD] * 6))

        assert patches == [READ] * MAX_PATCHES
        assert problems == ["6 patches: only the first 4 were read"]

    @pytest.mark.parametrize("targets", ["s7", ["s7"], [7, None, ""], 7, None, {"id": "s7"}])
    def test_takes_targets_as_they_come(self, targets: object) -> None:
        (patch,), problems = read_patches(answer({**GOOD, "targets": targets, "reason": ["no text"]}))

        assert patch.targets in {("s7",), ("7",), ()}
        assert (patch.reason, problems) == ("", [])

    @given(st.text(alphabet=st.characters(), max_size=300))
    @example('{"patches": [{"field": ' + "[" * 900 + "]" * 900 + "}]}")
    def test_never_raises_on_any_text(self, said: str) -> None:
        patches, problems = read_patches(said)

        assert patches or problems

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from([*TEXT_FIELDS, *OPS]),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(["patches", "field", "op", "find", "text", "reason", "targets"]), inner
                )
            ),
        ),
        st.text(alphabet='[]{}",: \n`', max_size=10),
    )
    def test_never_raises_on_any_json(self, value: object, around: str) -> None:
        patches, problems = read_patches(f"{around}{json.dumps(value)}{around}")

        assert patches or problems
        assert len(patches) <= MAX_PATCHES
        assert all(patch.field in TEXT_FIELDS and patch.op in OPS for patch in patches)


class TestSchema:
    def test_takes_what_is_asked_for(self) -> None:
        jsonschema.validate({"patches": [GOOD]}, patch_schema(), jsonschema.Draft202012Validator)

    @pytest.mark.parametrize("change", [{"op": "rewrite"}, {"field": "examples"}, {"more": 1}, {"targets": "s1"}])
    def test_takes_nothing_else(self, change: dict[str, object]) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"patches": [{**GOOD, **change}]}, patch_schema())

    def test_is_strict_at_every_level(self) -> None:
        for schema in (patch_schema(), patch_schema()["properties"]["patches"]["items"]):
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False


class TestApplyPatches:
    def test_replaces(self) -> None:
        assert system_after(Patch("system_prompt", "replace", "wants your money", "sells something")) == (
            "You sort mail. Spam sells something. Ham is all else."
        )

    def test_inserts_after(self) -> None:
        assert system_after(READ) == (
            "You sort mail. Spam wants your money. A prize you never asked for is spam. Ham is all else."
        )

    def test_appends(self) -> None:
        assert system_after(Patch("system_prompt", "append", text="Be strict.")) == f"{SYSTEM} Be strict."

    def test_deletes_with_one_gap_left(self) -> None:
        assert system_after(Patch("system_prompt", "delete", "Spam wants your money.")) == (
            "You sort mail. Ham is all else."
        )

    def test_gives_new_rules_a_line_of_their_own_in_a_list(self) -> None:
        rules = "Rules:\n- Spam sells.\n- Ham does not.\n"
        first = Patch("system_prompt", "insert_after", "- Spam sells.", "- Prizes are spam.")
        last = Patch("system_prompt", "append", text="- Friends are ham.")

        assert system_after(first, last, text=rules) == (
            "Rules:\n- Spam sells.\n- Prizes are spam.\n- Ham does not.\n- Friends are ham.\n"
        )

    @pytest.mark.parametrize("find", ["Spam wants\n  your money.", "  Spam wants your money. "])
    def test_finds_with_white_space_folded(self, find: str) -> None:
        text = "You sort mail.\nSpam  wants\nyour money. Ham is all else."

        assert system_after(Patch("system_prompt", "delete", find), text=text) == "You sort mail.\nHam is all else."

    def test_finds_whole_words_only(self) -> None:
        text = "Mail is insincere or sincere."

        assert system_after(Patch("system_prompt", "replace", "sincere", "honest"), text=text) == (
            "Mail is insincere or honest."
        )

    def test_finds_words_where_no_spaces_are(self) -> None:
        assert (
            system_after(Patch("system_prompt", "replace", "邮件", "信件"), text="请分类邮件内容。")
            == "请分类信件内容。"
        )

    def test_appends_to_an_empty_field(self) -> None:
        assert system_after(Patch("system_prompt", "append", text="Be strict."), text="") == "Be strict."

    def test_keeps_new_words_apart_from_the_sample(self) -> None:
        bare = Prompt(system_prompt=SYSTEM)
        prefix = Patch("user_prompt_prefix", "append", text="Read this:")
        suffix = Patch("user_prompt_suffix", "append", text="Spam or ham?")

        result = applied(prefix, suffix, prompt=bare)

        assert result.prompt.user_prompt_prefix == "Read this:\n"
        assert result.prompt.user_prompt_suffix == "\nSpam or ham?"

    def test_applies_in_order_and_a_refused_one_stops_no_other(self) -> None:
        rename = Patch("system_prompt", "replace", "Ham is all else.", "All else is ham.")
        lost = Patch("system_prompt", "delete", "Ham is all else.")
        onwards = Patch("system_prompt", "insert_after", "All else is ham.", "Be strict.")

        result = applied(rename, lost, onwards)

        assert result.applied == (rename, onwards)
        assert result.prompt.system_prompt == "You sort mail. Spam wants your money. All else is ham. Be strict."
        (problem,) = result.problems
        assert problem.startswith("system_prompt: delete 'Ham is all else.': `find` matches 0 times")

    def test_leaves_the_rest_of_the_prompt_alone(self) -> None:
        result = applied(READ)

        unchanged = set(Prompt.model_fields) - {"system_prompt"}
        assert all(getattr(result.prompt, name) == getattr(PROMPT, name) for name in unchanged)
        assert PROMPT.system_prompt == SYSTEM

    def test_without_patches_there_is_nothing_to_tell(self) -> None:
        assert applied() == Applied(PROMPT, (), ())


class TestRefusals:
    def test_find_that_is_not_there(self) -> None:
        assert "matches 0 times" in refusal(Patch("system_prompt", "replace", "Eggs are", "Ham is"))

    def test_find_that_is_there_twice(self) -> None:
        assert "matches 2 times" in refusal(Patch("user_prompt_suffix", "insert_after", "<label>", "x"))

    @pytest.mark.parametrize("op", ["replace", "insert_after", "delete"])
    def test_find_that_is_empty(self, op: Any) -> None:
        assert "matches 0 times" in refusal(Patch("system_prompt", op, " ", "x"))

    def test_field_that_may_not_change(self) -> None:
        problem = refusal(READ, edit=("user_prompt_suffix", "examples"))

        assert problem.endswith("may not be changed, only user_prompt_suffix")

    @pytest.mark.parametrize(
        "patch", [Patch("system_prompt", "delete", SYSTEM), Patch("system_prompt", "replace", SYSTEM, " ")]
    )
    def test_blanked_text(self, patch: Patch) -> None:
        assert "leaves system_prompt empty" in refusal(patch)

    @pytest.mark.parametrize("field", ["user_prompt_prefix", "user_prompt_suffix"])
    def test_blanked_delimiter(self, field: Any) -> None:
        prompt = Prompt(user_prompt_prefix="Text", user_prompt_suffix="Text")

        assert f"leaves {field} empty" in refusal(Patch(field, "delete", "Text"), prompt)

    @pytest.mark.parametrize(
        ("patch", "mark"),
        [
            (Patch("user_prompt_prefix", "delete", "<mail>"), "<mail>"),
            (Patch("user_prompt_prefix", "replace", "<mail>", "<text>"), "<mail>"),
            (Patch("user_prompt_prefix", "append", text="Be strict."), "<mail>"),
            (Patch("user_prompt_suffix", "replace", "</mail>", "Over."), "</mail>"),
            (Patch("bot_reply_prefix", "append", text="well,"), "<label>"),
        ],
    )
    def test_delimiter_that_moves(self, patch: Patch, mark: str) -> None:
        assert f"{mark!r} must stay" in refusal(patch)

    def test_tag_that_the_reader_needs(self) -> None:
        prompt = PROMPT.model_copy(update={"bot_reply_prefix": ""})
        patch = Patch(
            "user_prompt_suffix", "replace", "End with <label>spam</label> or <label>ham</label>.", "spam or ham?"
        )

        assert "drops '<label>', which must stay" in refusal(patch, prompt)

    def test_tag_of_another_pattern(self) -> None:
        prompt = Prompt(user_prompt_suffix="\nEnd with Verdict: [[spam]] or [[ham]].")
        patch = Patch("user_prompt_suffix", "replace", "Verdict: [[spam]] or [[ham]]", "spam or ham")

        problem = refusal(patch, prompt, extract=r"Verdict:\s*\[\[(\w+)\]\]")

        assert "drops 'Verdict:', which must stay" in problem

    def test_label_word_that_no_text_says_any_more(self) -> None:
        patch = Patch("user_prompt_suffix", "replace", "or <label>ham</label>", "or nothing")

        assert "drops 'ham', which must stay" in refusal(patch)

    def test_label_words_count_not_labels(self) -> None:
        prompt = Prompt(system_prompt="Say junk or good. Not 0.", label_words={"0": "junk", "1": "good"})
        allowed = Patch("system_prompt", "delete", "Not 0.")

        assert "drops 'good'" in refusal(Patch("system_prompt", "delete", "or good"), prompt, labels=("0", "1"))
        assert applied(allowed, prompt=prompt, labels=("0", "1")).applied == (allowed,)

    def test_placeholder_of_the_labels(self) -> None:
        prompt = Prompt(system_prompt="Answer with one of {labels}.")

        assert "drops '{labels}'" in refusal(Patch("system_prompt", "replace", "{labels}", "spam, ham"), prompt)

    def test_word_may_go_where_another_text_says_it(self) -> None:
        patch = Patch("system_prompt", "delete", "Ham is all else.")

        assert applied(patch).applied == (patch,)

    @pytest.mark.parametrize(
        "text",
        [
            "Mail like 'Dear friend, send me TEN dollars now!' is spam.",
            "dear friend\nsend me ten, dollars",
            "Don't say: dont tell the boss about this",
        ],
    )
    def test_copy_of_a_training_sample(self, text: str) -> None:
        samples = ["Dear friend: send me ten dollars now", "Don't tell the boss about this."]

        assert "copied from a sample" in refusal(Patch("system_prompt", "append", text=text), train_texts=samples)

    def test_copy_that_only_its_surroundings_complete(self) -> None:
        samples = ["He says that ham is all else to me"]
        patch = Patch("system_prompt", "append", text="To me.")

        assert "copied from a sample" in refusal(patch, train_texts=samples)

    def test_five_words_in_a_row_are_no_copy(self) -> None:
        patch = Patch("system_prompt", "append", text="Dear friend, send me ten is spam.")

        assert applied(patch, train_texts=["Dear friend, send me ten dollars"]).applied == (patch,)

    def test_prompt_that_grows_too_long(self) -> None:
        room = text_length(PROMPT) + 11

        assert applied(Patch("system_prompt", "append", text="Be strict."), max_length=room).problems == ()
        problem = refusal(Patch("system_prompt", "append", text="Be strict!!"), max_length=room)
        assert f"would have {room + 1} characters: at most {room}" in problem

    def test_too_long_a_prompt_may_get_shorter(self) -> None:
        patch = Patch("system_prompt", "delete", "Spam wants your money.")

        assert applied(patch, max_length=10).applied == (patch,)

    def test_patch_that_changes_nothing(self) -> None:
        assert "changes nothing" in refusal(Patch("system_prompt", "replace", "You sort mail.", "You sort mail."))

    def test_patches_that_undo_each_other(self) -> None:
        there = Patch("system_prompt", "append", text="Be strict.")
        back = Patch("system_prompt", "delete", "Be strict.")

        result = applied(there, back)

        assert result == Applied(PROMPT, (), ("the patches together leave the prompt as it was",))


class TestProtectedPieces:
    def test_are_placeholder_tags_and_words(self) -> None:
        pieces = protected_pieces(("0", "1"), {"0": "sincere"}, DEFAULT_EXTRACT)

        assert pieces == ("{labels}", "<label>", "</label>", "sincere", "1")

    @pytest.mark.parametrize(
        ("pattern", "parts"),
        [
            (DEFAULT_EXTRACT, ["<label>", "</label>"]),
            (r"\[\[(.*?)\]\]", ["[[", "]]"]),
            (r"(?i)labels?:\s*(\w+)", ["label"]),
            (r"(?<=Answer: )(?P<label>[a-z]{2,9})$", ["Answer:"]),
            (r"[^\]a-z]+ = (\d+)|none: (.)", ["none:"]),
            ("(.*)", []),
        ],
    )
    def test_literal_parts_of_a_pattern(self, pattern: str, parts: list[str]) -> None:
        re.compile(pattern)
        assert literal_parts(pattern) == parts


WORDS = ("spam", "ham", "not", "{labels}", "<label>", "</label>", "<mail>", "</mail>", ".", "\n", "  ", '"""', "mail")
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
prompts = st.builds(Prompt, **dict.fromkeys(TEXT_FIELDS, texts))
patches = st.builds(
    Patch,
    st.sampled_from(TEXT_FIELDS),
    st.sampled_from(OPS),
    texts | st.sampled_from(WORDS),
    texts | st.just("Be strict. ") | st.text(max_size=5),
)


class TestWhateverIsPatched:
    @given(prompts, st.lists(patches, max_size=4), st.sets(st.sampled_from(TEXT_FIELDS)), st.lists(texts, max_size=2))
    def test_what_must_stay_stays(
        self, prompt: Prompt, many: list[Patch], edit: set[str], train_texts: list[str]
    ) -> None:
        result = applied(*many, prompt=prompt, edit=edit, train_texts=train_texts, max_length=100)

        before, after = prompt.model_dump(), result.prompt.model_dump()
        for field in TEXT_FIELDS:
            assert after[field].strip() or not before[field].strip()
        assert {name for name in before if before[name] != after[name]} <= edit
        for piece in ("{labels}", "<label>", "</label>"):
            assert is_said(piece, after) or not is_said(piece, before)
        for word in LABELS:
            assert is_said(rf"(?<!\w){word}(?!\w)", after) or not is_said(rf"(?<!\w){word}(?!\w)", before)
        assert text_length(result.prompt) <= max(100, text_length(prompt))
        assert (result.prompt == prompt) == (not result.applied)
        assert len(result.applied) + len(result.problems) >= len(many)

    @given(prompts)
    def test_pruned_prompts_are_shorter_and_keep_what_must_stay(self, prompt: Prompt) -> None:
        for pruned in (step.prompt for step in prune_steps(prompt, RULES)):
            assert text_length(pruned) <= text_length(prompt)
            assert sum(getattr(pruned, field) != getattr(prompt, field) for field in TEXT_FIELDS) == 1
            assert all(getattr(pruned, field).strip() or not getattr(prompt, field).strip() for field in TEXT_FIELDS)
            assert is_said("<label>", pruned.model_dump()) or not is_said("<label>", prompt.model_dump())


def is_said(pattern: str, fields: dict[str, str]) -> bool:
    return any(re.search(pattern, fields[field]) for field in TEXT_FIELDS)
