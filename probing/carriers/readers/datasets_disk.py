"""A Hugging Face dataset on disk, through the library that wrote it."""

from probing.carriers.readers.parquet import plain_row
from probing.carriers.readers.rows import BadRow, Rows
from probing.carriers.readers.sources import Source
from probing.errors import MissingPackage, UnreadableInput


def read_dataset(source: Source) -> Rows:
    """Yield every row; `line` is its 1-based number.

    A set that is damaged after its first rows ends with one `BadRow`; what came before is kept.

    Raises:
        MissingPackage: the package datasets is not installed.
        UnreadableInput: the folder is no dataset, or damaged from the first row on.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackage(
            f"{source.place} is a Hugging Face dataset on disk, read by the package datasets, "
            "which is not installed; run `pip install 'ssd-probing[datasets]'`"
        ) from error
    line = 0
    try:
        for line, fields in enumerate(datasets.load_from_disk(source.place), start=1):
            yield plain_row(line, fields)
    except Exception as error:
        # What the library raises of a damaged folder has no type in common.
        if line:
            detail = f"nothing after row {line} can be read: {error!s:.200}; save it again"
            yield BadRow(line + 1, "damaged file", detail)
            return
        raise UnreadableInput(
            f"{source.place} cannot be read as a dataset: {error!s:.300}; save it again"
        ) from error
