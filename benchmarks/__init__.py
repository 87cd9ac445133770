"""Comparisons with what others would write; a command each, see README.md."""
