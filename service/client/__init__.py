"""The client: sends predictions and actuals of an application to the service, over Kafka or over HTTP.

    from service.client import Client

    client = Client.over_kafka(bootstrap_servers="localhost:9092")
    client.log_prediction("rain", {"rain": 0.8, "dry": 0.2}, association_id="day-1", features={"cloud": 0.9})
    client.log_actual("rain", "day-1", "rain")
    client.close()

A call puts a row into a bounded buffer and returns; it never raises and, as configured, never waits. Sending happens
beside it. While Kafka or the API is away the buffer fills, then rows are dropped and counted; afterwards it goes on by
itself. The package is light on purpose: orjson and the standard library, and aiokafka or httpx for who asks for them.

Deliberately not here: anything that reads, and anything kept on disk. Rows that the process did not send before it was
killed are gone.
"""

from service.client.async_client import AsyncClient as AsyncClient
from service.client.buffer import Counts as Counts
from service.client.buffer import Limits as Limits
from service.client.client import Client as Client
from service.client.values import ServiceFigures as ServiceFigures
