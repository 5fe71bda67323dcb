"""Surrogate: energies of all configurations of all cells of a host, from those that are known."""
