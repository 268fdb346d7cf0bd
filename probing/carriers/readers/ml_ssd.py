"""apple/ml-ssd: a table whose `output` is the model's text, sent without a chat template.

`response` there is the data set's own, and `is_passed` grades that one: both are kept beside the
carrier, and neither is read as its response or grade. A table without such a `response` is a pair
of prompt and output as any other (`chat.py`), whose grade is its own. Its `train.jsonl` is a chat:
give `--template raw` there.
"""

from collections.abc import Iterator

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.settings import Inputs
from probing.vocabulary import Template

OF_THE_DATA = {"response": "dataset_response", "is_passed": "dataset_response_passed"}


def _fits(fields: Fields) -> bool:
    return {"prompt", "output", "response", "is_passed"} <= fields.keys()


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        fields = {OF_THE_DATA.get(name, name): value for name, value in row.fields.items()}
        output = fields.pop("output")
        if not isinstance(output, str):
            raise Unusable("wrong type", f"`output` must be text, got {type(output).__name__}")
        yield Made({**fields, "response": output, "template": Template.RAW.value})

    return convert


ML_SSD = RecordFormat(
    name="ml-ssd", keys="prompt, output, response, is_passed", fits=_fits, opened=_opened
)
