"""The five stages: plain functions from a slice of the config and input artifacts to files."""
