"""Data sets as torchvision downloads and keeps them."""

import errno
import hashlib
import http.server
import io
import os
import pickle
import socket
import ssl
import struct
import tarfile
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from image_folders import make_folder, read_source

from fspkd.config.data import Torchvision
from fspkd.data import sources
from fspkd.data.sets import DataSet
from fspkd.errors import UserError


@pytest.fixture
def cifar_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A web server with an archive in CIFAR-10's layout, which torchvision takes for the original."""
    from torchvision.datasets import CIFAR10

    draw, buffer, sums = np.random.default_rng(0), io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, content: dict) -> None:
            data = pickle.dumps(content)
            sums[name] = hashlib.md5(data).hexdigest()
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        for name, count in (("data_batch_1", 20), ("test_batch", 10)):
            pixels = draw.integers(0, 256, (count, 3072), dtype=np.uint8)
            add(name, {"data": pixels, "labels": [i % 10 for i in range(count)]})
        add("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    content = buffer.getvalue()
    state = {"requests": 0, "failures": 2}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["requests"] += 1
            broken = state["requests"] <= state["failures"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if broken else content)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    yield state
    server.shutdown()


def test_broken_download_is_retried_and_a_whole_one_never_repeated(cifar_server: dict) -> None:
    data = DataSet(Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10"), None)
    packed = read_source(data)
    assert packed.images["train"].shape == (20, 32, 32, 3)
    assert packed.classes[3] == "class 3"
    requests = cifar_server["requests"]
    assert requests > cifar_server["failures"]
    assert read_source(data).sha256 == packed.sha256
    assert cifar_server["requests"] == requests
    # The folder that torchvision leaves is enough for a machine without a network.
    elsewhere = DataSet(data.settings, str(sources.DOWNLOADS))
    assert read_source(elsewhere).sha256 == packed.sha256
    make_folder(sources.DOWNLOADS / "flowers")  # another data set beside it
    assert read_source(elsewhere).sha256 == packed.sha256
    batch = sources.DOWNLOADS / "cifar-10-batches-py/test_batch"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1])
    with pytest.raises(UserError, match="holds neither train/ and test/ nor a complete CIFAR10"):
        read_source(elsewhere)
    batch.write_bytes(content)
    assert cifar_server["requests"] == requests


def test_download_that_never_works_ends_with_advice(cifar_server: dict) -> None:
    cifar_server["failures"] = 1000
    with pytest.raises(UserError, match=r"the download failed 4 times.*FSPKD_DATA_CIFAR10"):
        read_source(DataSet(Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10"), None))


def test_download_that_ends_early_is_tried_again(cifar_server: dict) -> None:
    from torchvision.datasets import CIFAR10

    def download() -> bytes:
        with urllib.request.urlopen(CIFAR10.url) as answer:
            return answer.read()

    assert hashlib.md5(sources.with_retries(download, "PLACE")).hexdigest() == CIFAR10.tgz_md5
    assert cifar_server["requests"] == 3
    cifar_server["failures"] = 1000
    with pytest.raises(UserError, match=r"the download failed 4 times: IncompleteRead.* set PLACE to a copy"):
        sources.with_retries(download, "PLACE")


def test_one_process_at_a_time_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "downloads")
    lock = FileLock(tmp_path / "downloads/lock", timeout=0)

    def download() -> None:
        with pytest.raises(Timeout):
            lock.acquire()

    sources.with_retries(download, "PLACE")
    with lock:  # it is free again
        pass


@pytest.mark.parametrize(("number", "advice"), [(errno.EACCES, "Make it readable"), (errno.ENOSPC, "Free some space")])
def test_downloads_that_cannot_be_written_are_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path)

    def download() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=rf"cannot be written: {os.strerror(number)}. {advice}"):
        sources.with_retries(download, "PLACE")


@pytest.mark.parametrize(
    "error", [ssl.SSLError(5, "unexpected end"), OSError(errno.ENETUNREACH, "unreachable"), TimeoutError("no data")]
)
def test_what_the_network_does_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path)
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    attempts = []

    def download() -> None:
        assert socket.getdefaulttimeout()
        attempts.append(1)
        raise error

    with pytest.raises(UserError, match=r"the download failed 4 times: .* set PLACE to a copy"):
        sources.with_retries(download, "PLACE")
    assert len(attempts) == 4


def test_mnist_and_svhn_as_torchvision_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the data sets' own formats: grey 28x28, and colour with the image index last."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    draw = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = draw.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, 20, 28, 28) + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, 20) + bytes(i % 10 for i in range(20))
        )
    mnist = Torchvision(name="mnist", source="torchvision", dataset="MNIST")
    data = read_source(DataSet(mnist, str(tmp_path)))
    assert data.images["train"].shape == (20, 28, 28, 1)
    assert sorted(map(bytes, data.images["test"])) == sorted(map(bytes, digits))
    assert data.classes == [str(i) for i in range(10)]
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path)
    images = raw / "train-images-idx3-ubyte"
    content = images.read_bytes()
    for damaged in (content[:1000], b"", content[:2] + bytes([10]) + content[3:], bytes(4) + content[4:]):
        images.write_bytes(damaged)
        for place in (None, str(tmp_path)):
            with pytest.raises(UserError, match=r"/MNIST: its files are damaged \(.+\). Delete that folder"):
                read_source(DataSet(mnist, place))
    images.write_bytes(struct.pack(">4i", 0x803, 19, 28, 28) + digits[1:].tobytes())
    with pytest.raises(UserError, match=r"MNIST has 19 images there and 20 labels \(train\)"):
        read_source(DataSet(mnist, str(tmp_path)))

    house_numbers = draw.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    entries = {}
    for split in ("train", "test", "extra"):
        pixels = house_numbers ^ 255 if split == "extra" else house_numbers
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, 21)[:, None] % 10 + 1})
        entries[split] = [
            "",
            f"{split}_32x32.mat",
            hashlib.md5((tmp_path / f"{split}_32x32.mat").read_bytes()).hexdigest(),
        ]
    monkeypatch.setattr(SVHN, "split_list", entries)
    data = read_source(DataSet(Torchvision(name="svhn", source="torchvision", dataset="SVHN"), str(tmp_path)))
    originals = house_numbers.transpose(3, 0, 1, 2)
    assert sorted(map(bytes, data.images["train"])) == sorted(map(bytes, originals))
    assert set(data.labels["train"]) == set(range(10))  # the file writes 10 for 0
    smaller = Torchvision(name="svhn", source="torchvision", dataset="SVHN", size=16)
    assert read_source(DataSet(smaller, str(tmp_path))).images["test"].shape == (20, 16, 16, 3)
    extra = DataSet(Torchvision(name="svhn", source="torchvision", dataset="SVHN", extra=True), str(tmp_path))
    data = read_source(extra)
    assert sorted(map(bytes, data.images["train"])) == sorted(map(bytes, [*originals, *(originals ^ 255)]))
    assert (len(data.labels["train"]), len(data.labels["test"])) == (40, 20)
    make_folder(tmp_path / "images")
    with pytest.raises(UserError, match=r"FSPKD_DATA_SVHN = .*extra = True, but folders .* do not show which"):
        read_source(DataSet(extra.settings, str(tmp_path / "images")))
