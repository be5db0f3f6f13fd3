"""Published files into a cache, from a server of our own on this machine: resumed, checked, whole or not there."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import UnknownNameError, WeightsError
from resnets.weights import hub
from resnets.weights import registry as named
from resnets.weights.create import create_model
from resnets.weights.open import load_bundle
from resnets.weights.registry import NAMED_WEIGHTS, NamedWeights, best_weights, get_weights
from resnets.weights.resolve import resolve
from tests.weights.networks import create_network, randomized

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; `cut` breaks off after so many bytes, once; `status` is sent alone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.status, self.ranges = CONTENT, 0, 200, True
        self.asked: list[str] = []

    def url(self, name: str = "w-00000000.pth") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range", "")
        server.asked.append(span)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(span[6:-1]) if span and server.ranges else 0
        body = server.content[start:]
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if server.cut:
            body, server.cut = body[: server.cut], 0
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.delenv("RESNETS_OFFLINE")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(hub, "TIMEOUT", 5.0)
    served = Server()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join(5)


def test_a_file_is_fetched_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    path = hub.fetch(server.url(), HASH[:8])
    assert path.read_bytes() == CONTENT
    assert path == hub.cached(server.url()) == hub.cache_folder() / "w-00000000.pth"
    assert hub.fetch(server.url(), HASH) == path
    assert server.asked == [""]
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.lock", f"{path.name}.ok"]
    assert capsys.readouterr() == ("", "downloading w-00000000.pth: 1.0 of 1.0 MB\n")


def test_a_broken_download_resumes(server: Server) -> None:
    server.cut = 300_000
    assert hub.fetch(server.url(), HASH).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-"]


def test_a_partial_file_of_an_earlier_process_is_resumed(server: Server) -> None:
    part = hub.cached(server.url()).with_name("w-00000000.pth.part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    assert hub.fetch(server.url(), HASH).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]
    assert not part.exists()


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"more"])
def test_a_partial_file_of_another_file_is_downloaded_again(server: Server, left: bytes) -> None:
    part = hub.cached(server.url()).with_name("w-00000000.pth.part")
    part.parent.mkdir()
    part.write_bytes(left)
    assert hub.fetch(server.url(), HASH).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(left)}-", ""]


def test_a_server_without_ranges(server: Server) -> None:
    server.ranges, server.cut = False, 1000
    assert hub.fetch(server.url(), HASH).read_bytes() == CONTENT


def test_a_wrong_hash_keeps_nothing(server: Server) -> None:
    with pytest.raises(WeightsError, match=r"must have a SHA-256 of 12345678.*gave another; nothing was kept"):
        hub.fetch(server.url(), "12345678")
    assert not [entry for entry in hub.cache_folder().iterdir() if entry.suffix != ".lock"]


def test_not_found(server: Server) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match=r"failed: 404 Not Found; .*put the file at .*w-00000000\.pth by hand"):
        hub.fetch(server.url(), HASH)
    assert len(server.asked) == 1


def test_a_server_error_is_retried(server: Server) -> None:
    server.status = 503
    with pytest.raises(WeightsError, match="failed: 503"):
        hub.fetch(server.url(), HASH)
    assert len(server.asked) == hub.TRIES


def test_offline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/w.pth"  # nobody listens there
    with pytest.raises(WeightsError) as caught:
        hub.fetch(url, HASH)
    assert url in str(caught.value)
    assert f"put the file at {hub.cache_folder() / 'w.pth'} by hand" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    with pytest.raises(WeightsError, match=rf"RESNETS_OFFLINE is set.*download {re.escape(server.url())}"):
        hub.fetch(server.url(), HASH)
    assert server.asked == []


def test_a_file_put_there_by_hand(server: Server) -> None:
    path = hub.cached(server.url())
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert hub.fetch(server.url(), HASH) == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="has another; delete it"):
        hub.fetch(server.url(), HASH)
    assert server.asked == []


def test_two_processes_fetch_once(server: Server) -> None:
    code = f"from resnets.weights.hub import fetch; fetch({server.url()!r}, {HASH!r})"
    running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0], [process.stderr.read() for process in running]  # type: ignore[union-attr]
    for process in running:
        process.stderr.close()  # type: ignore[union-attr]
    assert server.asked == [""]


# The table


def test_registry() -> None:
    for name, weights in NAMED_WEIGHTS.items():
        assert weights.variant in VARIANTS, name
        assert weights.name == name
        assert re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256)
        assert weights.sha256 in weights.url
        assert weights.url.startswith("https://")
        assert weights.top1 is None or 65 < weights.top1 < 86
    assert len({weights.url for weights in NAMED_WEIGHTS.values()}) == len(NAMED_WEIGHTS)
    best = best_weights("resnet50")
    assert best is not None
    assert best.name == "resnet50.tv2_in1k"
    assert best_weights("resnet20_cifar") is None
    with pytest.raises(UnknownNameError, match=r"did you mean resnet50\.tv_in1k"):
        get_weights("resnet50.tv_in1")


def test_named_weights_are_models(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resnets")
    source = randomized(get_config("resnet18", num_classes=10))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    server.content = (tmp_path / "w.pth").read_bytes()
    tested = NamedWeights(
        name="resnet18.test_in10", url=server.url("resnet18-test.pth"), license="MIT", top1=70.0,
        sha256=hashlib.sha256(server.content).hexdigest(), preprocessing=named.STRIKES,
    )  # fmt: skip
    only = {tested.name: tested}
    for module in ("registry", "resolve"):
        monkeypatch.setattr(f"resnets.weights.{module}.NAMED_WEIGHTS", only)
    assert resolve("resnet18.test_in10").kind == "named"
    assert server.asked == []
    bundle = load_bundle("resnet18.test_in10")
    assert (bundle.name, bundle.license, bundle.preprocessing) == ("resnet18", "MIT", named.STRIKES)
    assert bundle.provenance["weights"] == "resnet18.test_in10"
    assert bundle.provenance["metrics"] == {"imagenet top-1": 0.7}
    state = source.state_dict()
    for reference in ("resnet18.test_in10", True):
        model = create_model("resnet18", pretrained=reference)
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert "pretrained=True: resnet18.test_in10 (top-1 70.0 %, MIT)" in caplog.text
    assert create_network("resnet18", pretrained=True, num_classes=3, in_chans=1).config.in_chans == 1
    assert len(server.asked) == 1
    with pytest.raises(UnknownNameError, match=r"did you mean resnet18\.test_in10"):
        resolve("resnet18.test_in1")
