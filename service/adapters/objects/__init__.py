"""Objects in a directory or in an object store."""
