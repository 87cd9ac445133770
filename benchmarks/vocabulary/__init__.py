"""What a vocabulary does: to unseen text, at each size, in each language, and how it is learned."""
