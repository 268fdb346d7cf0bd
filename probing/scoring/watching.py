"""The run's one tokenizer, and the ids that are candidates whatever their rank."""

from collections.abc import Iterable

from probing.errors import VocabularyMismatch
from probing.lexicon import Lexicon
from probing.scoring.models import Source
from probing.tokens.adapter import TokenizerAdapter, first_difference


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
