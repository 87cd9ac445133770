"""What a model costs, from its configuration alone: parameters, FLOPs, bytes.

Legend: B batch · S sequence · D d_model · H heads · K head_dim · F d_ff · V vocab_size ·
L n_layers. An ``[m, n] @ [n, p]`` product costs ``2 m n p`` FLOPs: a multiplication and an
addition for each term.
"""

import math
from dataclasses import asdict, dataclass

from lmcore.model.config import ModelConfig
from lmcore.model.shapes import parameter_shapes


@dataclass(frozen=True)
class ParamCounts:
    """Numbers of parameters by part; all layers together.

    Example:
      >>> ParamCounts(10, attention=4, feed_forward=8, norms=3, lm_head=10).non_embedding
      15
    """

    token_embeddings: int
    """The input table, V·D."""
    attention: int
    """Query, key, value and output matrices, 4·L·D²."""
    feed_forward: int
    """2·L·D·F, or 3·L·D·F with a gate."""
    norms: int
    """Gains and biases, the final norm and those of queries and keys included."""
    lm_head: int
    """The output matrix, V·D; 0 when it is tied to the embeddings."""

    @property
    def embedding(self) -> int:
        """Parameters of the two tables that grow with the vocabulary."""
        return self.token_embeddings + self.lm_head

    @property
    def non_embedding(self) -> int:
        """Parameters outside them: what a model's size in its name counts."""
        return self.attention + self.feed_forward + self.norms

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.non_embedding

    def by_part(self) -> dict[str, int]:
        """The parts in the order of the forward pass."""
        return asdict(self)


def count_params(config: ModelConfig) -> ParamCounts:
    r"""Number of parameters by part.

    .. math:: N = VD\,(2 - \mathrm{tied}) + L\,(4D^2 + g\,DF) + \mathrm{norms}

    with g = 3 for swiglu and 2 otherwise; the norms are :math:`(2L + 1) D` gains, twice as many
    numbers with biases, none without norms, and :math:`2LK` gains more with qk_norm.

    Args:
      config: a usable configuration with its vocabulary known.

    Returns:
      `ParamCounts`; ``total`` is the number of scalars that `init_params` makes.

    Raises:
      InputError: when the configuration has faults or no vocabulary yet.

    Example:
      >>> counts = count_params(ModelConfig(vocab_size=50_257, d_model=1_600, n_layers=48,
      ...     n_heads=25, d_ff=6_400, feed_forward="swiglu"))
      >>> counts.total
      2127057600

    References:
      Stanford CS336, 2025, assignment 1, problem transformer_accounting (a); Kaplan et al.,
      2020, Scaling Laws for Neural Language Models, table 1 (parameters outside the embeddings).
    """
    shapes = parameter_shapes(config)

    def matrices(part: str) -> int:
        return sum(math.prod(s) for name, s in shapes.items() if part in name and len(s) == 2)

    return ParamCounts(
        token_embeddings=matrices("token_embeddings."),
        attention=matrices(".attn."),
        feed_forward=matrices(".ffn."),
        norms=sum(math.prod(shape) for shape in shapes.values() if len(shape) == 1),
        lm_head=matrices("lm_head."),
    )


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of a forward pass's matrix products by part; all layers together.

    Example:
      >>> ForwardFlops(6, 4, 4, 2, 16, 10).total
      42
    """

    qkv_projections: int
    """Queries, keys and values: 3 · 2·B·S·D² a layer."""
    attention_scores: int
    """Queries times keys, every pair counted although half are masked: 2·B·S²·D a layer."""
    attention_values: int
    """Weights times values: 2·B·S²·D a layer."""
    output_projection: int
    """2·B·S·D² a layer."""
    feed_forward: int
    """2·B·S·D·F for each of its two or three matrices a layer."""
    lm_head: int
    """2·B·S·D·V, tied or not."""

    @property
    def total(self) -> int:
        """All matrix products."""
        return sum(asdict(self).values())

    def by_part(self) -> dict[str, int]:
        """The parts in the order of the forward pass."""
        return asdict(self)


def forward_flops(config: ModelConfig, batch_size: int, n_tokens: int) -> ForwardFlops:
    r"""FLOPs of the matrix products of one forward pass.

    .. math:: BS \, \bigl[ L\,(8D^2 + 4SD + 2g\,DF) + 2DV \bigr], \quad g = 3
        \text{ for swiglu, else } 2

    Norms, activations, softmax and rotations are left out: they are O(D) a token where these
    are O(D²).

    Args:
      config: a configuration with its vocabulary known.
      batch_size: B, sequences.
      n_tokens: S, tokens of each sequence.

    Returns:
      `ForwardFlops`.

    Example:
      >>> forward_flops(ModelConfig(vocab_size=50_257, d_model=1_600, n_layers=48, n_heads=25,
      ...     d_ff=6_400, feed_forward="swiglu"), batch_size=1, n_tokens=1_024).total
      4513336524800

    References:
      Stanford CS336, 2025, assignment 1, problem transformer_accounting (b).
    """
    d, layers = config.d_model, config.n_layers
    rows = batch_size * n_tokens
    matrices = 3 if config.feed_forward == "swiglu" else 2
    projection = layers * 2 * rows * d * d
    pairs = layers * 2 * rows * n_tokens * d
    return ForwardFlops(
        qkv_projections=3 * projection,
        attention_scores=pairs,
        attention_values=pairs,
        output_projection=projection,
        feed_forward=layers * matrices * 2 * rows * d * config.ffn_width,
        lm_head=2 * rows * d * config.vocab_size,
    )


def training_flops(config: ModelConfig, n_tokens: int) -> int:
    r"""FLOPs of training on ``n_tokens`` tokens in sequences of the context length.

    .. math:: 3 \times \mathrm{forward}

    The backward pass has two products for each one of the forward pass: one for the gradient of
    the input, one for that of the matrix.

    Args:
      config: a configuration with its vocabulary known.
      n_tokens: tokens read in all.

    Returns:
      FLOPs; the optimizer's are left out: of AdamW O(1) a parameter and step, of Muon O(D).

    Example:
      >>> training_flops(ModelConfig(vocab_size=10_000), n_tokens=1_000_000)
      12398592000000

    References:
      Kaplan et al., 2020, Scaling Laws for Neural Language Models, section 2.1.
    """
    one_sequence = forward_flops(config, 1, config.context_length).total
    return 3 * one_sequence // config.context_length * n_tokens


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes that a forward pass keeps for the backward pass, by part; all layers together.

    Example:
      >>> ActivationBytes(norms=3, attention=5, feed_forward=8, logits=10).total
      26
    """

    norms: int
    """The residual stream and what the norms keep of it, the inputs of the matrices included."""
    attention: int
    """Queries, keys and values before and after their rotation, and the mixed values."""
    feed_forward: int
    """Inner values, before and after the activation and the gate."""
    logits: int
    """Logits and their log-probabilities."""

    @property
    def total(self) -> int:
        """All of them; a peak adds one layer's scratch space."""
        return sum(asdict(self).values())

    def by_part(self) -> dict[str, int]:
        """The parts by name."""
        return asdict(self)


