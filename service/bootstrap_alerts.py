"""The composition of `hindsight alerts`, apart from the others since it alone needs Faust (the extra `alerts`)."""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from service.adapters.clock import SystemClock
from service.adapters.kafka.connection import client_options
from service.adapters.kafka.topics import check_alerts_topics
from service.api.ops import ProbeResult, Probes, create_ops_app
from service.api.server import serve
from service.bootstrap import DISTRIBUTION, stopping_on_signals
from service.config import AlertsSettings, Settings, SettingsError, variable
from service.domain.records import Topic, topic_name
from service.logs import configure_logging
from service.ports import LedgerMismatch
from service.telemetry import Telemetry

if TYPE_CHECKING:
    from service.alerts.app import AlertsApp
    from service.alerts.role import AlertsRole
    from service.alerts.webhook import Webhook, WebhookSpec

_log = structlog.get_logger(__name__)


def run_alerts(settings: Settings) -> None:
    """Tell changes until SIGTERM or SIGINT, then let the step under way end.

    Raises `SettingsError` where there is no webhook, and `LedgerMismatch` where the topics do not fit, with the command
    that mends it.
    """
    if settings.alerts.webhook_url is None:
        raise SettingsError([f"{variable('alerts', 'webhook_url')}: hindsight alerts requires it"])
    if find_spec("faust") is None:
        raise SettingsError(["hindsight alerts needs Faust: pip install 'hindsight-monitoring[alerts]'"])
    configure_logging(settings.log.level, settings.log.format)
    asyncio.run(_run_alerts(settings))


async def _run_alerts(settings: Settings) -> None:
    options, prefix = client_options(settings.kafka), settings.kafka.topic_prefix
    if problems := await check_alerts_topics(options, prefix):
        raise LedgerMismatch("\n".join(problems))
    if not settings.kafka.transactions:
        _log.warning(
            "without Kafka transactions what workers publish may come twice and is told twice, under another ID; a "
            "broker that keeps its topics in memory forgets what was held when it stops"
        )
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(CollectorRegistry(), version=version(DISTRIBUTION))
        role, probes = await _open_alerts(settings, stack, telemetry)
        ops = create_ops_app(telemetry.registry, probes)
        port = await stack.enter_async_context(serve(ops, settings.alerts.metrics_host, settings.alerts.metrics_port))
        _log.info("alerts is up", metrics_port=port)
        with stopping_on_signals(role.stop):
            await role.run()
        _log.info("alerts has drained")


async def _open_alerts(settings: Settings, stack: AsyncExitStack, telemetry: Telemetry) -> tuple["AlertsRole", Probes]:
    from service.alerts.app import AlertsApp, AppSpec  # noqa: PLC0415
    from service.alerts.flaps import FlapSpec  # noqa: PLC0415
    from service.alerts.role import AlertsRole  # noqa: PLC0415
    from service.alerts.teller import EVENT_OUTCOMES, RESULTS, Teller  # noqa: PLC0415
    from service.alerts.webhook import open_webhook  # noqa: PLC0415

    kafka, alerts, prefix = settings.kafka, settings.alerts, settings.kafka.topic_prefix
    clock = SystemClock()

    def epoch() -> float:
        return clock.now().timestamp()

    for outcome in EVENT_OUTCOMES:
        telemetry.alert_events_total.labels(outcome)
    for result in RESULTS:
        telemetry.notifications_total.labels(result)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hindsight-alerts-"))
    app = AlertsApp(
        AppSpec(
            group_id=alerts.group_id,
            source_topic=topic_name(prefix, Topic.BATCHES),
            changelog_topic=topic_name(prefix, Topic.ALERTS_CHANGELOG),
            dead_letter_topic=topic_name(prefix, Topic.ALERTS_DLQ),
            client_options=client_options(kafka),
            session_timeout=kafka.session_timeout_ms / 1000,
            directory=Path(directory),
        )
    )
    webhook = await stack.enter_async_context(open_webhook(_webhook_spec(alerts), epoch))
    teller = Teller(
        spec=FlapSpec(window=alerts.window_s, longest_hold=alerts.longest_hold_s),
        wanted=alerts.wanted,
        memory=app.memory,
        webhook=webhook,
        dead_letters=app.dead_letters,
        telemetry=telemetry,
        epoch=epoch,
    )
    role = AlertsRole(app, teller, telemetry)
    return role, _probes(role, app, webhook)


def _webhook_spec(alerts: AlertsSettings) -> "WebhookSpec":
    from service.alerts.webhook import WebhookSpec  # noqa: PLC0415

    assert alerts.webhook_url is not None
    return WebhookSpec(
        url=alerts.webhook_url.get_secret_value(),
        bearer_token=alerts.bearer_token.get_secret_value() if alerts.bearer_token else None,
        signing_key=alerts.signing_key.get_secret_value() if alerts.signing_key else None,
        timeout=alerts.timeout_s,
        longest_pause=alerts.longest_pause_s,
        patience=alerts.give_up_after_s,
    )


def _probes(role: "AlertsRole", app: "AlertsApp", webhook: "Webhook") -> Probes:
    async def live() -> ProbeResult:
        return ProbeResult(ok=True)

    async def ready() -> ProbeResult:
        if role.stopping:
            return ProbeResult(ok=False, detail={"stopping": True})
        if not (role.started and app.settled):
            return ProbeResult(ok=False, detail={"restored": False})
        # a receiver that is away is no fault of this process: it is told, and waited for
        told: dict[str, str | int | bool] = {"tasks": len(app.partitions)}
        return ProbeResult(ok=True, detail=told | ({"receiver": webhook.trouble} if webhook.trouble else {}))

    async def started() -> ProbeResult:
        return ProbeResult(ok=role.started, detail={"restored": role.started})

    return Probes(live=live, ready=ready, started=started)
