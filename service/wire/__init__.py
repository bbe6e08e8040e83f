"""Bytes to domain and back. One file per topic and version; the types here also generate `schemas/`."""
