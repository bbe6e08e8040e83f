"""Tells changes of monitoring batches to a webhook: a Faust app, downstream of `monitoring.batches.v1`.

It is also the reference for consumers of that topic: it stands on what is published and on nothing else of the
service. `flaps` decides, `teller` carries out, `webhook` delivers; `app`, `memory` and `transport` are what is known
of Faust.
"""
