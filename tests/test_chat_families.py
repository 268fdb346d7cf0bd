"""Templates of real families: a carrier's text is what its whole chat would be, up to its end."""

import re
from pathlib import Path
from typing import Any

import pytest
from chat_families import FAMILIES, Family
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import carrier, text_of
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from probing.carriers.readers.turns import turns
from probing.settings import Inputs
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.templates import opened_twice
from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import Template

FORMAT = Inputs().thinking_format
THINKING = "Hmm, 12 and 30.\nWait"
ASKED = {"role": "user", "content": "Let x be 3. What is x + 4?"}
CHATS: dict[str, list[dict[str, Any]]] = {
    "one question": [ASKED],
    "with a system prompt": [{"role": "system", "content": "Let me check"}, ASKED],
    "of several turns": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello there"},
        ASKED,
    ],
}


class Served:
    """A family's tokenizer twice: as it is, and adapted."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family = family
        self.plain: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(family.save(folder))
        self.adapter = TokenizerAdapter.load(str(folder))

    def whole(self, chat: list[dict[str, Any]], **options: Any) -> str:
        text = self.plain.apply_chat_template(chat, tokenize=False, **options)
        assert isinstance(text, str)
        return text

    def ids(self, text: str) -> list[int]:
        return list(self.plain(text, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    folder = tmp_path_factory.mktemp("families")
    return {name: Served(family, folder / name) for name, family in FAMILIES.items()}


def said(answer: dict[str, Any]) -> str:
    """What a reader makes of an answer."""
    return turns("message", [answer])[0].text(FORMAT)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_and_response_are_the_whole_chat_up_to_its_end(
    served: dict[str, Served], name: str, chat: str
) -> None:
    one = served[name]
    answer: dict[str, Any] = {"role": "assistant", "content": "**Answer**: \\boxed{7}"}
    if name == "Qwen3.5":
        answer["reasoning_content"] = THINKING
    record = carrier(said(answer), messages=tuple(CHATS[chat]))
    if (name, chat) == ("Gemma", "with a system prompt"):
        with pytest.raises(UnusableCarrier, match=r"chat template refuses.*System role"):
            one.adapter.encode(record)
        return
    encoded = one.adapter.encode(record)
    whole = one.whole([*CHATS[chat], answer])
    prompt, response = text_of(one.adapter, encoded)
    assert whole.startswith(prompt + response + one.family.end)
    # The model's own tokens begin where the header ends.
    assert prompt == one.whole(CHATS[chat], add_generation_prompt=True)
    assert prompt.endswith(one.family.opening)
    assert encoded.response_text == response
    assert not encoded.seam_moved
    ids = encoded.token_ids.tolist()
    assert ids == one.ids(whole)[: len(ids)]
    if one.family.bos is not None and name != "SmolLM2":
        assert ids.count(one.plain.bos_token_id) == 1
        assert ids[0] == one.plain.bos_token_id


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Qwen3.5"])
def test_where_the_model_opens_its_thinking_the_response_does(
    served: dict[str, Served], name: str
) -> None:
    one = served[name]
    answer = {"role": "assistant", "content": "7", "reasoning_content": THINKING}
    encoded = one.adapter.encode(carrier(said(answer), messages=(ASKED,)))
    prompt, response = text_of(one.adapter, encoded)
    assert prompt.endswith(one.family.opening)
    assert response == said(answer) == f"<think>\n{THINKING}\n</think>\n\n7"


def test_thinking_that_the_prompt_opens_is_not_opened_twice(served: dict[str, Served]) -> None:
    one = served["Qwen3.5"]
    # Logs keep thinking apart, with its line breaks or without, or have the model's text as it is.
    answers = [
        {"role": "assistant", "content": "7", "reasoning_content": THINKING},
        {"role": "assistant", "content": "\n\n7", "reasoning_content": f"\n{THINKING}\n"},
        {"role": "assistant", "content": f"{THINKING}\n</think>\n\n7"},
        {"role": "assistant", "content": f"<think>\n{THINKING}\n</think>\n\n7"},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "reasoning": THINKING},
                {"type": "text", "text": "7"},
            ],
        },
    ]
    encoded = [one.adapter.encode(carrier(said(each), messages=(ASKED,))) for each in answers]
    for each in encoded:
        assert each.response_text == f"{THINKING}\n</think>\n\n7"
        assert each.token_ids.tolist() == encoded[0].token_ids.tolist()
        assert each.response_start == encoded[0].response_start
        assert each.char_spans[0].tolist()[0] == 0
    assert text_of(one.adapter, encoded[0])[0].endswith("<|im_start|>assistant\n<think>\n")


def test_a_text_that_was_sent_as_it_stands_is_not_mended(served: dict[str, Served]) -> None:
    adapter = served["Qwen3.5"].adapter
    record = carrier("<think>\nHmm", "x<think>\n", template=Template.ALREADY_APPLIED)
    assert text_of(adapter, adapter.encode(record)) == ("x<think>\n", "<think>\nHmm")


def test_a_response_that_only_opens_its_thinking_is_empty(served: dict[str, Served]) -> None:
    with pytest.raises(UnusableCarrier, match=r"empty response: .*the opening of its thinking"):
        served["Qwen3.5"].adapter.encode(carrier("<think>\n", messages=(ASKED,)))


def test_a_log_says_what_else_the_template_was_told(served: dict[str, Served]) -> None:
    one = served["Qwen3.5"]

    def prompt(options: Any) -> str:
        extra = {"chat_template_kwargs": options}
        record = carrier("7", messages=(ASKED,), extra=extra)
        return text_of(one.adapter, one.adapter.encode(record))[0]

    assert prompt({"enable_thinking": False}).endswith("<think>\n\n</think>\n\n")
    assert prompt({"enable_thinking": True}).endswith("assistant\n<think>\n")
    tools = [{"type": "function", "function": {"name": "f"}}]
    wanted = one.whole([ASKED], add_generation_prompt=True, tools=tools)
    assert prompt({"tools": tools}) == wanted
    assert "# Tools" in wanted
    for refused in ({"chat_template": "x"}, {"tokenize": True}, ["enable_thinking"], {"tools": 7}):
        with pytest.raises(UnusableCarrier, match="chat template refuses"):
            prompt(refused)


blanks = st.text("\n ", max_size=3)


@given(blanks, blanks, st.sampled_from(["", "Hmm", "</think>", "<think>"]), st.booleans())
def test_the_opening_said_twice_is_the_longest_that_both_have(
    after_prompt: str, after_response: str, rest: str, opens: bool
) -> None:
    prompt = f"x{'<think>' if opens else ''}{after_prompt}"
    response = f"<think>{after_response}{rest}"
    twice = opened_twice(prompt, response)
    # Slowly: every start of the response that begins where the prompt's last tag does.
    tag = prompt.rfind("<think>")
    starts = [response[:n] for n in range(7, len(response) + 1)]
    said_twice = [one for one in starts if prompt[tag:].startswith(one)]
    assert twice == (max(said_twice, key=len) if opens else "")


# Ids that stand beside a text


def with_ids(one: Served, prompt: str | None, spelt: str, **fields: Any) -> Any:
    ids = one.ids(spelt)
    return carrier(
        "7", prompt, prompt_token_ids=tuple(ids), response_token_ids=tuple(one.ids("7")), **fields
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("template", Template)
def test_ids_of_another_prompt_are_named_and_not_scored(
    served: dict[str, Served], name: str, template: Template
) -> None:
    one = served[name]
    whole = one.whole([ASKED], add_generation_prompt=True)
    messages = (ASKED,)
    # Only a chat template writes something after the prompt.
    ends = template is not Template.CHAT
    spelt = f"{one.whole([CHATS['of several turns'][0]])}{ASKED['content']}" if ends else whole
    for record in (
        with_ids(one, ASKED["content"], spelt, template=template),
        with_ids(one, f" {ASKED['content']}\n", spelt, template=template),
        with_ids(one, None, whole, template=template, messages=messages),
        with_ids(one, None, "anything", template=template),
    ):
        encoded = one.adapter.encode(record)
        assert encoded.token_ids.tolist()[: encoded.response_start] == list(record.prompt_token_ids)
    for record in (
        with_ids(one, "Suppose y is 5", whole, template=template),
        with_ids(one, ASKED["content"], whole[: len(whole) // 2], template=template),
        *([with_ids(one, ASKED["content"], f"{spelt} more", template=template)] if ends else []),
    ):
        with pytest.raises(UnusableCarrier, match=re.escape("must spell the prompt")) as fault:
            one.adapter.encode(record)
        assert fault.value.reason == "ids of another prompt"


def test_ids_are_compared_with_the_last_question_of_a_chat(served: dict[str, Served]) -> None:
    one = served["Llama 3"]
    chat = tuple(CHATS["of several turns"])
    whole = one.whole(list(chat), add_generation_prompt=True)
    assert one.adapter.encode(with_ids(one, None, whole, messages=chat)).response_start > 0
    other = (*chat[:-1], {"role": "user", "content": "Suppose y is 5"})
    with pytest.raises(UnusableCarrier, match="ids of another prompt"):
        one.adapter.encode(with_ids(one, None, whole, messages=other))
