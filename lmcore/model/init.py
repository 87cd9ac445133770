"""Initial values of the parameters; their names and shapes are those of `lmcore.model.shapes`."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.shapes import parameter_shapes
from lmcore.params import Params

# Where the normal distribution is cut, in standard deviations, and the mass it loses on one side.
CUT = 3.0
_TAIL = 0.5 * math.erfc(CUT / math.sqrt(2.0))
# What zero_init_outputs starts at zero.
_OUTPUTS = ("attn.output_proj.weight", "ffn.w2.weight", "lm_head.weight")


def init_params(config: ModelConfig, seed: int) -> Params:
    r"""Initial values of every parameter.

    .. math:: W \sim \mathcal{N}_{[-3\sigma, 3\sigma]}(0, \sigma^2), \quad
        \sigma^2 = \frac{2}{d_\mathrm{in} + d_\mathrm{out}}

    The token embeddings have :math:`\sigma = 1`, also when the output matrix is tied to them;
    gains are one and biases zero. With ``zero_init_outputs`` the matrices that write into the
    residual stream, and ``lm_head.weight``, are zero. A parameter's values depend on the seed and
    on its own name and shape alone: another layer, or another choice elsewhere, changes nothing
    here.

    Args:
      config: a usable configuration with its vocabulary known.
      seed: any integer.

    Returns:
      Name to float32 tensor on the CPU, in the order of `parameter_shapes`.

    Raises:
      InputError: when the configuration has faults or no vocabulary yet.

    Example:
      >>> config = ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1)
      >>> init_params(config, seed=0)["layers.0.ln1.weight"]
      tensor([1., 1., 1., 1., 1., 1., 1., 1.])

    References:
      Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward neural
      networks, eq. 12 (the variance); Stanford CS336, 2025, assignment 1, section 3.4.1 (the cut);
      Zhang, Dauphin and Ma, 2019, Fixup Initialization, section 3 (branches that start at zero).
    """
    zero = _OUTPUTS if config.zero_init_outputs else ()
    return {
        name: torch.zeros(shape) if name.endswith(zero) else _initial_value(name, shape, seed)
        for name, shape in parameter_shapes(config).items()
    }


def _initial_value(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """One parameter's values, by the kind that its name and shape tell."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    std = 1.0 if name == "token_embeddings.weight" else math.sqrt(2.0 / sum(shape))
    return _truncated_normal(shape, std, _generator(seed, name))


def _generator(seed: int, name: str) -> torch.Generator:
    """A generator of its own for each (seed, name)."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    # The CPU generator uses 32 bits of its seed; two of a thousand names share one with
    # probability 1e-4, and then share numbers, which harms nothing.
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def _truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator) -> Tensor:
    """A normal distribution cut at 3 standard deviations, by inverting its distribution.

    One uniform number for each value, in float64: unlike rejection, the k-th value depends on
    the k-th draw alone.
    """
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    normal = torch.special.ndtri(_TAIL + (1.0 - 2.0 * _TAIL) * uniform)
    return (std * normal.clamp(-CUT, CUT)).float()


def check_params(params: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise unless ``params`` has exactly the names and shapes that ``config`` asks for.

    Args:
      params: name to tensor, such as a state dict that was loaded.
      config: a usable configuration with its vocabulary known.

    Raises:
      InputError: naming every parameter that is missing, unknown or of another shape.

    Example:
      >>> config = ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1)
      >>> check_params(init_params(config, seed=0), config)
    """
    shapes = parameter_shapes(config)
    found = [f"{name} is missing" for name in shapes if name not in params]
    found += [f"{name} is unknown" for name in params if name not in shapes]
    found += [
        f"{name} must be {list(shape)}, not {list(params[name].shape)}"
        for name, shape in shapes.items()
        if name in params and tuple(params[name].shape) != shape
    ]
    if found:
        raise InputError(
            "these parameters are not those of the configured model: "
            + "; ".join(found)
            + "; use the configuration that they were trained with"
        )
