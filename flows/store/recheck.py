"""Before publishing: did the code or an input change while the build was at work?"""

from flows.store import code_digest
from flows.store.explain import differences
from flows.store.key import Key, Request, make_key
from flows.store.layout import Layout
from flows.store.record import Artifact
from flows.store.verify import examine
from lmcore.errors import InputError


def refuse_stale_code(key: Key) -> None:
    """Refuse to build with loaded code that is older than the files the key was made from.

    Raises:
      InputError: a module was edited after this process loaded it.
    """
    stale = code_digest.stale_modules(key.code)
    if stale:
        raise InputError(
            f"the code of stage {key.stage} was edited after this process loaded it "
            f"({', '.join(stale)}): run again, so that the new code is what runs"
        )


def refuse_changed_code(key: Key, request: Request) -> None:
    """Compare code and versions on disk with those that the build began with.

    Raises:
      InputError: they changed, so the result belongs to neither key.
    """
    changed = [d.name for d in differences(key.as_json(), make_key(request).as_json())]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed while stage {key.stage} was at work, so its result is "
            "not published: run again"
        )


def refuse_changed_inputs(layout: Layout, request: Request) -> None:
    """Verify again each input that was given as an artifact.

    Raises:
      InputError: an input is not what it was, so what was made from it cannot be trusted.
    """
    for name, value in request.inputs.items():
        if not isinstance(value, Artifact):
            continue
        verdict = examine(value.path, layout.seal(value.stage, value.key), value.key)
        if verdict.faults:
            raise InputError(
                f"the input {name} of stage {request.stage} changed while it was read "
                f"({verdict.faults[0]}; in {value.path}), so the result is not published: run "
                "again, and it will be made anew"
            )
