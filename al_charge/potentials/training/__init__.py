"""Training: frames to weights, in one process or several."""
