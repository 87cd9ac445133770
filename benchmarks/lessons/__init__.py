"""What docs/training.md says of a step, counted and tried at small sizes."""
