"""Acquisition: which candidates are worth a label."""
