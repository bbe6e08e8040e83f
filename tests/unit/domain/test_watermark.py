"""The watermark by examples.

predictions   --10------------30------>
actuals       --------20-------------->
watermark         (both heard) 20 - lateness
"""

from service.domain.watermark import NEVER, DeploymentClock


def test_the_watermark_waits_until_both_inputs_were_heard() -> None:
    clock = DeploymentClock().advanced(predictions=30, actuals=None, allowed_lateness_us=5)
    assert (clock.predictions, clock.actuals, clock.watermark) == (30, None, NEVER)


def test_the_watermark_is_the_slower_input_minus_the_allowed_lateness() -> None:
    clock = DeploymentClock().advanced(predictions=30, actuals=20, allowed_lateness_us=5)
    assert clock.watermark == 15


def test_late_records_and_a_greater_lateness_do_not_turn_it_back() -> None:
    clock = DeploymentClock(predictions=30, actuals=20, watermark=15)
    assert clock.advanced(predictions=1, actuals=2, allowed_lateness_us=5) == clock
    assert clock.advanced(predictions=None, actuals=None, allowed_lateness_us=500) == clock
