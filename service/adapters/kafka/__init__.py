"""Kafka by aiokafka: topics, source, sink, and the status log."""
