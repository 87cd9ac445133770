"""The effects: stages, store, trainer and the Prefect flow that wires them."""
