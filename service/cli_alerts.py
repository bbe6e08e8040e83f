"""`hindsight alerts`."""

from service.cli_output import reporting
from service.config import settings_from_environment


def alerts() -> None:
    """Tell changes of monitoring batches to a webhook, until told to stop."""
    from service.bootstrap_alerts import run_alerts  # noqa: PLC0415

    with reporting():
        run_alerts(settings_from_environment())
