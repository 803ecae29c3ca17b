"""How fast everything is: ``python -m qtrl_hpc.bench``."""
