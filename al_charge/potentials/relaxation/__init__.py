"""Relaxing structures with a committee: one by one, by processes, or batched."""
