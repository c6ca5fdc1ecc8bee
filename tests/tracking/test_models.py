"""Nets as MLflow models."""

import numpy as np
import pytest
import torch
from conftest import Project
from pydantic import TypeAdapter
from sent import held, local, send

from fspkd.data.packed import load_packed
from fspkd.models import build
from fspkd.networks import AnyNetwork
from fspkd.runs.folder import ImageFacts

pytestmark = pytest.mark.usefixtures("store")


OTHERS = {  # nets with dropout, and the shapes of their images
    "maxout": (
        {
            "architecture": "maxout",
            "layers": [{"conv": 4, "kernel": 3, "pieces": 3, "pool": 3, "stride": 2}, {"full": 5}],
            "init": "unit",
            "keep": {"image": 0.8, "hidden": 0.5},
        },
        (1, 8, 8),
    ),
    "squeezenet": ({"architecture": "torchvision", "model": "squeezenet1_1"}, (1, 32, 32)),
}


def test_models_need_pytorch_alone_and_predict_what_their_nets_do(made: Project) -> None:
    sync = send(made)
    run = made.plan().net("student/2")
    tracked = held(sync.store.client)["Student*, net 2"]
    (output,) = tracked.outputs.model_outputs
    model = sync.store.client.get_logged_model(output.model_id)
    assert {metric.key for metric in model.metrics} == {"test_accuracy", "test_loss"}
    images = load_packed(run.data.path).images["test"].transpose(0, 3, 1, 2) / np.float32(255)
    with np.load(run.folder.predictions) as file:
        models = {output.model_id: (images, file["logits"])}
    for name, (settings, shape) in OTHERS.items():
        net = build(TypeAdapter(AnyNetwork).validate_python(settings), shape, 10, torch.Generator().manual_seed(1))
        sync.store.open(name, name, {}, None, None)
        model_id = sync.store.model(name, name, net.train(), ImageFacts(shape=shape, classes=tuple("abcdefghij")), 1)
        images = np.random.default_rng(1).random((5, *shape), np.float32)
        with torch.no_grad():
            models[model_id] = images, net.eval()(torch.from_numpy(images)).numpy()
    for model_id, (images, _) in models.items():
        np.save(f"{model_id}.npy", images)
    code = """
import sys, mlflow.pytorch, numpy, torch
sys.modules["fspkd"] = None
for model in sys.argv[1:]:
    net = mlflow.pytorch.load_model(f"models:/{model}")
    numpy.save(f"{model}.logits.npy", net(torch.from_numpy(numpy.load(f"{model}.npy"))).detach())
served = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}")
assert served.metadata.metadata == {"shape": [1, 8, 8], "classes": list("0123456789"), "preprocess": None}
assert served.input_example.shape == (2, 1, 8, 8)
assert served.predict(served.input_example).shape == (2, 10)
"""
    loaded = made.run("python", "-c", code, *models, MLFLOW_TRACKING_URI=local(made))
    assert loaded.returncode == 0, loaded.stderr
    for model_id, (_, logits) in models.items():
        np.testing.assert_allclose(np.load(f"{model_id}.logits.npy"), logits, atol=1e-5)
        assert logits.std() > 0.01  # not all the same
