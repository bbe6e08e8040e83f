"""Postgres by asyncpg: the ledger, the catalog, and what the use cases read."""
