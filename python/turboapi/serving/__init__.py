"""The life of a server, from its start to its end. Each file is imported by its own name."""
