"""HTTP, by an in-process client where that is enough."""
