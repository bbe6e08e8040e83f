"""What the use cases call a field, told by the name that it has in this dialect."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from service.domain.errors import Invalid

WORDS: Final[Mapping[str, str]] = {
    "dataSet": "datasetId",
    "version": "datasetVersionId",
    "model": "modelId",
    "batchId": "monitoringBatchId",
    "predictions": "predictionsColumns",
    "actuals": "actualsValueColumn",
    "actualColumn": "actualValueColumn",
    "associationId": "associationIdColumn",
    "timestamp": "timestampColumn",
    "wasActedOn": "wasActedOnColumn",
}


@contextmanager
def renaming() -> Iterator[None]:
    """Inside, the fields that an `Invalid` names get this dialect's names."""
    try:
        yield
    except Invalid as error:
        raise Invalid("\n".join(_line(line) for line in str(error).splitlines())) from None


def _line(line: str) -> str:
    name, separator, rule = line.partition(": ")
    return f"{WORDS.get(name, name)}{separator}{rule}"
