"""Every preset has a deployment, served or for workers, and no name is held by both."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deploy
from flows.presets import PRESETS
from lmcore.errors import InputError

PROJECT = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
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
