"""One self-contained page that explains a run; its parts also serve ``qtrl_hpc.plot``."""
