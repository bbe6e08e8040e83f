"""The client is for other people's processes: importing it must cost them next to nothing."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("aiokafka", "alembic", "asyncpg", "fastapi", "httpx", "msgspec", "numpy", "polars", "prometheus_client"),
    *("pydantic", "rocksdict", "sqlalchemy", "starlette", "structlog", "uvicorn", "xxhash", "yaml"),
}
OURS = {"service", "service.adapters", "service.adapters.clock", "service.domain", "service.domain.records"}
OVER_KAFKA = "service.client.Client.over_kafka(bootstrap_servers='127.0.0.1:1').close(0)"
OVER_HTTP = "service.client.Client.over_http(url='http://127.0.0.1:1', token='t').close(0)"


def imported(*statements: str) -> set[str]:
    """Modules of a fresh interpreter after these statements."""
    code = "\n".join(["import json, sys, service.client", *statements, "print(json.dumps(list(sys.modules)))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("statements", "drivers"), [((), set()), ((OVER_KAFKA,), {"aiokafka"}), ((OVER_HTTP,), {"httpx"})]
)
def test_it_brings_its_driver_and_nothing_heavy(statements: tuple[str, ...], drivers: set[str]) -> None:
    modules = imported(*statements)
    assert HEAVY & modules == drivers
    assert {name for name in modules if name.partition(".")[0] == "service"} - OURS == {
        name for name in modules if name.startswith("service.client")
    }
