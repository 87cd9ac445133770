"""Training as an effect: devices, processes, the loop, checkpoints and metrics."""
