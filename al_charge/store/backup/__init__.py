"""Backups: one file that holds a database, made while workers run."""
