"""The whole service as a user starts it."""
