"""The numbers of Chen et al., arXiv 2412.08845: single runs, no error bars, averaging window not stated."""

AVERAGE_REWARD = {"classical": 0.9244, "QTRL-3": 0.6453, "QTRL-7": 0.8164, "QTRL-13": 0.8632, "Dist-QTRL-3": 0.901}
"""Table I."""

SPEED_UP = {1: 1.0, 2: 2.06, 4: 3.33, 8: 5.33}
"""Table II: by number of agents, episodes that one agent needs over those that each of N needs."""
