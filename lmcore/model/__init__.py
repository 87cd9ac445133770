"""The Transformer language model: configuration, layers, attention, initial values, counts."""
