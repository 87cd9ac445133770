"""Which parameters are hidden matrices; without torch, for a run is planned before it is needed."""


def is_hidden_matrix(name: str, n_axes: int) -> bool:
    """Return whether a parameter maps hidden vectors to hidden vectors: a matrix of a block.

    The embeddings and the head are matrices too, but one of their sides is the vocabulary: a step
    touches the rows of the tokens that it saw, and to make such an update orthogonal would move
    all rows alike. Gains and biases are vectors.

    Args:
      name: of the parameter, as in ``parameter_shapes``.
      n_axes: how many axes it has.

    Example:
      >>> is_hidden_matrix("layers.0.ffn.w1.weight", 2), is_hidden_matrix("lm_head.weight", 2)
      (True, False)

    References:
      Jordan et al., 2024, Muon: An optimizer for hidden layers in neural networks.
    """
    return name.startswith("layers.") and n_axes == 2
