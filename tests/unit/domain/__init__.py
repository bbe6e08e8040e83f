"""Mirrors service/domain."""
