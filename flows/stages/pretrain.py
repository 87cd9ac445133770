"""A trained model: launches the training process and waits for it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.disk.atomic import new_file
from flows.formats.token_map_builder import token_map
from flows.progress.events import Event, Notify
from flows.stages.product import Product
from flows.trainer.job import Job
from flows.trainer.launch import launch
from flows.trainer.numerics import Numerics, Resolved, settle
from lmcore.errors import InputError

NUMERICS = "numerics.json"


def map_tokens(
    shards: Path, facts: Mapping, split: str, cache: Path, notify: Notify, stage: str
) -> Path:
    """Decode the shards of a split into a memory map, once; return its folder."""

    def tell(text: str) -> None:
        notify(Event("note", stage, text))

    paths = [shards / name for name in facts[split]["files"]]
    return token_map(paths, cache, digest=facts[split]["digest"], on_event=tell).path


def refuse_short_texts(facts: Mapping, context_length: int) -> None:
    """Refuse a text that does not fill one window.

    Args:
      facts: of the token shards.
      context_length: of the model.

    Raises:
      InputError: there is one; before the training process is started.
    """
    for split, name in (("train", "training"), ("valid", "validation")):
        length = n_targets(facts[split]) + 1  # the stream begins with an end-of-text token
        if length < context_length + 1:
            raise InputError(
                f"the {name} text has {length:,} tokens: a window of context_length "
                f"{context_length} needs {context_length + 1}; lower --model.context-length or "
                "give more text"
            )


def n_targets(split: Mapping) -> int:
    """Tokens that a pass over a split predicts: its own, and an end-of-text token a document.

    Example:
      >>> n_targets({"tokens": 990, "documents": 10})
      1000
    """
    return split["tokens"] + split["documents"]


def fixed_numerics(
    work_dir: Path, now: Resolved, asked: Numerics, allow_drift: bool, notify: Notify
) -> Resolved:
    """What the run began with, or, at its beginning, what was chosen now, recorded.

    Raises:
      InputError: the run began under other numerics, and ``allow_drift`` is off.
    """
    path = work_dir / NUMERICS
    recorded, drifts = recorded_numerics(path) if path.exists() else (None, [])
    chosen, drift = settle(recorded, now, asked, allow_drift=allow_drift)
    if drift:
        notify(Event("warning", "pretrain", f"resuming under other {', '.join(drift)}"))
        drifts.append({name: [getattr(recorded, name), getattr(chosen, name)] for name in drift})
    if drift or recorded is None:
        with new_file(path) as file:
            text = json.dumps({"numerics": chosen.as_dict(), "drift": drifts}, indent=2)
            file.write(text.encode())
    return chosen


def recorded_numerics(path: Path) -> tuple[Resolved, list]:
    """What a run in progress began with, and how it drifted since.

    Raises:
      InputError: the file was damaged.
    """
    try:
        value = json.loads(path.read_bytes())
        return Resolved(**value["numerics"]), list(value["drift"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} was damaged ({error!r}), so that nobody knows under which numerics the run "
            f"began; delete {path.parent} to train from the start, or the file alone to go on "
            "from the last checkpoint under the numerics of today"
        ) from error


def run(job: Job, notify: Notify, keep_open: Sequence[int] = ()) -> Product:
    """Train as ``job`` says; its folders exist and its token maps are verified.

    Raises:
      InputError: the training process found something that the user can mend.
    """
    launch(job, notify, keep_open)
    out_dir, work_dir = Path(job.out_dir), Path(job.work_dir)
    result = json.loads((out_dir / "result.json").read_text())
    numerics = json.loads((work_dir / NUMERICS).read_text())
    (out_dir / NUMERICS).write_text(json.dumps(numerics, indent=2))
    model = {"model": vars(job.model), "training": vars(job.training)}
    (out_dir / "model.json").write_text(json.dumps(model, indent=2))
    return Product(combined(result["weights"]), {**result, **numerics})


def combined(digests: Mapping[str, str]) -> str:
    """One digest of the last and the best weights."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
