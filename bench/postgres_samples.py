"""What Postgres has done so far for one database, and how large its tables and indexes are, by its own statistics."""

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

TABLES: Final = (
    "outbox_slots",
    "ledger",
    "clocks",
    "prediction_cells",
    "accuracy_cells",
    "submission_counts",
    "outbox",
)
_COUNTERS: Final = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,
       (SELECT wal_records FROM pg_stat_wal) AS wal_records,
       (SELECT wal_fpi FROM pg_stat_wal) AS full_page_images,
       xact_commit AS transactions, xact_rollback AS rolled_back
  FROM pg_stat_database WHERE datname = current_database()
"""
_TABLES: Final = """
SELECT named.relname AS name, kind.kind, stat.n_live_tup AS live, stat.n_dead_tup AS dead,
       stat.n_tup_ins AS inserted, stat.n_tup_upd AS updated, stat.n_tup_hot_upd AS updated_in_place,
       stat.n_tup_del AS deleted, stat.autovacuum_count AS autovacuums,
       pg_relation_size(stat.relid) AS bytes, pg_indexes_size(stat.relid) AS index_bytes
  FROM pg_class AS named
  CROSS JOIN LATERAL (VALUES ('table', named.oid), ('toast', named.reltoastrelid)) AS kind (kind, oid)
  JOIN pg_stat_all_tables AS stat ON stat.relid = kind.oid
 WHERE named.relnamespace = 'public'::regnamespace AND named.relname = ANY($1)
"""
_INDEXES: Final = """
SELECT index.indexrelid::regclass::text AS name, pg_relation_size(index.indexrelid) AS bytes
  FROM pg_stat_all_indexes AS index WHERE index.schemaname = 'public' AND index.relname = ANY($1)
"""
_DENSITY: Final = """
SELECT index.indexrelid::regclass::text AS name, density.avg_leaf_density, density.leaf_fragmentation
  FROM pg_stat_all_indexes AS index, pgstatindex(index.indexrelid) AS density
 WHERE index.schemaname = 'public' AND index.relname = ANY($1)
"""


async def has_pgstattuple(pool: asyncpg.Pool) -> bool:
    """Make the extension that looks into indexes, where the server has it."""
    there = await pool.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgstattuple'")
    if there:
        await pool.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    return bool(there)


async def sample(pool: asyncpg.Pool, *, density: bool) -> dict[str, Any]:
    """Counters since the server started, and tables and indexes as they stand. Sessions report within some seconds."""
    names = list(TABLES)
    counters = await pool.fetchrow(_COUNTERS)
    tables = {f"{row['name']} {row['kind']}": dict(row) for row in await pool.fetch(_TABLES, names)}
    indexes = {row["name"]: {"bytes": row["bytes"]} for row in await pool.fetch(_INDEXES, names)}
    for row in await pool.fetch(_DENSITY, names) if density else ():
        leaf = {"leaf_density": row["avg_leaf_density"], "leaf_fragmentation": row["leaf_fragmentation"]}
        indexes[row["name"]] |= leaf
    return {"counters": dict(counters), "tables": tables, "indexes": indexes}


def rows_written(taken: Mapping[str, Any], kind: str) -> int:
    """Inserted, updated and deleted so far, in tables or in what they keep aside (`toast`)."""
    return sum(
        table["inserted"] + table["updated"] + table["deleted"]
        for table in taken["tables"].values()
        if table["kind"] == kind
    )


def size_mb(taken: Mapping[str, Any], name: str, *, indexes: bool = False) -> float:
    """Of a table with what it keeps aside; or of the indexes of both."""
    field = "index_bytes" if indexes else "bytes"
    return float(sum(table[field] for table in taken["tables"].values() if table["name"] == name)) / (1 << 20)


def dead(taken: Mapping[str, Any], name: str) -> int:
    """Dead tuples of a table and of what it keeps aside."""
    return sum(int(table["dead"]) for table in taken["tables"].values() if table["name"] == name)
