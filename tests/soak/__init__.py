"""Faults and damaged files for as long as one likes: ``make soak MINUTES=30`` (docs/reliability.md)."""
