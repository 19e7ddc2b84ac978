"""One question to a model and its answer, as values; nothing is asked here."""
