"""What a model is worth: sums over whole documents, and the baselines beside them."""
