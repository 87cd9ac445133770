"""Names and shapes of the parameters; without torch, for they are counted before it is needed.

Legend: D d_model · K head_dim · F d_ff · V vocab_size.

Names are those of the CS336 assignment, so that a state dict of its model loads unchanged.
"""

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig, faults


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, in the order of the forward pass.

    A linear weight is ``[d_out, d_in]``. With tied embeddings there is no ``lm_head.weight``;
    with ``norm="none"`` there are no ``ln`` parameters; ``layer_norm`` adds a ``bias`` to each;
    ``qk_norm`` adds the gains ``attn.q_norm.weight`` and ``attn.k_norm.weight``, ``[K]``, which
    the heads share.

    Args:
      config: a usable configuration with its vocabulary known.

    Returns:
      Name to shape.

    Raises:
      InputError: when the configuration has faults (all are named) or no vocabulary yet.

    Example:
      >>> shapes = parameter_shapes(ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1))
      >>> shapes["token_embeddings.weight"], shapes["layers.0.ffn.w1.weight"]
      ((10, 8), (32, 8))

    References:
      Stanford CS336, 2025, assignment 1, section 3 (the names of its reference weights).
    """
    _require_usable(config)
    d, v = config.d_model, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"token_embeddings.weight": (v, d)}
    for layer in range(config.n_layers):
        shapes |= {f"layers.{layer}.{name}": s for name, s in block_shapes(config).items()}
    shapes |= _norm_shapes(config, "ln_final")
    return shapes if config.tie_embeddings else {**shapes, "lm_head.weight": (v, d)}


def block_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of one block's parameters, without the ``layers.N.`` before them.

    Args:
      config: its widths, norm and feed-forward choice are read.

    Returns:
      Name to shape: four attention matrices, two or three feed-forward ones, the norms' gains.

    Example:
      >>> sorted(block_shapes(ModelConfig(d_model=8, n_heads=2, norm="none")))[:2]
      ['attn.k_proj.weight', 'attn.output_proj.weight']
    """
    d, f = config.d_model, config.ffn_width
    shapes = _norm_shapes(config, "ln1")
    for name in ("q_proj", "k_proj", "v_proj", "output_proj"):
        shapes[f"attn.{name}.weight"] = (d, d)
    if config.qk_norm:
        shapes |= {f"attn.{name}.weight": (config.head_dim,) for name in ("q_norm", "k_norm")}
    shapes |= _norm_shapes(config, "ln2")
    shapes |= {"ffn.w1.weight": (f, d), "ffn.w2.weight": (d, f)}
    return {**shapes, "ffn.w3.weight": (f, d)} if config.feed_forward == "swiglu" else shapes


def _norm_shapes(config: ModelConfig, name: str) -> dict[str, tuple[int, ...]]:
    """The parameters of one normalisation layer."""
    kinds = {"rms_norm": ("weight",), "layer_norm": ("weight", "bias"), "none": ()}
    return {f"{name}.{kind}": (config.d_model,) for kind in kinds[config.norm]}


def _require_usable(config: ModelConfig) -> None:
    """Raise InputError with every fault of the configuration."""
    found = faults(config)
    if not found and config.vocab_size == 0:
        found = ["vocab_size is 0: the tokenizer's size must be filled in; set --model.vocab-size"]
    if found:
        raise InputError("; ".join(found))
