"""A corpus made by rule: stories from a probabilistic grammar whose entropy is known exactly."""
