"""The paper's tables and figure, ablations, and what our own recipe reaches, over many seeds."""
