"""Graphs of atoms, and what architectures that act on them have in common."""
