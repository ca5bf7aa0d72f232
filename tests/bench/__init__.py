"""`make bench`: ratios to stock peers, measured in one run."""
