"""One row of an owned task, as somebody asks for it while the task runs. Reads one key of the store, changes nothing.

Called in the thread of the event loop, as every access of the flow is; between two awaits of it, store, version and
clocks belong to the same commit.
"""

from service.domain.ids import row_key
from service.domain.row import decode_row
from service.domain.watermark import NEVER
from service.pipeline.owned import OwnedTask
from service.wire.held_row import HeldRow, shown_row, watermark_text


def held_row(owned: OwnedTask, deployment_id: str, row_id: str) -> HeldRow:
    """What the store holds under this name; `row` is None where it holds none."""
    (state,) = owned.store.get_many([row_key(deployment_id, row_id)])
    clocks = owned.clocks.get(deployment_id)
    return HeldRow(
        deployment_id=deployment_id,
        row_id=row_id,
        task=owned.task,
        version=owned.version,
        watermark=watermark_text(clocks.clock.watermark if clocks else NEVER),
        row=shown_row(decode_row(state)) if state else None,
        state=state or b"",
    )
