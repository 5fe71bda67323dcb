"""Baselines by least squares and pretrained priors, of which networks learn the difference."""
