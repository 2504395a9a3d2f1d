"""The scoring server: a reward model behind HTTP."""
