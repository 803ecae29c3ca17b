"""Packaged configurations: ``--preset NAME`` reads ``NAME.yaml``."""
