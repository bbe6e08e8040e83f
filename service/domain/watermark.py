"""Stream time and watermark of one deployment on one task: values that never go back."""

from dataclasses import dataclass, replace

NEVER = -(1 << 62)
"""The watermark before both inputs were heard: earlier than any event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentClock:
    """Greatest event time of each input (microseconds since 1970, None: never heard) and the watermark made of them."""

    predictions: int | None = None
    actuals: int | None = None
    watermark: int = NEVER

    def advanced(self, *, predictions: int | None, actuals: int | None, allowed_lateness_us: int) -> "DeploymentClock":
        """The clock after records of these greatest event times (None: no record of that input)."""
        heard = replace(self, predictions=_later(self.predictions, predictions), actuals=_later(self.actuals, actuals))
        if heard.predictions is None or heard.actuals is None:
            return heard
        reached = min(heard.predictions, heard.actuals) - allowed_lateness_us
        return replace(heard, watermark=max(self.watermark, reached))


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)
