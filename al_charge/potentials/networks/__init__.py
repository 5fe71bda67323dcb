"""Networks: graphs of atoms, and the architectures that act on them."""
