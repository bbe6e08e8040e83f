"""Data sets through a real broker and a real worker, into the statistics."""

import io
from typing import Any

import polars as pl

from tests.integration.posting import Posting, open_posting
from tests.integration.worker import Site

AT, LATER = "2026-01-01T10:17:00Z", "2026-01-01T13:30:00Z"
CLASSES = [{"className": "late", "columnName": "p_late"}, {"className": "on_time", "columnName": "p_on_time"}]
ROWS = 25_000


async def uploaded(posting: Posting, content: bytes) -> str:
    answer = await posting.client.post("/datasets/", files={"file": ("rows", content)})
    assert answer.status_code == 201, answer.text
    data_set: str = answer.json()["id"]
    return data_set


async def sent(posting: Posting, kind: str, body: dict[str, Any]) -> str:
    """The message of the status, once all rows are counted."""
    answer = await posting.client.post(f"/deployments/flights/{kind}/fromDataset/", json=body)
    assert answer.status_code == 202, answer.text
    return await posting.counted(answer.json()["statusId"])


async def test_predictions_of_parquet_meet_actuals_of_csv(site: Site) -> None:
    frame = pl.DataFrame(
        {
            "id": [f"r{number}" for number in range(ROWS)],
            "p_late": [0.8] * ROWS,
            "p_on_time": [0.2] * (ROWS - 1) + [0.9],
            "at": [AT] * ROWS,
            "distance": list(range(ROWS)),
        }
    )
    frame.write_parquet(made := io.BytesIO())
    truths = "id,y,at\r\n" + "".join(f"r{number},late,{LATER}\r\n" for number in range(100)) + "r100,never,\r\n"
    async with open_posting(site) as posting:
        await posting.connected()
        async with site.worker() as worker:
            await worker.ready(tasks=4)
            predictions = await uploaded(posting, made.getvalue())
            body = {"datasetId": predictions, "predictionsColumns": CLASSES, "associationIdColumn": "id"}
            message = await sent(posting, "predictionInputs", body | {"timestampColumn": "at"})
            assert message == (
                f"counted {ROWS - 1:,}: PROCESSED {ROWS - 1:,}; 1 invalid rows were left out: "
                f"row {ROWS - 1}: prediction: the probabilities must add up to 1, within 0.01"
            )
            actuals = await uploaded(posting, truths.encode())
            columns = {"associationIdColumn": "id", "actualValueColumn": "y", "timestampColumn": "at"}
            message = await sent(posting, "actuals", {"datasetId": actuals} | columns)
            assert message.startswith("counted 100: PROCESSED 100; 1 invalid rows were left out: row 100: actual: ")
            assert await site.pool.fetchval("SELECT sum(matched) FROM accuracy_cells") == 100
            assert await site.pool.fetchval("SELECT sum(predictions) FROM prediction_cells") == ROWS - 1
            assert (await posting.client.delete(f"/datasets/{predictions}/")).status_code == 204
