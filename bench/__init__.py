"""Measurements of the whole pipeline on real Kafka and real Postgres."""
