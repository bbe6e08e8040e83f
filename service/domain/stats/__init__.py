"""Statistics that can be merged and subtracted exactly, one accumulator per file."""
