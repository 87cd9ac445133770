"""One training step as a pure function: loss, gradients, recovery, and their order."""
