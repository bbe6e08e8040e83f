"""`hindsight explain` as a process, on rows of a real worker: what it tells is what lies in topics, store and cells."""

import json
import math
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from service.domain.ids import row_key
from service.domain.row import decode_row
from service.wire.held_row import decode_held
from service.wire.instants import rfc3339
from tests.builders import ACTUAL_AT, PREDICTED_AT, actual, prediction
from tests.integration.worker import Event, Place, Said, Site, Worker


def predict(name: str, late: float = 0.83, **how: Any) -> Event:
    return Event("predictions", name.encode(), prediction(name, {"late": late, "on_time": round(1 - late, 3)}), **how)


def act(name: str, value: str | None = "late", hours: int = 0) -> Event:
    return Event("actuals", name.encode(), actual(name, value, at=ACTUAL_AT + timedelta(hours=hours)))


async def explained(site: Site, *arguments: str, **changed: str) -> Said:
    return await site.said("explain", *arguments, **changed)


async def life(site: Site, row: str, *arguments: str, **changed: str) -> dict[str, Any]:
    code, out, err = await explained(site, "flights", row, "--json", *arguments, **changed)
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out)
    return told


async def address(worker: Worker) -> str:
    await worker.up()
    return f"http://127.0.0.1:{worker.lines('worker is up')[-1]['metrics_port']}"


async def sent(site: Site, worker: Worker, *events: Event) -> list[Place]:
    """One after the other, each counted before the next is sent."""
    places = []
    for event in events:
        places += await site.produce([event])
        await site.processed(worker)
    return places


