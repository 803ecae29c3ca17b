"""Searching for a good configuration: many trials, each a run, of which Optuna chooses the values."""
