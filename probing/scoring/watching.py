"""The run's one tokenizer, and the ids that are candidates whatever their rank."""

import logging

from probing.errors import VocabularyMismatch
from probing.lexicon import THINK_CLOSE, Lexicon
from probing.scoring.models import Source
from probing.tokens.adapter import TokenizerAdapter, first_difference

logger = logging.getLogger(__name__)


def load_tokenizer(sources: tuple[Source, ...], *, trust_remote_code: bool) -> TokenizerAdapter:
    """The baseline's tokenizer, once every full checkpoint's is known to be the same.

    Adapters use the baseline's.

    Raises:
        VocabularyMismatch: Two tokenizers differ in content; the first difference is named.
    """
    baseline, *others = sources
    tokenizer = TokenizerAdapter.load(
        str(baseline.files.folder), trust_remote_code=trust_remote_code
    )
    for other in others:
        if other.is_adapter:
            continue
        theirs = TokenizerAdapter.load(str(other.files.folder), trust_remote_code=trust_remote_code)
        difference = first_difference(tokenizer, theirs)
        if difference is not None:
            raise VocabularyMismatch(
                f"models {baseline.spec.name!r} and {other.spec.name!r} must share one "
                f"vocabulary, compared by content; first difference: {difference}; compare models "
                "trained from one baseline, or copy the baseline's tokenizer if it was saved wrong"
            )
    return tokenizer


def watched_ids(
    tokenizer: TokenizerAdapter, lexicon: Lexicon, *, limit: int, vocabulary: int
) -> tuple[int, ...]:
    """Ids that are candidates everywhere, ascending, at most `limit`.

    In order of claim: what think-close phrases begin with, ends of text, then the lexicon's
    one-word entries, with and without a leading space where each is a single token.
    """
    claims: dict[int, None] = {}
    if THINK_CLOSE in lexicon.groups:
        for phrase in lexicon.one_word_entries(THINK_CLOSE):
            claims[tokenizer.first_id(phrase)] = None
    claims |= dict.fromkeys(tokenizer.end_ids)
    for group in lexicon.groups:
        for word in lexicon.one_word_entries(group):
            claims |= dict.fromkeys(tokenizer.ids_of_word(word))
    there = [index for index in claims if index < vocabulary]
    if len(there) > limit:
        logger.warning("%d ids to watch, the first %d are (store.max_watched)", len(there), limit)
    return tuple(sorted(there[:limit]))
