"""Labelled structures as frames to train and test on: files, groups and caches."""
