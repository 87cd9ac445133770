"""The shape of the model and the choices that a learner compares."""

from dataclasses import dataclass
from typing import Literal, get_args

FeedForward = Literal["gelu", "silu", "swiglu", "relu2"]
Norm = Literal["rms_norm", "layer_norm", "none"]
NormPosition = Literal["pre", "post"]
Positions = Literal["rope", "none"]
RopeLayout = Literal["half_split", "interleaved"]

# The gated width is rounded up to this, which keeps matrix tiles whole on every accelerator.
_WIDTH_MULTIPLE = 64
_LEAST = {
    "vocab_size": 0,
    "context_length": 1,
    "d_model": 1,
    "n_layers": 0,
    "n_heads": 1,
    "d_ff": 0,
}
_CHOICES = {
    "feed_forward": FeedForward,
    "norm": Norm,
    "norm_position": NormPosition,
    "positions": Positions,
    "rope_layout": RopeLayout,
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the function which the model's parameters compute, and their start.

    Example:
      >>> ModelConfig(d_model=512, n_heads=16).head_dim
      32
      >>> ModelConfig(d_model=128, feed_forward="swiglu").ffn_width
      384
    """

    vocab_size: int = 0
    """Number of tokens the model knows; 0 takes the tokenizer's."""
    context_length: int = 256
    """Longest sequence the model sees at once, in tokens."""
    d_model: int = 128
    """Width of the residual stream."""
    n_layers: int = 3
    """Number of Transformer blocks."""
    n_heads: int = 4
    """Attention heads in each block; each has d_model / n_heads dimensions."""
    d_ff: int = 0
    """Inner width of the feed-forward layer; 0 takes 4 d_model, or 8/3 d_model rounded up to a
    multiple of 64 with swiglu, which costs about as many parameters."""
    feed_forward: FeedForward = "gelu"
    """Feed-forward layer: gelu, silu or relu2 (the rectifier's square) between two matrices, or
    swiglu with a gate and three."""
    norm: Norm = "rms_norm"
    """Normalisation: rms_norm (gains only), layer_norm (gains and biases) or none."""
    norm_position: NormPosition = "pre"
    """Normalise the input of each sublayer (pre), or the sum after it (post)."""
    positions: Positions = "rope"
    """Position encoding: rope rotates queries and keys; none leaves order to the causal mask."""
    rope_theta: float = 10_000.0
    """Base of the rotation's wavelengths."""
    rope_layout: RopeLayout = "half_split"
    """Which dimensions rotate together: i and i + head_dim/2 (half_split), or 2i and 2i + 1
    (interleaved, as in the CS336 assignment)."""
    tie_embeddings: bool = False
    """Use the token embeddings as the output matrix too."""
    qk_norm: bool = False
    """Normalise the queries and keys of each head, with gains, before their rotation."""
    zero_init_outputs: bool = False
    """Start the output matrices of attention, of feed-forward layers and of the model (where it is
    not the embeddings) at zero: each block is the identity at first, all tokens equally likely."""

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.d_model // self.n_heads

    @property
    def ffn_width(self) -> int:
        """Inner width of the feed-forward layer, with 0 resolved."""
        if self.d_ff:
            return self.d_ff
        if self.feed_forward == "swiglu":
            return -(-8 * self.d_model // (3 * _WIDTH_MULTIPLE)) * _WIDTH_MULTIPLE
        return 4 * self.d_model


def faults(config: ModelConfig) -> list[str]:
    """Everything wrong with ``config``, each as a message that names its flag.

    Args:
      config: any values of the right types; 0 for vocab_size and d_ff means "derive it".

    Returns:
      One message a fault; an empty list when the configuration can be used.

    Example:
      >>> faults(ModelConfig())
      []
      >>> print(*faults(ModelConfig(d_ff=-1, context_length=0)), sep="\\n")
      context_length is 0: it must be at least 1; raise --model.context-length
      d_ff is -1: it must be at least 0; raise --model.d-ff
    """
    return _size_faults(config) + _head_faults(config) + _choice_faults(config)


def _flag(field: str) -> str:
    return "--model." + field.replace("_", "-")


def _size_faults(config: ModelConfig) -> list[str]:
    """Sizes below their least value."""
    found = [
        f"{field} is {getattr(config, field)}: it must be at least {bound}; raise {_flag(field)}"
        for field, bound in _LEAST.items()
        if getattr(config, field) < bound
    ]
    theta = config.rope_theta
    if not 0 < theta < float("inf"):
        found.append(
            f"rope_theta is {theta}: it must be positive and finite; change --model.rope-theta"
        )
    return found


def _head_faults(config: ModelConfig) -> list[str]:
    """A width that the heads cannot share, or that RoPE cannot pair up."""
    if config.n_heads < 1 or config.d_model < 1:
        return []
    both = "change --model.d-model or --model.n-heads"
    if config.d_model % config.n_heads:
        return [
            f"d_model is {config.d_model}: it must be a multiple of n_heads ({config.n_heads}); "
            + both
        ]
    if config.positions == "rope" and config.head_dim % 2:
        return [
            f"head_dim is {config.head_dim} (d_model {config.d_model} / n_heads "
            f"{config.n_heads}): it must be even, because RoPE rotates pairs; {both}, or set "
            "--model.positions none"
        ]
    return []


def _choice_faults(config: ModelConfig) -> list[str]:
    """Names outside their Literal (a type checker sees these; a parsed file may not)."""
    return [
        f"{field} is {getattr(config, field)!r}: it must be one of "
        f"{', '.join(get_args(choice))}; change {_flag(field)}"
        for field, choice in _CHOICES.items()
        if getattr(config, field) not in get_args(choice)
    ]