async def test_lives(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        matched = await sent(site, worker, predict("m"), act("m"))
        early = await sent(site, worker, act("e/1 é"), predict("e/1 é", 0.2))
        changed = await sent(
            site,
            worker,
            predict("c"),
            predict("c"),
            predict("c", 0.4),
            act("c"),
            act("c", "on_time", 1),
            act("c", None, 2),
        )
        url = await address(worker)

        told = await life(site, "m", "--worker", url)
        await _is_as_published(site, told, matched)
        assert [step["status"] for step in told["steps"]] == ["ACCEPTED", "MATCHED"]
        accepted = told["steps"][0]
        assert accepted["came"]["eventAt"] == "2026-01-01T10:17:00.000000Z"
        assert accepted["came"]["said"] == {"late": 0.83, "on_time": 0.17}
        assert accepted["traffic"]["predictions"] == 1
        await _is_in_the_cells(site, told)
        assert told["row"]["phase"] == "MATCHED" and told["rowFrom"] == f"the store of task {site.home(b'm')}"
        assert [name for name in told["batches"].values()] == ["2026-01-01"]
        assert "notes" not in told
        clock = await site.pool.fetchval("SELECT watermark FROM clocks WHERE task = $1", told["partition"])
        assert told["watermark"] == rfc3339(clock)
        assert [one["at"] for one in told["prospects"]] == [told["row"]["due"], told["row"]["drop"]]

        told = await life(site, "e/1 é", "--worker", url)
        await _is_as_published(site, told, early)
        assert [step["status"] for step in told["steps"]] == ["EARLY", "MATCHED"]
        assert [share["predictedClass"] for share in told["steps"][1]["accuracy"]] == ["on_time"]
        assert told["rowFrom"].startswith("the store")

        told = await life(site, "c")
        await _is_as_published(site, told, changed)
        words = ["ACCEPTED", "DUPLICATE", "CONFLICT", "MATCHED", "CORRECTED", "WITHDRAWN"]
        assert [step["status"] for step in told["steps"]] == words
        shares = [(share["sign"], share["actualClass"]) for step in told["steps"] for share in step.get("accuracy", ())]
        assert shares == [(1, "late"), (-1, "late"), (1, "on_time"), (-1, "on_time")]
        assert told["steps"][2]["came"]["said"] == {"late": 0.4, "on_time": 0.6}
        assert told["row"]["phase"] == "WITHDRAWN" and len(told["prospects"]) == 2

        code, out, err = await explained(site, "flights", "m", "--worker", url)
        assert (code, err) == (0, "")
        assert "log-loss 0.186330" in out and "is forgotten" in out and "\x1b" not in out
        assert await worker.terminate() == 0
        assert "Traceback" not in worker.text()


async def _is_as_published(site: Site, told: dict[str, Any], places: list[Place]) -> None:
    key = row_key("flights", told["rowId"])
    published = [status for status in await site.statuses() if status.key == key]
    assert [Place(**step["came"]["source"]) for step in told["steps"]] == places
    for step, status in zip(told["steps"], published, strict=True):
        assert (step["partition"], step["offset"]) == (status.partition, status.offset)
        for name in ("status", "seq", "revision", "reason"):
            assert step.get(name) == status.json.get(name)
        assert step["version"] == int(status.header["hindsight-version"])
        row = decode_row(status.header["hindsight-state"])
        assert (step["row"]["revision"], step["row"].get("due")) == (
            row.revision,
            rfc3339(row.due) if row.due else None,
        )


async def _is_in_the_cells(site: Site, told: dict[str, Any]) -> None:
    """Of the only matched row so far of its task and hour."""
    (share,) = told["steps"][1]["accuracy"]
    cells = await site.pool.fetch(
        "SELECT * FROM accuracy_cells WHERE task = $1 AND cardinality(confusion_pairs) > 0", told["partition"]
    )
    (cell,) = [one for one in cells if one["confusion_pairs"] == [1025] and one["confusion_counts"] == [1]]
    assert share["cell"] == {
        "hour": cell["hour"].strftime("%Y-%m-%dT%H:00:00.000000Z"), "modelId": cell["model_id"],
        "batchId": cell["batch_id"], "labelDay": cell["label_day"].isoformat(),
    }  # fmt: skip
    assert (share["sign"], share["actualClass"], share["predictedClass"]) == (1, "late", "late")
    assert math.isclose(share["logLoss"], cell["log_loss_sum"], rel_tol=1e-15)


async def test_the_worker_answers_for_its_tasks(site: Site) -> None:
    async with site.worker("one") as one, site.worker("two") as two:
        await one.ready(tasks=2)
        await two.ready(tasks=2)
        names = [f"row{number}" for number in range(12)]
        await site.produce([predict(name) for name in names])
        await site.processed()
        owners = await site.owners()
        for name in names:
            answers = {asked: await _asked(worker, name) for asked, worker in (("one", one), ("two", two))}
            owner = owners[site.home(name.encode())]
            assert {asked: status for asked, (status, _) in answers.items()} == {
                asked: 200 if asked == owner else 409 for asked in ("one", "two")
            }
            held = decode_held(answers[owner][1])
            assert held.row is not None and held.row.phase == "OPEN"
            assert decode_row(held.state).predicted_at * 1e-6 == PREDICTED_AT.timestamp()
        other = one if owners[site.home(b"row0")] == "two" else two
        told = await life(site, "row0", "--worker", await address(other))
        assert told["row"]["phase"] == "OPEN" and told["rowFrom"].startswith("the last status")
        assert "lives in task" in told["notes"][0]
        assert (await _asked(one, "record:x:0:1"))[0] == 404


async def _asked(worker: Worker, row: str) -> tuple[int, bytes]:
    answer = await worker._get(f"rows/flights/{quote(row, safe='')}")
    return answer.status_code, answer.content


async def test_where_it_looks(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        stray = (site.home(b"stray") + 1) % site.partitions
        unidentified = Event("predictions", None, prediction(None), partition=2)
        await site.produce([predict("stray", partition=stray), unidentified])
        await site.forwarded(2)
        await site.processed(worker)
        url = await address(worker)

        told = await life(site, "stray")
        assert told["partition"] == site.home(b"stray")
        assert told["steps"][0]["came"]["source"]["partition"] == stray
        nameless = f"record:{site.name('predictions')}:2:0"
        told = await life(site, nameless)
        assert (told["partition"], "row" in told) == (2, False)
        assert "can never be joined" in told["steps"][0]["note"]

        code, out, err = await explained(site, "flights", "nobody", "--worker", url)
        assert (code, out) == (1, "")
        assert f"looked in {site.name('status')}, partition {site.home(b'nobody')}" in err
        assert "holds no row 'nobody' of deployment 'flights'" in err
        code, _, err = await explained(site, "rain", "nobody")
        assert code == 1 and "there is no deployment 'rain' in the database" in err
        code, _, err = await explained(site, "flights", "nobody", "--worker", "127.0.0.1:9404")
        assert code == 2 and "worker: '127.0.0.1:9404' must be an address such as" in err

        code, _, err = await explained(site, "flights", "stray", "--worker", "http://127.0.0.1:1")
        assert code == 1 and err.startswith("error: worker http://127.0.0.1:1: ")

        nowhere = site.dsn.rsplit("@", 1)[0] + "@127.0.0.1:1/x"
        told = await life(site, "stray", POSTGRES__DSN=nowhere)
        assert "watermark" not in told and "without the database" in told["notes"][0]
