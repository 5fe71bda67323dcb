"""The live page: what a database's campaigns do, read-only, in a browser."""
