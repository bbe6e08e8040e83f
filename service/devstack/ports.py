"""Free ports on the loopback interface, the same ones again over the same data directory where they are still free.

Ports are drawn from below the range that the kernel uses for outgoing connections: a server that is down for a moment
must find its port still free when it comes back.
"""

import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "127.0.0.1"
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: a fresh restart is fine
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(taken: Iterable[int] = ()) -> int:
    refused = set(taken)
    for port in random.SystemRandom().sample(_CANDIDATES, len(_CANDIDATES)):
        if port not in refused and is_free(port):
            return port
    raise OSError(f"no free port between {_CANDIDATES.start} and {_CANDIDATES.stop}")


def kept_ports(file: Path, *names: str) -> dict[str, int]:
    """One port for each name: those noted in `file` where they are free, others otherwise, noted for the next time."""
    noted = _noted(file)
    ports: dict[str, int] = {}
    for name in names:
        port = noted.get(name)
        ports[name] = port if port is not None and is_free(port) else free_port([*noted.values(), *ports.values()])
    if ports != noted:
        file.write_text(json.dumps(ports))
    return ports


def _noted(file: Path) -> dict[str, int]:
    try:
        read = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: port for name, port in read.items() if isinstance(port, int)} if isinstance(read, dict) else {}
