"""A training run: its recipe, start, steps, checkpoints and held-out figures."""
