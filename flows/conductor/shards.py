"""One function over many shards, on the task runner that the run's settings name.

Where Prefect conducts, each shard is a task run on its pages; elsewhere the same shards go through
a pool of the standard library. Which one it is changes no result.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import count
from typing import Any, Generic, Literal, TypeVar

from flows.conductor import server
from flows.conductor.processes import WorkerProcesses
from lmcore.errors import InputError

Runner = Literal["auto", "threads", "processes", "dask", "ray"]
CLUSTERS = ("dask", "ray")
AUTO_SHARDS = 32  # in threads, before auto begins processes; of text, some 130 MB
T = TypeVar("T")
R = TypeVar("R")


def map_shards(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    runner: Runner = "threads",
    workers: int = 0,
    ahead: int = 2,
) -> Iterator[R]:
    """``map(fn, items)``, several at once, in bounded memory.

    Items are read as results are taken: at most ``workers + ahead`` are under way, so that the
    workers have something to do while the caller looks at a result or reads an item. What goes
    wrong (in ``fn``, or in reading the items) is raised in the place of its result, after those
    before it; then nothing more is begun, and what is at work ends first, so keep a shard to a few
    seconds.

    Threads cost nothing, and share one interpreter's lock, so two gain little where numpy's calls
    are short. Processes (see `processes`) have a lock each, and begin in half a second. Over 8
    short shards Dask and Ray took 20 to 27 s where threads took one, for each of their workers
    imports Prefect: take those for many long shards.

    Args:
      fn: what to do with one shard. For any runner but threads, a function of a module, and its
        argument and result such as pickle takes.
      items: the shards.
      runner: threads or processes of this machine; auto, which begins with threads, and goes on
        with processes where there are many shards and several workers; a Dask cluster, the one at
        ``DASK_SCHEDULER_ADDRESS`` or one made for the call; a Ray cluster, the one at
        ``RAY_ADDRESS`` or one made for the call.
      workers: how many at once; 0 takes every core.
      ahead: how many more are read and wait for a worker.

    Returns:
      The results, in the order of the items.

    Raises:
      InputError: at once: the runner's package is missing, or Prefect does not conduct and the
        runner is dask or ray.
      Exception: with the results: what the first shard to fail raised.

    Example:
      >>> list(map_shards(len, ["a", "bcd"], runner="threads"))
      [1, 3]
    """
    need_package(runner)
    conducted = in_a_run()
    if not conducted and runner in CLUSTERS:
        raise InputError(
            f"--runner {runner} is one of Prefect's task runners, and --engine none does without "
            "Prefect: take --engine prefect, or --runner processes"
        )
    width = workers or os.cpu_count() or 1
    return results_of(fn, Line(items, width + ahead), runner, width, conducted)


def results_of(
    fn: Callable[[T], R], line: "Line[T]", runner: Runner, width: int, conducted: bool
) -> Iterator[R]:
    """The results, through Prefect while it conducts and does not fail."""
    with WorkerProcesses() as processes:
        here = where_it_pays(fn, processes, runner, width)
        if conducted:
            yield from through_prefect(fn if runner in CLUSTERS else here, line, runner, width)
        if line.more():
            with ThreadPoolExecutor(width) as executor:
                try:
                    yield from line.through(lambda item: executor.submit(here, item))
                finally:
                    executor.shutdown(cancel_futures=True)  # what has begun ends first


def where_it_pays(
    fn: Callable[[T], R], processes: WorkerProcesses, runner: Runner, width: int
) -> Callable[[T], R]:
    """``fn``, called in the thread that asks or in a process, as the runner says."""
    if runner == "threads" or (runner == "auto" and width == 1):
        return fn
    n_in_threads = AUTO_SHARDS if runner == "auto" else 0
    numbers = count()

    def call(item: T) -> R:
        return fn(item) if next(numbers) < n_in_threads else processes.call(fn, item)

    return call


class Line(Generic[T]):
    """Items in order: those under way, with their futures, and then those still to be read.

    Args:
      items: what to read from.
      length: how many are under way at most.
    """

    def __init__(self, items: Iterable[T], length: int) -> None:
        self.source = iter(items)
        self.length = length
        self.waiting: deque[tuple[T, Any]] = deque()  # an item and its future, None before that
        self.broken: Exception | None = None  # why no more can be read

    def more(self) -> bool:
        """Whether there is an item without a result; reads one to see."""
        if not self.waiting:
            self.read()
        if not self.waiting and self.broken is not None:
            raise self.broken
        return bool(self.waiting)

    def read(self) -> bool:
        """Read one more item; False where there is none."""
        if self.broken is not None:
            return False
        try:
            self.waiting.append((next(self.source), None))
        except StopIteration:
            return False
        except Exception as error:
            self.broken = error  # its turn comes after the results of what was read before
            return False
        return True

    def fill(self, submit: Callable[[T], Any]) -> None:
        """Submit what was read, and read as much as there is room for."""
        for place, (item, future) in enumerate(self.waiting):
            if future is None:
                self.waiting[place] = (item, submit(item))
        while len(self.waiting) < self.length and self.read():
            item, _ = self.waiting[-1]
            self.waiting[-1] = (item, submit(item))

    def through(self, submit: Callable[[T], Any]) -> Iterator[Any]:
        """The results of all items that are left, in order."""
        while self.more():
            self.fill(submit)
            result = self.waiting[0][1].result()
            self.waiting.popleft()
            yield result

    def settle(self, trouble: tuple[type[Exception], ...]) -> None:
        """Wait for what is under way; what met with trouble is to be submitted again."""
        for place, (item, future) in enumerate(self.waiting):
            if future is not None:
                self.waiting[place] = (item, settled(future, trouble))


def settled(future: Any, trouble: tuple[type[Exception], ...]) -> Any:
    """A future that has its outcome; None where that is trouble."""
    kept: Future[Any] = Future()
    try:
        kept.set_result(future.result())
    except trouble:
        return None
    except Exception as error:
        kept.set_exception(error)
    return kept


def need_package(runner: Runner) -> None:
    """Refuse a runner whose package is not installed."""
    if runner in CLUSTERS and find_spec(f"prefect_{runner}") is None:
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


def through_prefect(fn: Callable[[T], R], line: Line[T], runner: Runner, width: int) -> Iterator[R]:
    """Each shard as a task run; where Prefect itself fails, what is missing stays in the line."""
    import httpx
    import prefect
    from prefect.cache_policies import NO_CACHE
    from prefect.exceptions import PrefectException

    def shard(item: Any) -> Any:
        return fn(item)

    made = prefect.task(
        name="shard", cache_policy=NO_CACHE, persist_result=False, log_prints=False, retries=0
    )(shard)
    one_server = server.shared() if runner in CLUSTERS else nullcontext()
    trouble = (PrefectException, httpx.HTTPError)
    try:
        with one_server, task_runner(runner, width) as started:
            try:
                yield from line.through(lambda item: started.submit(made, {"item": item}))
            except trouble:
                line.settle(trouble)  # before the workers are sent away
                raise
    except trouble as error:
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
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(width)
