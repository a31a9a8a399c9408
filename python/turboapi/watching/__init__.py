"""What the log and the machine are told while a server runs. Each file is imported by its own name."""
