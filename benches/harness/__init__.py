"""What `benches/load` and `benches/parity` are made of. No packages needed; Linux, and for parity macOS."""
