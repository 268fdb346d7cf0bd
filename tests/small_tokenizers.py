"""Makers of small tokenizers of every kind that is supported, and of carriers for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from transformers import PreTrainedTokenizerFast

from probing.carriers.record import Carrier
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
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


def byte_level(*, over_words: bool = True) -> Tokenizer:
    """GPT-2 style; its post-processor trims spaces off the offsets, as GPT-2's does.

    With `over_words` a token may hold several words, which no published tokenizer's does as often.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not over_words)
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


def load_all(folder: Path) -> dict[str, TokenizerAdapter]:
    return {name: load(make(), folder / name) for name, make in MAKERS.items()}


def carrier(response: str, prompt: str | None = None, **fields: Any) -> Carrier:
    return Carrier(
        carrier_id="c", problem_id="p", response=response, generator="g", prompt=prompt, **fields
    )


def raw(prompt: str, response: str) -> Carrier:
    return carrier(response, prompt, template=Template.ALREADY_APPLIED)


def text_of(adapter: TokenizerAdapter, encoded: EncodedCarrier) -> tuple[str, str]:
    """Prompt and response as the ids spell them."""
    pieces = adapter.token_bytes(encoded.token_ids.tolist())
    start = encoded.response_start
    return b"".join(pieces[:start]).decode(), b"".join(pieces[start:]).decode()
