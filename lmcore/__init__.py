"""A small-language-model pretraining pipeline made of pure functions.

Every public name is loaded on first use (PEP 562), so that the tokenizer never pays for
``import torch``.
"""

from importlib import import_module

_HOME = {
    "InputError": "lmcore.errors",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'lmcore' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
