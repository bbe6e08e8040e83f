"""HTTP: what people and machines may ask the service."""
