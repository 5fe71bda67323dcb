"""Crystal: hosts, configurations, their symmetry and their exact enumeration."""
