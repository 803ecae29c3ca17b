"""From circuit angles phi to probabilities, and from a cotangent of the probabilities back to phi."""
