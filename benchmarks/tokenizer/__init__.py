"""Tokenizers side by side."""
