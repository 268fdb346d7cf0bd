"""One tokenizer: carriers to token ids with the characters they cover, and ids to bytes."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
from jaxtyping import Bool, Int

from probing.errors import MissingPackage, ModelFault
from probing.lexicon import candidate_word
from probing.tokens.alphabet import byte_table
from probing.tokens.content import content_difference, parse_content
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.spans import find_seam, piece_spans, spans_by_bytes, spans_by_offsets
from probing.tokens.templates import CarrierText, PromptText, opened_twice, prompt_text
from probing.tokens.text import decode, token_text
from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import Template

OTHER_IDS = "score with the model that wrote these ids, or leave the ids out"
_NO_TOKEN = b""
"""The bytes of an id without a token: padded rows of the vocabulary."""


class TokenizerAdapter:
    """A fast Transformers tokenizer; made by `load`.

    Attributes:
        content: what it is made of.
        leading_ids: what it puts before a text by itself, such as BOS; often nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take over a Transformers tokenizer, which must not be used elsewhere afterwards.

        Raises:
            ModelFault: It is not a fast tokenizer, or the bytes of its tokens are not known.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelFault(
                "the tokenizer must be a fast one, which knows where its tokens stand; got "
                f"{type(tokenizer).__name__}; save it with a tokenizer.json beside the model"
            )
        self._tokenizer = tokenizer
        self._backend = backend
        self.content = parse_content(backend.to_str())
        self._table = byte_table(self.content)
        self.leading_ids = _leading_ids(backend)
        # Left in place, these would cut long carriers short, pad them, add an end of text after
        # the response, and trim spaces off the reported offsets.
        backend.no_truncation()
        backend.no_padding()
        backend.post_processor = None

    @classmethod
    def load(
        cls, path: str, *, revision: str | None = None, trust_remote_code: bool = False
    ) -> "TokenizerAdapter":
        """Load a tokenizer from a folder, or by hub id.

        Raises:
            ModelFault: It cannot be loaded, is not a fast tokenizer, or the bytes of its tokens are
                not known.
            MissingPackage: Transformers is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingPackage(
                "tokenising needs the package transformers, and it is not installed; run "
                "pip install 'ssd-probing[score]'"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                path, revision=revision or "main", trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0:1]
            raise ModelFault(
                f"tokenizer of {path!r} cannot be loaded: {''.join(reason) or type(error).__name__}"
                "; give a folder with tokenizer.json and tokenizer_config.json"
            ) from error
        return cls(tokenizer)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id that has a token; a model's rows may be more."""
        return max(self.content.tokens) + 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that turns a carrier into ids.

        Vocabulary, merges, scores, added tokens, model flags, normaliser, pre-tokeniser, the ids
        put before a text and the chat template. Not the class, nor the files' layout.
        """
        return self.content.digest(
            extra={
                "leading_ids": self.leading_ids,
                "chat_template": self._tokenizer.chat_template,
            }
        )

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end a text, as the tokenizer names them; none where it names none."""
        end = self._tokenizer.eos_token_id
        return () if end is None else (int(end),)

    def token_bytes(self, ids: Iterable[int]) -> list[bytes]:
        """Raw bytes of each id; nothing for an id that has no token.

        A token may hold part of a character: only the bytes of neighbours together are text.
        Special tokens are their text, such as `</s>`.
        """
        return [self._table.pieces.get(int(index), _NO_TOKEN) for index in ids]

    def vocabulary_bytes(self, size: int) -> list[bytes]:
        """Bytes of the ids 0 … size - 1; nothing for ids that have no token."""
        return self.token_bytes(range(size))

    def ids_of_word(self, word: str) -> tuple[int, ...]:
        """Ids whose text, one leading space aside, equals `word`; ascending, none where none."""
        return self._ids_by_word.get(word, ())

    def first_id(self, text: str) -> int:
        """The id with which `text` begins where it stands on a line of its own.

        Raises:
            ValueError: `text` is empty.
        """
        if not text:
            raise ValueError("text must not be empty to have a first token, got ''")
        line = self._encode_text("\n" + text)
        at = int(np.searchsorted(line.spans[:, 0], 1, side="left"))
        if at < len(line.ids) and line.spans[at, 0] == 1:
            return line.ids[at]
        return self._encode_text(text).ids[0]

    def encode(self, carrier: CarrierText) -> EncodedCarrier:
        """A carrier as token ids, with the characters of the response that each token covers.

        Ids that the record has are used as they are. Their bytes may spell more or less than the
        record's response (an end-of-text token that a log leaves out): then `response_text` is what
        the ids spell, so it differs from the record's, and spans index it.
        Otherwise prompt and response are tokenised together and split at the seam; characters of
        the response that a straddling token took into the prompt are covered by no `y_i`. Where
        the chat template opens the thinking and the response does so again, that is written once,
        in the prompt: `response_text` is without it.

        Raises:
            UnusableCarrier: The carrier has no response token, nothing before it, ids that name no
                token or spell another prompt or response, text that is not Unicode, or a prompt
                that its template cannot take.
        """
        if carrier.response_token_ids is not None or carrier.prompt_token_ids is not None:
            return self._encode_ids(carrier)
        if carrier.response == "":
            raise UnusableCarrier("empty response", "a response must have text, got ''")
        return self._encode_joined(carrier, prompt_text(carrier, tokenizer=self._tokenizer))

    def _encode_ids(self, carrier: CarrierText) -> EncodedCarrier:
        prompt, response = carrier.prompt_token_ids, carrier.response_token_ids
        if prompt is None or response is None:
            raise UnusableCarrier(
                "token ids incomplete",
                "`prompt_token_ids` and `response_token_ids` come together, and the record has one",
            )
        if len(response) == 0:
            raise UnusableCarrier(
                "empty response", "`response_token_ids` must hold an id, got none"
            )
        unknown = next((i for i in (*prompt, *response) if i not in self.content.tokens), None)
        if unknown is not None:
            raise UnusableCarrier(
                "ids outside the vocabulary",
                f"every id must name one of the tokenizer's tokens, 0 … {self.vocab_size - 1}, got "
                f"{unknown}; score with the model that wrote these ids",
            )
        self._check_prompt(carrier, prompt)
        pieces = self.token_bytes(response)
        spans = spans_by_bytes(
            pieces, carrier.response, may_drop_space=self._may_drop_space(response)
        )
        text, respelt = carrier.response, False
        if spans is None:
            decoded = decode(b"".join(pieces))
            text, spans = decoded.text, piece_spans(pieces, decoded)
            respelt = self._is_respelt(carrier.response, response)
        encoded = _encoded(
            carrier.carrier_id, (*prompt, *response), len(prompt), spans=spans, text=text
        )
        return dataclasses.replace(encoded, respelt=respelt)

    def _check_prompt(self, carrier: CarrierText, ids: Sequence[int]) -> None:
        """Refuse ids that are not those of the prompt they stand beside.

        A text before it is no fault, and none after it where a chat template follows: a template, a
        system prompt of another date. Of a chat the last question is compared, no other turn. White
        space and composition are not, since tokenizers change them.
        """
        said = carrier.prompt
        if carrier.template is Template.CHAT and carrier.messages:
            said = next(
                (turn["content"] for turn in carrier.messages[::-1] if turn["role"] == "user"), said
            )
        if said is None:
            return
        spelt = decode(b"".join(self.token_bytes(ids))).text
        ends = carrier.template is not Template.CHAT
        wanted, got = _bare(said), _bare(spelt)
        if not (got.endswith(wanted) if ends else wanted in got):
            raise UnusableCarrier(
                "ids of another prompt",
                f"`prompt_token_ids` must spell the prompt{', and end with it' if ends else ''}, "
                f"{said[-60:]!r}, got {spelt[-60:]!r}; {OTHER_IDS}",
            )

    def _is_respelt(self, response: str, ids: Sequence[int]) -> bool:
        """Whether ids spell more or less than a response, tokens that end a text aside.

        Raises:
            UnusableCarrier: Neither text holds the other: the ids are of another response.
        """
        last = len(ids)
        while last and self.content.added.get(ids[last - 1], {}).get("special"):
            last -= 1
        whole, ended = (decode(b"".join(self.token_bytes(ids[:n]))).text for n in (len(ids), last))
        said, spelt, unended = map(_bare, (response, whole, ended))
        if said in (spelt, unended):
            return False
        if said not in spelt and unended not in said:
            raise UnusableCarrier(
                "ids of another response",
                f"`response_token_ids` must spell the response, {response[:60]!r}, or a part of "
                f"it, or hold it, got {whole[:60]!r}; {OTHER_IDS}",
            )
        return True

    def _encode_joined(self, carrier: CarrierText, prompt: PromptText) -> EncodedCarrier:
        leading = self._leading(prompt)
        response = carrier.response
        if carrier.template is Template.CHAT:
            response = response.removeprefix(opened_twice(prompt.text, response))
        if response == "":
            raise UnusableCarrier(
                "empty response", "a response must have text after the opening of its thinking"
            )
        joined = self._encode_text(prompt.text + response)
        seam = find_seam(joined.spans, characters=len(prompt.text))
        if seam.first == len(joined.ids):
            raise UnusableCarrier(
                "empty response",
                "a response must have a token of its own, and all of it went into the token that "
                f"also ends the prompt, got {response[:40]!r}",
            )
        return _encoded(
            carrier.carrier_id,
            (*leading, *joined.ids),
            len(leading) + seam.first,
            spans=joined.spans[seam.first :] - len(prompt.text),
            text=response,
            seam_moved=seam.moved,
        )

    def _leading(self, prompt: PromptText) -> tuple[int, ...]:
        """The ids to put before a prompt: none where its text already begins with them."""
        written = b"".join(self.token_bytes(self.leading_ids)).decode()
        if not prompt.wants_leading or prompt.text.startswith(written):
            return ()
        return self.leading_ids

    def _encode_text(self, text: str) -> "_Tokenised":
        """Tokenise as it stands, nothing put before or after."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnusableCarrier(
                "text is not Unicode", f"text must have no lone surrogates, got {error}"
            ) from error
        encoding = self._backend.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        spans = spans_by_bytes(
            self.token_bytes(ids), text, may_drop_space=self._may_drop_space(ids)
        )
        if spans is None:
            spans = spans_by_offsets(encoding.offsets, characters=len(text))
        return _Tokenised(ids, spans)

    def _may_drop_space(self, ids: Sequence[int]) -> Bool[np.ndarray, " token"]:
        """Tokens before which the tokenizer may put a space: the first, and after added ones."""
        if not self._table.dummy_space:
            return np.zeros(len(ids), dtype=np.bool_)
        added = self.content.added
        return np.array([True, *(index in added for index in ids)][: len(ids)], dtype=np.bool_)

    @cached_property
    def _ids_by_word(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for index in sorted(self._table.pieces):
            word = candidate_word(token_text(self._table.pieces[index]))
            found[word] = (*found.get(word, ()), index)
        return found


class _Tokenised(NamedTuple):
    """A text as ids, and the characters each covers, shape (token, 2)."""

    ids: list[int]
    spans: Int[np.ndarray, "token 2"]


def first_difference(a: TokenizerAdapter, b: TokenizerAdapter) -> str | None:
    """The first difference in content between two vocabularies, in words; None without one.

    The chat template, and what is put before a text, may differ: ids mean the same all the same.
    """
    return content_difference(a.content, b.content)


def _bare(text: str) -> str:
    """The text without white space, composed: what tokenizers leave as it is.

    Nor does it hold the sign of bytes that are no text: how many stand for a cut character differs.
    """
    return "".join(normalize("NFKC", text).replace("\ufffd", "").split())


def _leading_ids(backend: Any) -> tuple[int, ...]:
    """What the tokenizer puts before a text when asked for special tokens."""
    encoding = backend.encode("a", add_special_tokens=True)
    special = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    return tuple(index for index, _ in takewhile(lambda token: token[1] == 1, special))


def _encoded(
    carrier_id: str,
    ids: Sequence[int],
    response_start: int,
    *,
    spans: Int[np.ndarray, "response 2"],
    text: str,
    seam_moved: bool = False,
) -> EncodedCarrier:
    if response_start == 0:
        raise UnusableCarrier(
            "nothing before the response",
            "the first response token is predicted from a token before it, and the prompt has "
            "none; give a prompt, or a tokenizer that begins a text with BOS",
        )
    return EncodedCarrier(
        carrier_id=carrier_id,
        token_ids=np.array(ids, dtype=np.int32),
        response_start=response_start,
        char_spans=spans,
        response_text=text,
        seam_moved=seam_moved,
    )
