"""`make demo`: from a bare machine to a measured, attested model that answers real questions.

Each step is idempotent; a second run finds most of it done. Interrupted, it says how to go on:
what runs then is whole, since each step cleans up after itself.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from e2e.cluster.buildah import ImageBuildError
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_images
from e2e.cluster.installation import NAMESPACE, write_installation
from e2e.cluster.progress import Durations, Progress
from e2e.cluster.spec import cache_directory
from e2e.presentation import console, reasons, variant_table
from e2e.target import Target, choose_target
from modelwright_artifact.oci import RegistryOptions
from samples import digits
from samples.ask import ask_server, render_answers
from samples.publish import publish_sample, render_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

DEMO_NAMESPACE: Final = "modelwright-demo"
MODEL: Final = "digits"
ROLLOUT_SECONDS: Final = 300
READY_SECONDS: Final = 900
POLL_SECONDS: Final = 1.0


def main() -> int:
    """Run the demo; 0 when the model answered."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Progress(Durations(cache_directory() / "durations.json"), prefix="demo/")
    started = time.monotonic()
    try:
        target = choose_target(progress)
        run(target, progress, started)
    except (ClusterError, ImageBuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; `make demo` goes on from here, `make clean-cluster` removes all")
        return 130
    return 0


def run(target: Target, progress: Progress, started: float) -> None:
    """The main job, step by step."""
    target.prepare()
    progress.prefix = "demo/"
    images = build_images(
        target.registry.push,
        registry_pull=target.registry.pull,
        tls=not target.registry.insecure,
        report=lambda line: progress.say(f"   {line}"),
    )
    with progress.step("sample: train the digit classifier"):
        folder = digits.ensure()
    with progress.step("sample: publish model and data"):
        manifest = _publish(target, folder)
    with progress.step("install Modelwright"):
        install(target, images)
    with progress.step("apply the InferenceModel"):
        apply_sample(target, manifest)
    model = wait_until_ready(target, progress)
    with target.reach(f"{DEMO_NAMESPACE}/{MODEL}") as url:
        answers = render_answers(ask_server(url))
        show(target, model, url, answers, seconds=time.monotonic() - started)


def install(target: Target, images: Mapping[str, str]) -> None:
    """`kubectl apply -k` of an overlay that names today's images, and wait for the operator."""
    registry = target.registry
    settings: dict[str, Any] = {"artifactRepository": f"{registry.pull}/modelwright"}
    settings["insecureRegistries"] = [registry.pull.partition("/")[0]] if registry.insecure else []
    overlay = write_installation(
        cache_directory() / "installation", images, overlay="demo", settings=settings
    )
    target.kubectl("apply", "-k", str(overlay))
    target.kubectl(
        *("-n", NAMESPACE, "rollout", "status", "deployment/modelwright-operator"),
        f"--timeout={ROLLOUT_SECONDS}s",
    )


def apply_sample(target: Target, manifest: str) -> None:
    """Apply the sample in a namespace of its own."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEMO_NAMESPACE}}
    target.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    target.kubectl("-n", DEMO_NAMESPACE, "apply", "-f", "-", stdin=manifest)


def wait_until_ready(target: Target, progress: Progress) -> dict[str, Any]:
    """Tell each change of Ready until it is True for the current spec.

    Raises:
        ClusterError: the model is stalled, or not ready in time.
    """
    deadline = time.monotonic() + READY_SECONDS
    said = ""
    with progress.step("build, measure, attest, serve"):
        while time.monotonic() < deadline:
            model = get_model(target)
            ready = condition(model, "Ready")
            line = f"{ready.get('reason', 'Pending')}: {ready.get('message', '')}"
            if line != said:
                progress.say(f"   {line}")
                said = line
            if is_current(model) and ready.get("status") == "True":
                return model
            if is_current(model) and condition(model, "Stalled").get("status") == "True":
                raise ClusterError(f"the model is stalled: {said}")
            time.sleep(POLL_SECONDS)
    raise ClusterError(f"the model was not ready in {READY_SECONDS} s; last word: {said}")


def get_model(target: Target) -> dict[str, Any]:
    """The sample as it stands in the cluster."""
    text = target.kubectl("-n", DEMO_NAMESPACE, "get", "inferencemodel", MODEL, "-o", "json")
    model: dict[str, Any] = json.loads(text)
    return model


def is_current(model: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the spec as it is now."""
    observed = model.get("status", {}).get("observedGeneration")
    return bool(observed == model["metadata"]["generation"])


def condition(model: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition, or nothing."""
    conditions = model.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {})


def show(
    target: Target, model: Mapping[str, Any], url: str, answers: str, *, seconds: float
) -> None:
    """What happened, and where to look next."""
    out = console()
    rows = model["status"].get("variants", [])
    out.print("\n[bold]kubectl get inferencemodels[/bold]")
    out.print(
        target.kubectl("-n", DEMO_NAMESPACE, "get", "inferencemodels"), highlight=False, end=""
    )
    out.print("\n[bold]What was tried, measured on this node[/bold]")
    out.print(variant_table(rows))
    for sentence in reasons(rows):
        out.print(f"  {sentence}", highlight=False)
    out.print("\n[bold]Real digits, asked over HTTP[/bold]")
    out.print(answers, highlight=False, markup=False)
    out.print(f"\nFrom `make demo` to these answers: {seconds:.0f} s\n")
    out.print("[bold]Look further[/bold]")
    for line in (
        target.environment,
        f"kubectl -n {DEMO_NAMESPACE} describe inferencemodel {MODEL}",
        f"kubectl -n {DEMO_NAMESPACE} get modelbuilds,jobs,deployments,pods",
        f".venv/bin/modelwright report {MODEL} -n {DEMO_NAMESPACE}",
        f"curl {url}/v2/models/{MODEL}",
        f".venv/bin/python -m samples.ask {url}",
    ):
        out.print(f"  {line}", highlight=False, markup=False)
    out.print(f"To stop: {target.hint}", highlight=False)


def _publish(target: Target, folder: Any) -> str:
    registry = target.registry
    host = registry.push.partition("/")[0]
    options = RegistryOptions(insecure_hosts=frozenset({host} if registry.insecure else ()))
    pinned = publish_sample(
        folder,
        f"{registry.push}/samples/{MODEL}",
        options,
        seen_as=f"{registry.pull}/samples/{MODEL}",
    )
    return render_manifest(MODEL, pinned)


if __name__ == "__main__":
    sys.exit(main())
