"""Our own record: one carrier a record, as `probing carriers -o` writes it."""

from collections.abc import Iterator

from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.identity import logged_generator, named, one_prompt
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.settings import Inputs


def _fits(fields: Fields) -> bool:
    return "carrier_id" in fields and "response" in fields


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        renamed = dict(row.fields)
        generator = renamed.get("generator")
        generator = logged_generator(renamed, inputs) if generator is None else generator
        if isinstance(generator, str) and generator:
            renamed = named(renamed, generator, inputs)
        if inputs.template is not None:
            renamed["template"] = inputs.template.value
            one_prompt(renamed)
        yield Made(renamed)

    return convert


CARRIER = RecordFormat(
    name="carrier",
    keys="carrier_id, problem_id, prompt or messages, response, generator",
    fits=_fits,
    opened=_opened,
    answers=True,
)
