"""What a run will cost, computed before any work."""
