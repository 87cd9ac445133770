"""Which tokens are seen at which step, as pure functions of (seed, step)."""
