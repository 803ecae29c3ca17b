"""What this machine has for a run, and what would hurt it: facts are gathered, then judged by ``checks``."""
