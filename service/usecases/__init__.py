"""Answers to one request each, whoever asks: no web framework, no driver, no word of a vendor."""
