"""Byte-level byte-pair encoding: from text to token ids and back, without loss."""
