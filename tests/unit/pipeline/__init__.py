"""Mirrors service/pipeline."""
