"""The producer SDK without servers."""
