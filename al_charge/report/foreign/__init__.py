"""Results of other programs as labels: found and read, placed on the host, audited, compared."""
