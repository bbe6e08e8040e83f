"""Numbered, forward-only migrations of the Postgres schema."""
