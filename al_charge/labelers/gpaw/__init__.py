"""The GPAW labeler: density-functional theory in a process of its own."""
