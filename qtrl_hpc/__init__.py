"""Reinforcement-learning policies whose weights a quantum circuit generates, trained across MPI ranks."""

__version__ = "0.1.0"
