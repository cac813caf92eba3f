from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from modelwright_runtime.metrics import Attestation, Metrics


def scrape(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, read by the parser of the official client."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def serving() -> Metrics:
    metrics = Metrics('odd "name"\\', "1.2.3")
    metrics.set_attestations(
        [Attestation("int8", "failed", 0.5), Attestation("fp32", "passed", 0.25)]
    )
    metrics.set_serving("fp32", {"version": "abc", "profile": "x86-avx2", "request_key": "k"}, 0.75)
    return metrics


def test_requests_are_counted_by_protocol_code_and_variant() -> None:
    metrics = serving()
    counted_codes: list[tuple[str, int | str]] = [("http", 200), ("http", 200), ("http", 400)]
    for protocol, code in [*counted_codes, ("grpc", "OK")]:
        metrics.observe_request(protocol, code, 0.003)
    counted = {
        (labels["protocol"], labels["code"], labels["variant"]): value
        for labels, value in scrape(metrics)["modelwright_requests_total"]
    }
    assert counted == {
        ("http", "200", "fp32"): 2,
        ("http", "400", "fp32"): 1,
        ("grpc", "OK", "fp32"): 1,
    }


def test_histograms_are_cumulative_and_bounds_are_inclusive() -> None:
    metrics = serving()
    for micros in (100, 101, 20_000_000):
        metrics.observe_inference(0, micros * 1000)
    samples = scrape(metrics)
    name = "modelwright_inference_duration_seconds"
    buckets = {labels["le"]: value for labels, value in samples[f"{name}_bucket"]}
    assert (buckets["0.0001"], buckets["0.00025"], buckets["10"], buckets["+Inf"]) == (1, 2, 2, 3)
    assert samples[f"{name}_count"][0][1] == 3
    assert samples[f"{name}_sum"][0][1] == 20.000201
    assert list(buckets.values()) == sorted(buckets.values())


def test_the_load_is_told() -> None:
    samples = scrape(serving())
    results = {
        (labels["variant"], labels["result"])
        for labels, value in samples["modelwright_attestation_result"]
        if value == 1
    }
    assert results == {("int8", "failed"), ("fp32", "passed")}
    ((labels, value),) = samples["modelwright_model_info"]
    assert value == 1
    assert labels == {
        "model": 'odd "name"\\',
        "variant": "fp32",
        "version": "abc",
        "profile": "x86-avx2",
        "request_key": "k",
    }
    assert samples["modelwright_load_duration_seconds"][0][1] == 0.75
    assert samples["process_resident_memory_bytes"][0][1] > 1 << 20


def test_gauges_are_read_at_scrape() -> None:
    metrics = serving()
    depth = [3]
    metrics.set_gauge("modelwright_queue_depth", "Requests that wait.", lambda: depth[0])
    assert scrape(metrics)["modelwright_queue_depth"][0][1] == 3
    depth[0] = 5
    assert scrape(metrics)["modelwright_queue_depth"][0][1] == 5
