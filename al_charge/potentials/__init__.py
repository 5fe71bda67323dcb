"""Potentials: species vocabulary, architectures, training, committees and relaxation."""
