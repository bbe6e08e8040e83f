"""Mechanics of HTTP that every dialect needs; no vendor's word in here."""
