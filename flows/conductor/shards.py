"""One function over many shards, on the task runner that the run's settings name.

Where Prefect conducts, each shard is a task run on its pages; elsewhere the same shards go through
a pool of the standard library. Which one it is changes no result.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from flows.conductor import server
from lmcore.errors import InputError

Runner = Literal["threads", "processes", "dask", "ray"]
T = TypeVar("T")
R = TypeVar("R")


def map_shards(
    fn: Callable[[T], R], items: Iterable[T], *, runner: Runner = "threads", workers: int = 0
) -> list[R]:
    """``[fn(item) for item in items]``, several at once.

    The first shard that raises stops those that have not begun; the call returns when those at
    work have ended, so keep a shard to a few seconds. Over 8 short shards threads took 1 s and
    the others 20 to 27, for each of their workers imports Prefect: take those for many long
    shards whose work holds the interpreter's lock.

    Args:
      fn: what to do with one shard. For any runner but threads, a function of a module, and its
        argument and result such as pickle takes.
      items: the shards.
      runner: threads or processes of this machine; a Dask cluster, the one at
        ``DASK_SCHEDULER_ADDRESS`` or one made for the call; a Ray cluster, the one at
        ``RAY_ADDRESS`` or one made for the call.
      workers: how many at once; 0 takes every core.

    Returns:
      The results, in the order of the items.

    Raises:
      InputError: the runner's package is missing, or Prefect does not conduct and the runner is
        dask or ray.
      Exception: what the first shard to fail raised.

    Example:
      >>> map_shards(len, ["a", "bcd"], runner="threads")
      [1, 3]
    """
    shards = dict(enumerate(items))
    width = workers or os.cpu_count() or 1
    results: dict[int, R] = {}
    need_package(runner)
    if in_a_run():
        through_prefect(fn, shards, runner, width, results)
    elif runner in ("dask", "ray"):
        raise InputError(
            f"--runner {runner} is one of Prefect's task runners, and --engine none does without "
            "Prefect: take --engine prefect, or --runner processes"
        )
    left = {index: item for index, item in shards.items() if index not in results}
    if left:
        with pool(runner, width) as executor:
            drain(lambda item: executor.submit(fn, item), left, width, results)
    return [results[index] for index in shards]


def need_package(runner: Runner) -> None:
    """Refuse a runner whose package is not installed."""
    if runner in ("dask", "ray") and find_spec(f"prefect_{runner}") is None:
        raise InputError(
            f"--runner {runner} needs a package that is not installed: "
            f'pip install "lmcore[{runner}]", or take --runner threads'
        )


def in_a_run() -> bool:
    """Whether this code runs inside a flow that Prefect conducts."""
    if not server.conducts():
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return bool(FlowRunContext.get() or TaskRunContext.get())


def through_prefect(
    fn: Callable[[T], R], shards: Mapping[int, T], runner: Runner, width: int, results: dict[int, R]
) -> None:
    """Each shard as a task run; where Prefect itself fails, what is missing stays missing."""
    import httpx
    import prefect
    from prefect.cache_policies import NO_CACHE
    from prefect.exceptions import PrefectException

    def shard(item: Any) -> Any:
        return fn(item)

    made = prefect.task(
        name="shard", cache_policy=NO_CACHE, persist_result=False, log_prints=False, retries=0
    )(shard)
    one_server = nullcontext() if runner == "threads" else server.shared()
    try:
        with one_server, task_runner(runner, width) as started:
            drain(lambda item: started.submit(made, {"item": item}), shards, width, results)
    except (PrefectException, httpx.HTTPError) as error:
        server.lose(f"it fails ({server.first_line(error)}); the run goes on without it")


def task_runner(runner: Runner, width: int) -> Any:
    """Prefect's task runner of that name."""
    if runner == "dask":
        from prefect_dask import DaskTaskRunner  # pyright: ignore[reportMissingImports]

        if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
            return DaskTaskRunner(address=address)
        local = {"n_workers": width, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs=local)
    if runner == "ray":
        from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports]

        if address := os.environ.get("RAY_ADDRESS"):
            return RayTaskRunner(address=address)
        return RayTaskRunner(init_kwargs={"num_cpus": width})
    from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

    return {"threads": ThreadPoolTaskRunner, "processes": ProcessPoolTaskRunner}[runner](width)


def pool(runner: Runner, width: int) -> Executor:
    """The standard library's pool; fresh processes, for a fork of threads that hold locks hangs."""
    if runner == "threads":
        return ThreadPoolExecutor(width)
    return ProcessPoolExecutor(width, mp_context=get_context("spawn"))


def drain(
    submit: Callable[[T], Any], shards: Mapping[int, T], width: int, results: dict[int, R]
) -> None:
    """At most ``width`` shards at once until all are done or one has raised."""
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    ahead = iter(shards.items())
    failure: Exception | None = None

    def begin(index: int, item: T) -> None:
        submit(item).add_done_callback(lambda future: finished.put((index, future)))

    for index, item in islice(ahead, width):
        begin(index, item)
    running = min(width, len(shards))
    while running:
        index, future = finished.get()
        running -= 1
        try:
            results[index] = future.result()
        except Exception as error:
            failure = failure or error
        following = next(ahead, None) if failure is None else None
        if following is not None:
            begin(*following)
            running += 1
    if failure is not None:
        raise failure
