"""Templates, the BOS rule, and what a record or a tokenizer must have to be used."""

import re
import sys
from pathlib import Path

import pytest
from small_tokenizers import (
    byte_level,
    carrier,
    load,
    load_all,
    raw,
    space_marked,
    text_of,
    with_bos_and_eos,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from probing.carriers.record import Carrier
from probing.errors import MissingPackage, ModelFault
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import Template


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenizerAdapter]:
    return load_all(tmp_path_factory.mktemp("tokenizers"))


def chat_ids(encoded: EncodedCarrier) -> list[int]:
    return [index for index in encoded.token_ids.tolist() if index in (1, 2)]


def test_chat_text_gets_no_second_bos_and_no_eos(adapters: dict[str, TokenizerAdapter]) -> None:
    adapter = adapters["gemma"]
    messages = ({"role": "user", "content": "Let x"},)
    encoded = adapter.encode(carrier(" Wait", messages=messages))
    assert text_of(adapter, encoded) == ("<s><|user|>Let x<|end|>\n<|assistant|>", " Wait")
    assert chat_ids(encoded) == [1]
    by_prompt = adapter.encode(carrier(" Wait", "Let x"))
    assert by_prompt.token_ids.tolist() == encoded.token_ids.tolist()


def test_a_chat_template_that_writes_no_bos_gets_none(tmp_path: Path) -> None:
    # Its tokenizer would put one before a raw text.
    made = space_marked(dummy=False)
    adapter = load(with_bos_and_eos(made), tmp_path, chat="{{ messages[0]['content'] }}.")
    assert adapter.leading_ids == (1,)
    encoded = adapter.encode(carrier(" Wait", "Let x"))
    assert text_of(adapter, encoded) == ("Let x.", " Wait")


def test_messages_that_end_with_the_assistants_are_continued(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    messages = (
        {"role": "user", "content": "Let x"},
        {"role": "assistant", "content": "<think>\nHmm"},
    )
    adapter = adapters["gemma"]
    encoded = adapter.encode(carrier(", 3", messages=messages))
    assert text_of(adapter, encoded) == (
        "<s><|user|>Let x<|end|>\n<|assistant|><think>\nHmm",
        ", 3",
    )


@pytest.mark.parametrize("prompt", ["Let x", "<s>Let x"])
def test_raw_text_gets_one_bos_and_no_eos(
    adapters: dict[str, TokenizerAdapter], prompt: str
) -> None:
    adapter = adapters["gemma"]
    encoded = adapter.encode(carrier(" Wait", prompt, template=Template.RAW))
    assert text_of(adapter, encoded) == ("<s>Let x", " Wait")
    assert chat_ids(encoded) == [1]


def test_raw_text_gets_nothing_where_the_tokenizer_puts_nothing(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    adapter = adapters["byte_level"]
    encoded = adapter.encode(carrier(" Wait", "Let x", template=Template.RAW))
    assert text_of(adapter, encoded) == ("Let x", " Wait")


def test_a_bos_beside_other_post_processing_is_found(tmp_path: Path) -> None:
    made = byte_level()
    bos = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    adapter = load(made, tmp_path)
    encoded = adapter.encode(carrier(" Wait", "Let x", template=Template.RAW))
    assert text_of(adapter, encoded) == ("<s>Let x", " Wait")
    assert encoded.char_spans[0, 0] == 0


@pytest.mark.parametrize("prompt", ["Let x", "<s>Let x"])
def test_applied_text_is_taken_as_it_stands(
    adapters: dict[str, TokenizerAdapter], prompt: str
) -> None:
    adapter = adapters["gemma"]
    assert text_of(adapter, adapter.encode(raw(prompt, " Wait"))) == (prompt, " Wait")


def test_an_empty_prompt_needs_a_bos(adapters: dict[str, TokenizerAdapter]) -> None:
    encoded = adapters["gemma"].encode(carrier("Wait", "", template=Template.RAW))
    assert encoded.response_start == 1
    with pytest.raises(UnusableCarrier, match="predicted from a token before it"):
        adapters["byte_level"].encode(carrier("Wait", "", template=Template.RAW))


def test_settings_for_training_do_not_cut_or_pad(tmp_path: Path) -> None:
    made = byte_level()
    made.enable_truncation(max_length=5)
    made.enable_padding(length=64)
    plain = load(byte_level(), tmp_path / "plain").encode(raw("x", "Let x be 3. " * 5))
    encoded = load(made, tmp_path / "training").encode(raw("x", "Let x be 3. " * 5))
    assert encoded.token_ids.tolist() == plain.token_ids.tolist()


# Records that cannot be scored


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (raw("x", ""), "empty response", "must have text"),
        (carrier("y", prompt_token_ids=(5,), response_token_ids=()), "empty response", "an id"),
        (carrier("y", prompt_token_ids=(5,)), "token ids incomplete", "come together"),
        (carrier("y", response_token_ids=(5,)), "token ids incomplete", "come together"),
        (
            carrier("!", prompt_token_ids=(), response_token_ids=(5,)),
            "nothing before the response",
            "predicted from a token before it",
        ),
        (
            carrier("y", prompt_token_ids=(5,), response_token_ids=(6, 10_000)),
            "ids outside the vocabulary",
            "got 10000",
        ),
        (
            carrier("y", prompt_token_ids=(-1,), response_token_ids=(6,)),
            "ids outside the vocabulary",
            "got -1",
        ),
        (carrier("y", template=Template.RAW), "no prompt", "template raw takes `prompt`"),
        (carrier("y"), "no prompt", "takes `messages` or `prompt`"),
        (raw("x", "a\ud800"), "text is not Unicode", "lone surrogates"),
        (carrier("y", "\udfff"), "text is not Unicode", "lone surrogates"),
        (
            carrier("y", messages=({"role": "tool", "content": "z"},)),
            "chat template refuses",
            "no tools",
        ),
    ],
)
def test_unusable_carriers_say_why(
    adapters: dict[str, TokenizerAdapter], record: Carrier, reason: str, detail: str
) -> None:
    with pytest.raises(UnusableCarrier, match=re.escape(detail)) as fault:
        adapters["byte_level"].encode(record)
    assert fault.value.reason == reason


def test_a_tokenizer_without_a_chat_template_names_the_way_out(tmp_path: Path) -> None:
    adapter = load(byte_level(), tmp_path, chat=None)
    with pytest.raises(UnusableCarrier, match="set `template` to raw or already_applied"):
        adapter.encode(carrier("y", "x"))
    assert adapter.encode(raw("x", "y")).response_text == "y"


# Tokenizers that cannot be used


def test_a_tokenizer_of_unknown_bytes_is_refused(tmp_path: Path) -> None:
    made = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ModelFault, match=r"byte-level or mark spaces .* pre-tokenizer are Whitesp"):
        load(made, tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"cannot be loaded: .*; give a folder"):
        TokenizerAdapter.load(str(tmp_path))


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(ModelFault, match=r"must be a fast one.* got object"):
        TokenizerAdapter(object())


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackage, match=re.escape("pip install 'ssd-probing[score]'")):
        TokenizerAdapter.load(str(tmp_path))
