"""Which of the fast twins does the work: numpy, or numba where it is installed and pays."""

from types import ModuleType
from typing import Literal

from lmcore.errors import InputError

Engine = Literal["auto", "numpy", "numba"]

AUTO_CHARACTERS = 1 << 25
"""How much text ``auto`` reads before it turns to numba.

Importing numba and loading its compiled functions takes about half a second, and compiling them,
once after an installation, about ten; 32 million characters take numpy as long as the former.
"""


def compiled(engine: Engine, n_characters: int = 0) -> ModuleType | None:
    """The compiled functions, if they are to do the work; None leaves it to numpy.

    Args:
      engine: numpy never imports numba; numba always does; auto does when there is enough to do
        and numba is installed. The results are the same.
      n_characters: how much text there was so far.

    Raises:
      InputError: the engine is unknown, or is numba, which is not installed.

    Example:
      >>> compiled("numpy") is compiled("auto") is None
      True
    """
    known_engine(engine)
    if engine == "numpy" or (engine == "auto" and n_characters < AUTO_CHARACTERS):
        return None
    try:
        # A statement, not a name in a string: what depends on the code must see it.
        import lmcore.tokenizer.compiled as kernels
    except ImportError as error:
        if engine == "auto":
            return None
        raise InputError(
            f"engine is 'numba', which cannot be imported ({error}); "
            'pip install "lmcore[fast]" or set engine to auto'
        ) from None
    return kernels


def known_engine(engine: Engine) -> None:
    """An InputError if there is no such engine."""
    if engine not in ("auto", "numpy", "numba"):
        raise InputError(
            f"engine is {engine!r}: it must be one of auto, numpy, numba; "
            "leave it at auto to take the best there is"
        )
