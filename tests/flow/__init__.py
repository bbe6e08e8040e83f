"""Stories: the real pipeline over in-memory adapters and a hand-moved clock."""
