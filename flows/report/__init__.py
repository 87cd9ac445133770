"""What a finished run shows: tables, curves, samples and the run's page."""
