"""A Hugging Face dataset on disk, through the library that wrote it."""

from collections.abc import Iterator

from probing.carriers.readers.parquet import plain_row
from probing.carriers.readers.rows import BadRow, Row
from probing.carriers.readers.sources import Source
from probing.errors import MissingPackage, UnreadableInput


def read_dataset(source: Source) -> Iterator[Row | BadRow]:
    """Yield every row; `line` is its 1-based number.

    Raises:
        MissingPackage: the package datasets is not installed.
        UnreadableInput: the folder is no dataset, or a set of several splits.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackage(
            f"{source.place} is a Hugging Face dataset on disk, read by the package datasets, "
            "which is not installed; run `pip install 'ssd-probing[datasets]'`"
        ) from error
    try:
        found = datasets.load_from_disk(source.place)
    except (OSError, ValueError) as error:
        raise UnreadableInput(
            f"{source.place} cannot be read as a dataset: {error}; save it again"
        ) from error
    return (plain_row(line, fields) for line, fields in enumerate(found, start=1))
