"""The verbs that move micro-batches: decode, assign, join, aggregate, persist, publish; `flow.py` is the sentence."""
