"""The artifact store: results keyed by what made them and verified by what they are."""
