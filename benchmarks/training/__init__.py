"""Our training step beside that of a module GPT."""
