"""The manifest in examples/kubernetes: its parts belong together, and it runs the pinned image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pytest_llmengine.containers.spec import recipe_of

MANIFEST = Path(__file__).parents[1] / "examples" / "kubernetes" / "vllm.yaml"


def _by_kind() -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all(MANIFEST.read_text("utf-8"))}


def test_it_runs_the_image_that_containers_run() -> None:
    """Image and port are those of the recipe for containers."""
    recipe = recipe_of("vllm_api")
    assert recipe is not None
    (vllm,) = _by_kind()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert vllm["image"] == recipe.image
    assert vllm["ports"] == [{"name": "http", "containerPort": recipe.port}]


def test_its_parts_name_one_another() -> None:
    """Service and policy select the pods, which mount the volume and have time to end."""
    parts = _by_kind()
    template = parts["Deployment"]["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (vllm,) = pod["containers"]
    assert parts["Service"]["spec"]["selector"] == labels
    assert parts["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "emptyDir" not in v
    ]
    assert claims == [parts["PersistentVolumeClaim"]["metadata"]["name"]]
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in vllm["volumeMounts"]}
    (wait,) = [int(a.partition("=")[2]) for a in vllm["args"] if a.startswith("--shutdown-timeout")]
    assert wait < pod["terminationGracePeriodSeconds"]
