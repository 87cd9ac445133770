"""Every preset has a deployment, served or for workers, and no name is held by both."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deploy
from flows.presets import PRESETS
from lmcore.errors import InputError

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
FLAT = {"preset", "train_url", "valid_url", "vocab_size", "d_model", "n_layers", "context_length"}
FLAT |= {"tokens", "max_lr", "seed", "device", "processes", "overrides"}


@pytest.fixture(scope="module")
def served(prefect_server: None) -> dict[str, Any]:
    """The deployments that `serve` would serve, by name."""
    return {deployment.name: deployment for deployment in deploy.deployments()}


def test_prefect_yaml_names_every_preset_once() -> None:
    """The worker's deployments are the presets, each bound to its own name."""
    bound = {entry["name"]: entry["parameters"] for entry in PROJECT["deployments"]}
    assert len(PROJECT["deployments"]) == len(bound)
    assert bound == {name: {"preset": name} for name in PRESETS}


def test_prefect_yaml_points_at_the_pipeline() -> None:
    """Each deployment runs the flow that `python flows/pipeline.py` runs, in one work pool."""
    for entry in PROJECT["deployments"]:
        assert entry["entrypoint"] == "flows/pipeline.py:pipeline"
        assert entry["work_pool"] == {"name": "local"}
        assert entry["enforce_parameter_schema"] is True


def test_prefect_yaml_leaves_no_question_open() -> None:
    """What `prefect deploy --all` would ask on a terminal, once a deployment, is answered."""
    assert "prefect.deployments.steps.set_working_directory" in PROJECT["pull"][0]
    assert all(entry["schedules"] == [] for entry in PROJECT["deployments"])


def test_served_deployments_are_the_presets(served: dict[str, Any]) -> None:
    """Serving offers every preset, its parameters flat, unknown and mistyped ones refused."""
    assert list(served) == list(PRESETS)
    for name, deployment in served.items():
        assert deployment.parameters == {"preset": name}
        assert deployment.enforce_parameter_schema
        assert deployment.flow_name == deploy.FLOW
        schema = deployment._parameter_openapi_schema.model_dump()
        assert set(schema["properties"]) == FLAT
        assert schema["properties"]["preset"]["type"] == "string"


def test_served_deployments_load_the_pipeline_file(served: dict[str, Any]) -> None:
    """A served run loads flows/pipeline.py itself, as a worker's does."""
    for deployment in served.values():
        assert deployment.entrypoint.endswith("flows/pipeline.py:pipeline")
        assert deployment.work_pool_name is None


def test_description_tells_the_presets_apart(served: dict[str, Any]) -> None:
    """Each preset's line says what it trains; no two are alike."""
    lines = [deployment.description for deployment in served.values()]
    assert len(set(lines)) == len(lines)
    assert lines[0].startswith("embedded stories; vocabulary")


@pytest.fixture
def health() -> Iterator[str]:
    """The address of something that says it is healthy."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}/api"
        listener.shutdown()


def test_serving_finds_the_server_of_the_environment(
    health: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PREFECT_API_URL, where set, is the server to serve from."""
    monkeypatch.setenv("PREFECT_API_URL", health)
    assert deploy.find_server() == health


def test_serving_finds_a_server_at_the_usual_place(
    health: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PREFECT_API_URL, the server that `prefect server start` starts is found."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(deploy, "USUAL_SERVER", health)
    assert deploy.find_server() == health


@pytest.mark.parametrize("given", ["http://127.0.0.1:9/api", "", "nonsense"])
def test_serving_without_a_server_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, runs could not be asked for: one error says how to start one."""
    monkeypatch.setenv("PREFECT_API_URL", given)
    monkeypatch.setattr(deploy, "USUAL_SERVER", "http://127.0.0.1:9/api")
    monkeypatch.setattr(deploy, "PATIENCE_SECONDS", 0)
    with pytest.raises(InputError, match="prefect server start"):
        deploy.find_server()


def test_a_name_that_a_worker_holds_is_not_served(conducted: None) -> None:
    """A deployment with a work pool keeps its name; one without, or none at all, gives it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name(deploy.FLOW)
        client.create_deployment(flow_id=flow_id, name="free")
        deploy.need_free_names(["free", "unheard-of"])
        client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        client.create_deployment(flow_id=flow_id, name="held", work_pool_name="local")
        with pytest.raises(InputError, match=r"pipeline/held \(pool local\)"):
            deploy.need_free_names(["free", "held"])


PREFECT = [sys.executable, "-m", "prefect"]
SERVE = [sys.executable, "flows/pipeline.py", "--serve"]
TINY = ["--training.warmup-steps", "1", "--corpus.n-train-stories", "300"]
TINY += ["--corpus.n-valid-stories", "20"]


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """A process in the background, ended as Ctrl-C ends it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("taker", ["serve", "worker"])
def test_the_documented_commands_complete_a_run(tmp_path: Path, taker: str) -> None:
    """Server, then serving or a worker, then `prefect deployment run … --watch`: exit status 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }

    def prefect(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PREFECT, *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    with ExitStack() as stack:
        server = [*PREFECT, "server", "start", "--port", port]
        stack.enter_context(running(server, environment, tmp_path / "server.log"))
        wait_for(lambda: deploy.answers(environment["PREFECT_API_URL"]))
        take = SERVE
        if taker == "worker":
            assert prefect("work-pool", "create", "local", "--type", "process").returncode == 0
            assert prefect("deploy", "--all").returncode == 0
            take = [*PREFECT, "worker", "start", "--pool", "local", "--limit", "1"]
        log = tmp_path / "taker.log"
        stack.enter_context(running(take, environment, log))
        wait_for(lambda: any(sign in log.read_text() for sign in ("being served", "started!")))
        overrides = json.dumps([*TINY, "--artifacts", str(tmp_path / "artifacts")])
        wanted = ["-p", "tokens=4096", "-p", f"overrides={overrides}"]
        run = prefect("deployment", "run", "pipeline/quickstart", "--watch", *wanted)
        assert run.returncode == 0, run.stdout + run.stderr + log.read_text()
        refused = prefect("deployment", "run", "pipeline/quickstart", "-p", "vocab_size=many")
        assert refused.returncode == 1
        assert "vocab_size" in refused.stdout
    assert list((tmp_path / "artifacts" / "runs").iterdir())


def wait_for(question: Any) -> None:
    """Wait up to two minutes for a yes."""
    end = time.monotonic() + 120
    while not question():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)
