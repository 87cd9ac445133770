"""How soon a good model is there: ours against a recipe, see `command`."""
