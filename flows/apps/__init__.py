"""The commands beside the pipeline: each file is a leaf that nothing imports."""
