"""The scoring server: the HTTP side (app), the queue before the model (batcher), and what clients may take (the rest)."""
