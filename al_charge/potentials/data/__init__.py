"""Labelled structures as frames to train and to test on, and where they are kept."""
