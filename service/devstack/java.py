"""The Java side of the machine: which `java` runs Kafka, and the jars that Maven resolves once for each user."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from service.devstack.errors import DevStackError, MissingSoftware
from service.devstack.processes import Command, run_to_end

KAFKA_VERSION = "4.1.1"
OLDEST_JAVA = 17
INSTALL_JAVA = "apt-get install openjdk-17-jre-headless maven"

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_RESOLVE = ("dependency:copy-dependencies", "-DincludeScope=runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSoftware:
    java: str
    jars: Path


async def find_kafka(say: Callable[[str], None]) -> KafkaSoftware:
    """What a node needs to run, fetched if need be.

    Raises MissingSoftware without Java, or without both the jars and Maven; CommandFailed where Maven fails.
    """
    return KafkaSoftware(java=await find_java(), jars=await kafka_jars(say))


async def find_java() -> str:
    """The path of a Java that is new enough: the one of JAVA_HOME before the one on the path."""
    for candidate in _candidates():
        try:
            said = await run_to_end(Command(argv=(candidate, "-version")), what=candidate, patience=30)
        except DevStackError:
            continue
        if java_version(said) >= OLDEST_JAVA:
            return candidate
    raise MissingSoftware(f"Apache Kafka needs Java {OLDEST_JAVA} or newer: {INSTALL_JAVA}")


def java_version(said: str) -> int:
    """The major version in what `java -version` says; 0 where it says none."""
    found = _VERSION.search(said)
    return int(found.group(1)) if found else 0


async def kafka_jars(say: Callable[[str], None]) -> Path:
    """The directory of Kafka's jars: from the cache of this user, filled by Maven the first time."""
    pom = files("service.devstack").joinpath("pom.xml").read_bytes()
    cached = cache_directory() / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(pom).hexdigest()[:12]}"
    if not cached.is_dir():
        await _resolve(pom, cached, say)
    return cached


def cache_directory() -> Path:
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "hindsight"


async def _resolve(pom: bytes, cached: Path, say: Callable[[str], None]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingSoftware(f"Maven fetches Apache Kafka {KAFKA_VERSION}: {INSTALL_JAVA}")
    say(f"fetching Apache Kafka {KAFKA_VERSION} with Maven, this first time only")
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=cached.parent) as building:
        (Path(building) / "pom.xml").write_bytes(pom)
        jars = Path(building) / "jars"
        resolve = (maven, "--batch-mode", "--quiet", "-Dstyle.color=never", *_RESOLVE, f"-DoutputDirectory={jars}")
        await run_to_end(
            Command(argv=resolve, directory=Path(building)), what="Maven, fetching Apache Kafka", patience=900
        )
        _settle(jars, cached)


def _settle(jars: Path, cached: Path) -> None:
    """Rename into place; where another start was faster, its jars are as good."""
    try:
        jars.rename(cached)
    except OSError:
        if not cached.is_dir():
            raise


def _candidates() -> list[str]:
    home = os.environ.get("JAVA_HOME")
    of_home = [str(Path(home) / "bin" / "java")] if home else []
    on_path = shutil.which("java")
    return [*of_home, *([on_path] if on_path else [])]
