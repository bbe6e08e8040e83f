"""Text for terminals, made of what the use cases tell."""
