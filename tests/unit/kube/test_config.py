import base64
import json
import ssl
import sys

import pytest
import yaml

from modelwright_operator.kube import config as configuration
from modelwright_operator.kube.config import (
    ConfigError,
    ExecToken,
    FileToken,
    StaticToken,
    load_config,
    load_in_cluster,
    load_kubeconfig,
)


def write_kubeconfig(path, *, user, cluster=None, context=None, current="here"):
    document = {
        "current-context": current,
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **(context or {})}}],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def plugin(tmp_path, status):
    script = tmp_path / "plugin.py"
    script.write_text(
        "import json, os, sys\n"
        "calls = open(sys.argv[1], 'a'); calls.write('x'); calls.close()\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        f"print({json.dumps(json.dumps({'status': status}))})\n"
    )
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script), str(tmp_path / "calls")],
        "env": [{"name": "EXTRA", "value": "1"}],
    }


async def test_token_and_namespace_of_a_kubeconfig(tmp_path):
    path = write_kubeconfig(
        tmp_path / "config", user={"token": "secret"}, context={"namespace": "shop"}
    )
    config = load_kubeconfig([path])
    assert (config.server, config.namespace) == ("https://10.0.0.1:6443", "shop")
    assert await config.tokens.read() == "secret"
    assert "secret" not in repr(config)


def test_files_are_found_from_the_kubeconfigs_own_folder(tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "cert.pem").write_bytes(b"CERT")
    (folder / "key.pem").write_bytes(b"KEY")
    path = write_kubeconfig(
        folder / "config",
        user={"client-certificate": "cert.pem", "client-key": "key.pem"},
        cluster={"certificate-authority-data": base64.b64encode(b"CA").decode()},
    )
    config = load_kubeconfig([path])
    assert (config.certificate, config.private_key, config.ca_data) == (b"CERT", b"KEY", b"CA")


def test_first_of_several_kubeconfigs_counts_and_missing_ones_do_not(tmp_path):
    first = write_kubeconfig(
        tmp_path / "1", user={"token": "one"}, cluster={"server": "https://one"}
    )
    second = write_kubeconfig(
        tmp_path / "2", user={"token": "two"}, cluster={"server": "https://two"}
    )
    config = load_kubeconfig([tmp_path / "missing", first, second])
    assert config.server == "https://one"


@pytest.mark.parametrize(
    ("breakage", "want"),
    [
        ({"current": "elsewhere"}, "contexts has no 'elsewhere'"),
        ({"current": ""}, "no current-context"),
        ({"cluster": {"server": ""}}, "has no server"),
        ({"user": {"client-certificate": "nowhere.pem"}}, "client-certificate nowhere.pem"),
        ({"user": {"client-key-data": "§"}}, "client-key-data is no base64"),
        ({"user": {"exec": {"command": "/nowhere/plugin"}}}, "credential plugin /nowhere/plugin"),
    ],
)
def test_broken_kubeconfig_says_what_is_wrong(tmp_path, breakage, want):
    path = write_kubeconfig(tmp_path / "config", **{"user": {}, **breakage})
    with pytest.raises(ConfigError, match=want):
        load_kubeconfig([path])


@pytest.mark.parametrize("text", ["- a list", "{", ""])
def test_file_that_is_no_kubeconfig(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config"):
        load_kubeconfig([path])


async def test_plugin_is_asked_again_only_after_its_token_expired(tmp_path):
    spec = plugin(tmp_path, {"token": "t", "expirationTimestamp": "2100-01-01T00:00:00Z"})
    config = load_kubeconfig([write_kubeconfig(tmp_path / "config", user={"exec": spec})])
    assert isinstance(config.tokens, ExecToken)
    asked = len((tmp_path / "calls").read_text())
    assert [await config.tokens.read() for _ in range(3)] == ["t", "t", "t"]
    assert len((tmp_path / "calls").read_text()) == asked + 1
    config.tokens.invalidate()
    await config.tokens.read()
    assert len((tmp_path / "calls").read_text()) == asked + 2


async def test_plugin_token_that_is_about_to_expire_is_renewed_each_time(tmp_path):
    spec = plugin(tmp_path, {"token": "t", "expirationTimestamp": "2001-01-01T00:00:00Z"})
    source = ExecToken(spec)
    await source.read()
    await source.read()
    assert (tmp_path / "calls").read_text() == "xx"


def test_plugin_may_give_a_client_certificate(tmp_path):
    spec = plugin(tmp_path, {"clientCertificateData": "CERT", "clientKeyData": "KEY"})
    config = load_kubeconfig([write_kubeconfig(tmp_path / "config", user={"exec": spec})])
    assert (config.certificate, config.private_key) == (b"CERT", b"KEY")
    assert isinstance(config.tokens, StaticToken)


async def test_rotated_token_file_is_read_again(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(configuration.time, "monotonic", lambda: clock[0])
    path = tmp_path / "token"
    path.write_text("old\n")
    source = FileToken(path)
    assert await source.read() == "old"
    path.write_text("new\n")
    assert await source.read() == "old"
    clock[0] += 61
    assert await source.read() == "new"
    path.write_text("newest\n")
    source.invalidate()
    assert await source.read() == "newest"


async def test_missing_token_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path / "token")):
        await FileToken(tmp_path / "token").read()


async def test_pod_uses_its_service_account(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("mounted")
    (tmp_path / "namespace").write_text("modelwright-system")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    config = load_in_cluster(tmp_path)
    assert (config.server, config.namespace) == ("https://[fd00::1]:443", "modelwright-system")
    assert await config.tokens.read() == "mounted"
    assert config.ca_file == tmp_path / "ca.crt"


def test_pod_without_a_token_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigError, match="no service account token"):
        load_in_cluster(tmp_path)


def test_kubeconfig_of_the_environment_comes_before_the_pod(tmp_path, monkeypatch):
    path = write_kubeconfig(tmp_path / "config", user={})
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.9")
    assert load_config().server == "https://10.0.0.1:6443"


def test_nothing_found_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="kubeconfig"):
        load_config()


def test_insecure_cluster_is_not_verified(tmp_path):
    path = write_kubeconfig(tmp_path / "c", user={}, cluster={"insecure-skip-tls-verify": True})
    assert load_kubeconfig([path]).build_ssl_context().verify_mode is ssl.CERT_NONE


def test_client_certificate_that_is_none_is_told():
    config = configuration.ClusterConfig("https://x", certificate=b"x", private_key=b"y")
    with pytest.raises(ConfigError, match="client certificate"):
        config.build_ssl_context()