def activation_bytes(
    config: ModelConfig,
    batch_size: int,
    n_tokens: int,
    *,
    bytes_per_value: int = 4,
    attention_bytes_per_value: int | None = None,
) -> ActivationBytes:
    r"""Estimate of the bytes that eager autograd keeps between the two passes.

    With b bytes a value in the matrix products and 4 elsewhere, a block keeps for each token

    .. math:: \underbrace{2(8 + b)\,D}_{\text{norms}} +
        \underbrace{6\,cD + 4H}_{\text{attention, fused}} + \underbrace{a\,bF}_{\text{ffn}}

    with c = b, or 4 where attention widens what it gets (then :math:`bD` are added, the mixed
    values as its last matrix reads them); a = 4 for swiglu and 2 otherwise; without norms the first
    term is :math:`2bD`, and without rotation 6 becomes 4 (queries and keys then exist once). With
    qk_norm 6 stays, and :math:`8D + 8H` are added, 8D more where c is 2, which that norm widens.
    The logits and their log-probabilities are :math:`8V` a token; a loss in chunks keeps a chunk of
    them only.

    Args:
      config: a configuration with its vocabulary known.
      batch_size: B, sequences at once (of a micro-batch).
      n_tokens: S, tokens of each sequence.
      bytes_per_value: b, 4 for float32, 2 for bfloat16 and float16 as compute_dtype.
      attention_bytes_per_value: c, by default b; 4 on a CPU, see `multi_head_attention`.

    Returns:
      `ActivationBytes`. Within a few per cent of what autograd saves in float32; torch.compile
      keeps less, because it computes cheap values again.

    Example:
      >>> activation_bytes(ModelConfig(vocab_size=1_000), batch_size=1, n_tokens=256).logits
      2048000

    References:
      Korthikanti et al., 2022, Reducing Activation Recomputation in Large Transformer Models,
      section 4.1 (the method of counting).
    """
    rows, d, b = batch_size * n_tokens, config.d_model, bytes_per_value
    norm = d * b if config.norm == "none" else d * (8 + b)
    copies = 6 if config.positions == "rope" or config.qk_norm else 4
    c = attention_bytes_per_value or b
    attention = copies * d * c + 4 * config.n_heads + (d * b if c > b else 0)
    if config.qk_norm:
        attention += 8 * (d if c == 4 else 2 * d) + 8 * config.n_heads
    inner = (4 if config.feed_forward == "swiglu" else 2) * config.ffn_width * b
    return ActivationBytes(
        norms=rows * (2 * config.n_layers + 1) * norm,
        attention=rows * config.n_layers * attention,
        feed_forward=rows * config.n_layers * inner,
        logits=rows * 8 * config.vocab_size,
    )


def kv_cache_bytes(
    config: ModelConfig,
    batch_size: int,
    n_tokens: int | None = None,
    *,
    bytes_per_value: int = 4,
) -> int:
    r"""Bytes of the keys and values of ``n_tokens`` tokens.

    .. math:: 2 \, L B S D \, b

    Args:
      config: its layers and width are read.
      batch_size: B, sequences generated at once.
      n_tokens: S; by default the context length, which is what `empty_cache` allocates.
      bytes_per_value: b, 4 for float32, 2 for half precision.

    Returns:
      Bytes.

    Example:
      >>> kv_cache_bytes(ModelConfig(), batch_size=1)
      786432

    References:
      Pope et al., 2022, Efficiently Scaling Transformer Inference, section 3.
    """
    length = config.context_length if n_tokens is None else n_tokens
    return 2 * config.n_layers * batch_size * length * config.d_model * bytes_per_value
