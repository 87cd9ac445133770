"""The door to Prefect: two decorators, and the call that runs a flow, Prefect there or not.

The environment variable ``LMCORE_ENGINE`` chooses when a flow's module is imported: ``prefect``,
the default, or ``none``, under which `flow` and `task` leave functions as they are and Prefect is
never imported. The store alone says what is done: the outcome of a run is that of our own
functions, and a Prefect that fails around them costs its pages and nothing else.

The other effects that go through Prefect stand in `flows.conductor`: `shards` maps a function over
shards, `pages` publishes tables, texts, pictures, links and progress.
"""

import os
import sys
import traceback
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, get_args

from flows.conductor import server
from lmcore.errors import InputError

Engine = Literal["prefect", "none"]
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """How a run ended: an exit status, and the flow's value where that is 0."""

    status: int
    value: R | None = None


def chosen() -> Engine:
    """The engine of this process.

    Raises:
      InputError: ``LMCORE_ENGINE`` holds another word.
    """
    word = os.environ.get("LMCORE_ENGINE") or "prefect"
    if word not in get_args(Engine):
        raise InputError(f"LMCORE_ENGINE is {word!r}: it must be prefect or none")
    return cast(Engine, word)


def flow(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a flow, which Prefect can deploy, or leave it as it is.

    Args:
      name: what Prefect's pages and its command line call it.

    Returns:
      A decorator. Under the engine ``prefect`` it returns a ``prefect.Flow``, which checks the
      types of its parameters and refuses unknown ones before any work.

    Raises:
      InputError: Prefect is not installed, or its home cannot be written.

    Example:
      >>> @flow("pipeline")
      ... def pipeline(preset: str = "quickstart") -> str: ...
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        if chosen() == "none":
            return fn
        server.configure()
        import prefect

        made = prefect.flow(name=name, log_prints=False, retries=0, persist_result=False)(fn)
        return cast(Callable[P, R], made)

    return decorate


def task(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a task, which Prefect shows, or leave it as it is.

    It caches nothing and keeps no result: Prefect's cache does not see a change inside an imported
    module, and the store does.

    Args:
      name: what Prefect's pages call the task and its runs.

    Raises:
      InputError: as for `flow`.

    Example:
      >>> @task("download")
      ... def download(url: str) -> bytes: ...
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        if chosen() == "none":
            return fn
        server.configure()
        import prefect
        from prefect.cache_policies import NO_CACHE

        made = prefect.task(
            name=name,
            task_run_name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            log_prints=False,
            retries=0,
        )(fn)

        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return conduct(made, args, kwargs)

        return call

    return decorate


def run_flow(fn: Callable[..., R], **parameters: Any) -> Outcome[R]:
    """Run a flow to its end and say how it ended, in one line or one traceback.

    Args:
      fn: a function that `flow` decorated.
      parameters: its arguments.

    Returns:
      Status 0 and the value. Status 1 where an `InputError` stopped it, printed as one line, or a
      bug, printed as one traceback. Status 130 after Ctrl-C. Without Prefect's server, or where it
      dies on the way, the run goes on as plain calls, says so, and its status is its own.

    Example:
      >>> sys.exit(run_flow(pipeline, preset="quickstart").status)
    """
    try:
        return Outcome(0, call_flow(fn, parameters))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return Outcome(1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is done", file=sys.stderr)
        return Outcome(130)
    except Exception as error:
        print_bug(error)
        return Outcome(1)


def call_flow(fn: Callable[..., R], parameters: dict[str, Any]) -> R:
    """The flow's value, through Prefect where it was decorated for it and a server answers."""
    if not hasattr(fn, "validate_parameters"):
        return fn(**parameters)
    check_parameters(fn, parameters)
    if server.start() and os.environ.get("PREFECT_API_URL"):
        from prefect.settings import PREFECT_UI_URL

        server.say(f"the run shows at {PREFECT_UI_URL.value()}/runs")
    return conduct(fn, (), parameters, return_state=True)


def check_parameters(made: Any, parameters: dict[str, Any]) -> None:
    """Refuse parameters that are unknown or of the wrong type, before a server is started."""
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError

    try:
        made.validate_parameters(parameters)
    except (ParameterTypeError, SignatureMismatchError) as error:
        raise InputError(str(error)) from error


@dataclass
class Record:
    """What one call of our own function did, whatever happened around it."""

    values: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    def around(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn``, with its outcome remembered here."""

        @wraps(fn)
        def remembered(*args: Any, **kwargs: Any) -> Any:
            try:
                self.values.append(fn(*args, **kwargs))
            except BaseException as error:
                self.error = error
                if isinstance(error, KeyboardInterrupt):
                    server.hurry()
                raise
            finally:
                server.conducts()  # says at once that the server died while we worked
            return self.values[-1]

        return remembered


def conduct(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> Any:
    """Call a flow or task through Prefect; value and error are our function's own.

    What Prefect raises before our function began makes it a plain call; what Prefect raises
    afterwards is said and forgotten.
    """
    if not server.conducts():
        return made.fn(*args, **kwargs)
    from prefect.exceptions import PrefectSignal

    record = Record()
    remembering = copy(made)
    remembering.fn = record.around(made.fn)
    trouble: BaseException | None = None
    try:
        remembering(*args, **kwargs, **options)
    except (Exception, PrefectSignal) as error:
        trouble = error
    if record.error is not None:
        raise record.error
    if trouble is not None:
        server.lose(f"it fails ({server.first_line(trouble)}); the run goes on without it")
    return record.values[-1] if record.values else made.fn(*args, **kwargs)


def print_bug(error: BaseException) -> None:
    """One traceback: of our frames, not of the thirty that Prefect puts between them."""
    report = traceback.TracebackException.from_exception(error)
    trim(report)
    print("".join(report.format()), end="", file=sys.stderr)


def trim(report: traceback.TracebackException) -> None:
    """Drop the frames around our functions, here and in the causes, unless none is left."""
    kept = [frame for frame in report.stack if not is_machinery(frame.filename)]
    if kept:
        report.stack[:] = kept
    for cause in (report.__cause__, report.__context__):
        if cause is not None:
            trim(cause)


def is_machinery(filename: str) -> bool:
    """Whether a frame belongs to what calls our functions rather than to them."""
    here = (__file__, f"{os.path.dirname(server.__file__)}{os.sep}")
    return filename.startswith(here) or f"{os.sep}site-packages{os.sep}prefect{os.sep}" in filename
