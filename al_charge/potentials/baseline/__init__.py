"""What linear least squares or a pretrained model explains before a network is trained."""
